//! Keeps the source in order: which file may use which, which files may have unsafe code, how long
//! a function is.
//!
//! Reads the source as text, with comments, strings and test modules blanked out if only code
//! counts.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The modules, bottom to top. A file may use those of lower rows only, and none of its own row. A
/// module without a row belongs to the row of its parent.
const LAYERS: [&[&str]; 63] = [
    &["error", "sync"],
    &["fuzzing", "codec"],
    &["format"],
    &["hash", "os::words", "os::clock"],
    &["os::random"],
    &["lock"],
    &["os::boot_id", "os::burst", "os::files"],
    &["os::file_names", "os::mapped_file"],
    &["os::mmap", "os::reflink"],
    &["index::redo", "index::group", "index::attempt"],
    &["index::header"],
    &["index::region"],
    &["index::table", "index::roster", "heap"],
    &[
        "engine::version",
        "engine::progress",
        "engine::clean::background",
        "engine::removals",
    ],
    &["engine::entry", "engine::options"],
    &["engine::file_identity"],
    &[
        "engine::generation",
        "engine::file_header",
        "engine::locking",
    ],
    &[
        "engine::open",
        "engine::header_check",
        "engine::statistics",
        "engine::read::redo_copy",
    ],
    &["engine::segment_numbers", "engine::heap_presence"],
    &[
        "engine::staging",
        "engine::clean::state",
        "engine::write::cache_words",
    ],
    &[
        "engine::create",
        "engine::clean::batch",
        "engine::clean::refusal",
        "engine::clean::retention",
        "engine::read::expected_count",
    ],
    &["engine::write::mutator"],
    &[
        "engine::write::heap_end",
        "engine::write::publish",
        "engine::write::cache_words",
        "engine::write::durability",
    ],
    &[
        "engine::write::split",
        "engine::write::in_place",
        "engine::clean::reclaim",
    ],
    &["engine::write::put", "engine::clean::validity"],
    &["engine::clean::bound", "engine::clean::expire"],
    &["engine::clean::evacuate", "engine::recovery::in_flight"],
    &[
        "engine::recovery::losses",
        "engine::recovery::stale_segments",
    ],
    &["engine::copy_up"],
    &["engine::handle"],
    &["engine::read::validate"],
    &[
        "engine::read::lookup",
        "engine::read::part",
        "engine::read::upcoming",
    ],
    &["engine::read::heap_walk"],
    &["engine::ids"],
    &["engine::write::limits"],
    &["engine::switch"],
    &["engine::recovery::from_heap"],
    &["engine::write::session"],
    &["engine::clean::eviction", "engine::write::clear"],
    &["engine::clean::policy"],
    &[
        "engine::write::writer",
        "engine::read::cursor",
        "engine::stats",
        "engine::verify::checks",
        "engine::read::value_ref",
    ],
    &["engine::verify", "engine::read::iter"],
    &[
        "engine::recovery::repair",
        "engine::read::sample",
        "engine::backup",
    ],
    &["engine::write", "engine::clean", "engine::recovery"],
    &["engine"],
    &["mmap_cache"],
    &["cache::settings", "cache::statistics"],
    &["cache::groups", "cache::insert"],
    &["cache::deadlines"],
    &["cache::found"],
    &[
        "cache::entry",
        "cache::removal",
        "cache::counter",
        "cache::obtained",
        "cache::flights",
        "cache::key_lock",
    ],
    &["cache::touch"],
    &["cache::compute_options"],
    &["cache::usability"],
    &["cache::compute"],
    &["cache"],
    &["labels::id"],
    &["labels::iter"],
    &["labels"],
    &["intern"],
    &["dict"],
    &["inspect"],
    &["os", "index"],
];

/// A file, what it uses against the order, and why it may.
const UPWARD: [(&str, &str, &str); 1] = [(
    "engine::options",
    "mmap_cache",
    "`Options::open` is where users look for the way in, so it names the handle that it returns",
)];

/// The files that may name atomics: all others take them from `sync`.
const ATOMIC_FILES: [&str; 10] = [
    "src/sync.rs",
    "src/sync/count.rs",
    "src/sync/loom_model.rs",
    "src/lock/ofd.rs",
    // Locks between the threads of one process, which no model includes.
    "src/lock/fork.rs",
    "src/lock/mutex_state.rs",
    "src/lock/futex.rs",
    "src/lock/process_fence.rs",
    "src/lock/threads.rs",
    // In tests only.
    "src/lock/hazard.rs",
];
/// The files that may have unsafe code, and how often each has the word.
const UNSAFE_FILES: [(&str, usize); 10] = [
    ("src/os/mmap.rs", 13),
    ("src/os/mapped_file/cow.rs", 1),
    ("src/lock/ofd.rs", 3),
    ("src/lock/futex.rs", 1),
    // Promises to `lock_api`: four traits, three ways to release a lock.
    ("src/lock/mutex.rs", 7),
    ("src/lock/liveness.rs", 1),
    ("src/engine/read/value_ref.rs", 5),
    ("src/lock/hazard.rs", 1),
    ("src/lock/process_fence.rs", 1),
    // One function, which passes its contract on to the caller.
    ("src/mmap_cache.rs", 2),
];
const LONGEST_FUNCTION: usize = 70;

/// A source file.
struct Source {
    /// Relative to the manifest's directory, with slashes.
    path: String,
    text: String,
    /// The same with comments and strings blanked out, up to the test module.
    code: String,
}

impl Source {
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }

    /// Returns the number of the line with a byte.
    fn line_at(&self, at: usize) -> usize {
        self.text[..at].matches('\n').count() + 1
    }

    fn is_test(&self) -> bool {
        self.path.starts_with("tests/")
            || self.path.contains("/tests/")
            || self.path.ends_with("/tests.rs")
    }

    /// Returns the path of the module; `None` for the crate's root, programs and tests.
    fn module(&self) -> Option<String> {
        let inside = self.path.strip_prefix("src/")?.strip_suffix(".rs")?;
        if self.is_test() || inside == "lib" || inside.starts_with("bin/") {
            return None;
        }
        Some(inside.replace('/', "::"))
    }
}

fn sources(folders: &[&str]) -> Vec<Source> {
    let mut paths = Vec::new();
    for folder in folders {
        collect(&Path::new(ROOT).join(folder), &mut paths);
    }
    paths.sort();
    assert!(!paths.is_empty());
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let path = path
                .strip_prefix(ROOT)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            let code = code_of(&text);
            Source { path, text, code }
        })
        .collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            // Build results are not our source.
            if !path.ends_with("target") {
                collect(&path, paths);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

/// Blanks out everything but code, and the test module at a file's end.
fn code_of(text: &str) -> String {
    let mut code = text.as_bytes().to_vec();
    let mut at = 0;
    while at < code.len() {
        let end = at + token_that_is_no_code(&text.as_bytes()[at..]);
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    let mut code = String::from_utf8(code).unwrap();
    if let Some(tests) = code.find("#[cfg(test)]\nmod tests {") {
        code.truncate(tests);
    }
    code
}

/// Returns the length of the comment, string or character at the start of `rest`; 0 if there is
/// none.
fn token_that_is_no_code(rest: &[u8]) -> usize {
    let until = |end: &[u8], from: usize| {
        let found = rest[from..]
            .windows(end.len())
            .position(|window| window == end);
        found.map_or(rest.len(), |at| from + at + end.len())
    };
    match rest {
        // Up to the line's end, which stays.
        [b'/', b'/', ..] => rest
            .iter()
            .position(|&byte| byte == b'\n')
            .unwrap_or(rest.len()),
        [b'/', b'*', ..] => until(b"*/", 2),
        [b'r', b'"', ..] => until(b"\"", 2),
        [b'r', b'#', b'"', ..] => until(b"\"#", 3),
        [b'"', ..] => quoted(rest, b'"'),
        [b'\'', b'\\', ..] => quoted(rest, b'\''),
        [b'\'', _, b'\'', ..] => 3,
        _ => 0,
    }
}

/// Returns the length of a literal that ends at the next unescaped quote.
fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// Returns where a whole word occurs in code.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let inside =
        |byte: Option<&u8>| byte.is_some_and(|&byte| byte == b'_' || byte.is_ascii_alphanumeric());
    let bytes = code.as_bytes();
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |&at| {
            !(inside(at.checked_sub(1).and_then(|before| bytes.get(before)))
                || inside(bytes.get(at + word.len())))
        })
}

/// Returns the paths after `crate::`: one, or each leaf of a tree in braces.
fn paths_after(code: &str) -> Vec<String> {
    let end = code
        .find(|c: char| c != '_' && c != ':' && !c.is_ascii_alphanumeric())
        .unwrap_or(code.len());
    let (path, rest) = code.split_at(end);
    let Some(group) = rest.strip_prefix('{') else {
        return vec![path.trim_end_matches("::").to_owned()];
    };
    let (mut paths, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, byte) in group.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth > 0 => depth -= 1,
            b',' | b'}' if depth == 0 => {
                let member = group[start..at].trim_start();
                if !member.is_empty() {
                    let within = paths_after(member).into_iter();
                    paths.extend(within.map(|name| format!("{path}{name}")));
                }
                start = at + 1;
                if byte == b'}' {
                    break;
                }
            }
            _ => {}
        }
    }
    paths
}

fn leading_name(text: &str) -> &str {
    let end = text
        .find(|c: char| c != '_' && !c.is_ascii_alphanumeric())
        .unwrap_or(text.len());
    &text[..end]
}

/// Returns the row of a module, and the name in that row: its own, or a parent's.
fn layer(module: &str) -> Option<(usize, &'static str)> {
    let rows = || LAYERS.iter().enumerate();
    let named = |name: &str| {
        rows().find_map(|(at, row)| row.iter().find(|&&own| own == name).map(|own| (at, *own)))
    };
    let mut name = module;
    loop {
        if let Some(found) = named(name) {
            return Some(found);
        }
        name = name.rsplit_once("::")?.0;
    }
}

/// Returns the modules that a file uses, and where.
fn named_modules(source: &Source) -> Vec<(usize, &'static str)> {
    let mut named = Vec::new();
    for at in words(&source.code, "crate") {
        let Some(rest) = source.code[at + "crate".len()..].strip_prefix("::") else {
            continue;
        };
        for path in paths_after(rest) {
            named.extend(layer(&path).map(|(_, name)| (at, name)));
        }
    }
    named
}

fn complain(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn modules_name_only_lower_layers() {
    let mut complaints = Vec::new();
    for source in sources(&["src"]) {
        let Some(module) = source.module() else {
            continue;
        };
        let Some(own) = layer(&module) else {
            complaints.push(format!(
                "{}: `{module}` has no layer; give it one in tests/tidy.rs",
                source.path
            ));
            continue;
        };
        let (own, module) = own;
        for (at, name) in named_modules(&source) {
            let allowed = UPWARD
                .iter()
                .any(|&(from, to, _)| from == module && to == name);
            let named = layer(name).map(|(row, _)| row);
            if !allowed && name != module && named.is_none_or(|named| named >= own) {
                let line = source.line_at(at);
                complaints.push(format!(
                    "{}:{line}: `{module}` names `{name}`, which is not below it",
                    source.path
                ));
            }
        }
    }
    complain(&complaints);
}

#[test]
fn layer_exceptions_are_all_used() {
    let all = sources(&["src"]);
    for (from, to, _reason) in UPWARD {
        let used = all.iter().any(|source| {
            source.module().as_deref() == Some(from)
                && named_modules(source).iter().any(|&(_, name)| name == to)
        });
        assert!(used, "`{from}` does not name `{to}`");
    }
}

#[test]
fn files_begin_with_their_purpose() {
    for source in sources(&[
        "src",
        "tests",
        "benches",
        "examples",
        "xtask/src",
        "fuzz/src",
        "fuzz/fuzz_targets",
    ]) {
        assert!(
            source.text.starts_with("//! "),
            "{} does not open with `//!`",
            source.path
        );
    }
}

#[test]
fn atomics_come_from_one_file() {
    let mut complaints = Vec::new();
    for source in sources(&["src"]) {
        // A program's own threads share nothing with other processes, and loom does not model them.
        let allowed =
            ATOMIC_FILES.contains(&source.path.as_str()) || source.path.starts_with("src/bin/");
        if let Some(at) = words(&source.code, "atomic").next().filter(|_| !allowed) {
            let line = source.line_at(at);
            complaints.push(format!(
                "{}:{line}: take atomics from `crate::sync`",
                source.path
            ));
        }
    }
    complain(&complaints);
}

/// Modules that may do what others may not, each with the reason.
type Exceptions = &'static [(&'static str, &'static str)];

/// The calls that store header words: the file that owns the words, and the other files that may
/// make the call, each with the reason.
const HEADER_STORES: [(&str, &str, Exceptions); 17] = [
    ("heap_end_words(", "engine::write::heap_end", &[]),
    ("entry_words(", "engine::write::publish", &[]),
    ("clean_words(", "engine::clean::state", &[]),
    ("durability_words(", "engine::write::durability", &[]),
    // The redo copy.
    (".write_copy(", "engine::write::in_place", &[]),
    ("session_words(", "engine::write::session", &[]),
    ("cache_words(", "engine::write::cache_words", &[]),
    (
        "new_file_words(",
        "engine::create",
        &[("engine::switch", "the next generation continues the totals")],
    ),
    // Both bits of the state word: the depth by the table, the mark by the switch.
    ("set_poll(", "index::table", &[]),
    ("set_superseded(", "engine::switch", &[]),
    ("set_waiting(", "engine::switch", &[]),
    (
        "set_renames_pending(",
        "engine::staging",
        &[(
            "engine::create",
            "the other files of a new cache get their names after the index",
        )],
    ),
    ("set_replaced_extent(", "engine::segment_numbers", &[]),
    (
        "set_heap_home(",
        "engine::heap_presence",
        &[("engine::create", "a new index says where its heap is")],
    ),
    // The last version's word, in a cache with ids.
    ("set_reserved_ids(", "engine::ids", &[]),
    ("set_next_region_tag(", "engine::write::split", &[]),
    (".note_visit(version::now", "engine::generation", &[]),
];

/// Each word of the header is stored from one file, its owner.
#[test]
fn header_words_have_one_owner() {
    let mut complaints = Vec::new();
    let all = sources(&["src"]);
    for (call, owner, others) in HEADER_STORES {
        for source in &all {
            let module = source.module().unwrap_or_default();
            if source.is_test() || module == "index::header" || module == owner {
                continue;
            }
            let found = source.code.find(call);
            let allowed = others.iter().any(|&(other, _reason)| other == module);
            match found {
                Some(at) if !allowed => {
                    let line = source.line_at(at);
                    complaints.push(format!(
                        "{}:{line}: `{call}` belongs to `{owner}`",
                        source.path
                    ));
                }
                None if allowed => complaints.push(format!("`{module}` does not call `{call}`")),
                _ => {}
            }
        }
    }
    complain(&complaints);
}

/// Types with an inherent `impl` outside the file that defines them: the type, the file, and the
/// reason. A method call crosses layers unseen, so that the list may only become shorter.
const IMPLS_ELSEWHERE: [(&str, &str, &str); 5] = [
    ("CachedDict", "src/dict/cached.rs", ALIAS),
    ("LocalDict", "src/dict/local.rs", ALIAS),
    ("LocalSession", "src/dict/local/memory.rs", TO_MOVE),
    ("MmapDict", "src/dict/mmap.rs", ALIAS),
    ("Pool", "src/intern/pool/label.rs", TO_MOVE),
];
const ALIAS: &str = "an alias of `Dict` over one store, beside that store";
const TO_MOVE: &str = "to be moved to the type, or made a function";

/// Returns the types whose inherent `impl`s a file has, and the types that it defines.
fn impls_and_types(code: &str) -> (Vec<(usize, String)>, Vec<String>) {
    let (mut impls, mut types) = (Vec::new(), Vec::new());
    for (number, line) in (1..).zip(code.lines()) {
        let text = line.trim_start();
        let item = text.trim_start_matches("pub(crate) ");
        let item = item
            .trim_start_matches("pub(super) ")
            .trim_start_matches("pub ");
        for kind in ["struct ", "enum ", "union ", "trait "] {
            if let Some(rest) = item.strip_prefix(kind) {
                types.push(leading_name(rest).to_owned());
            }
        }
        // An item at the top level of the file.
        let Some(rest) = line.strip_prefix("impl") else {
            continue;
        };
        // The parameters of a generic impl, which may nest.
        let mut depth = 0;
        let skip = rest
            .find(|c| {
                depth += i32::from(c == '<') - i32::from(c == '>');
                depth == 0 && c == ' '
            })
            .unwrap_or(0);
        let head = rest[skip..].trim_start();
        if !head.is_empty() && !words(head, "for").any(|_| true) && !rest.starts_with('_') {
            impls.push((number, leading_name(head).to_owned()));
        }
    }
    (impls, types)
}

#[test]
fn inherent_impls_stay_with_types() {
    let mut complaints = Vec::new();
    let mut used = Vec::new();
    for source in sources(&["src"]).iter().filter(|source| !source.is_test()) {
        let (impls, types) = impls_and_types(&source.code);
        for (line, name) in impls {
            if name.is_empty() || types.contains(&name) {
                continue;
            }
            let listed = IMPLS_ELSEWHERE
                .iter()
                .position(|&(own, path, _)| own == name && path == source.path);
            match listed {
                Some(at) => used.push(at),
                None => complaints.push(format!(
                    "{}:{line}: an `impl` of `{name}`, which is defined elsewhere",
                    source.path
                )),
            }
        }
    }
    for (at, (name, path, _reason)) in IMPLS_ELSEWHERE.iter().enumerate() {
        if !used.contains(&at) {
            complaints.push(format!("{path} has no `impl` of `{name}` any more"));
        }
    }
    complain(&complaints);
}

/// Files of the engine that know caches with ids, besides `engine::ids`, each with the reason.
const KNOW_IDS: [(&str, &str); 7] = [
    (
        "engine::generation",
        "`is_numbered` and `variant` read the geometry",
    ),
    (
        "engine::file_identity",
        "the time of the last record, if that is one",
    ),
    (
        "engine::recovery::from_heap",
        "which of two records of a key wins",
    ),
    ("engine::switch", "a copy's last version, or its last id"),
    ("engine::write::limits", "the longest value"),
    ("engine::read::cursor", "reads a record for its id"),
    ("engine::options", "the geometry of a new cache"),
];

#[test]
fn only_listed_files_know_ids() {
    let mut complaints = Vec::new();
    for source in sources(&["src/engine"]) {
        let module = source.module().unwrap_or_default();
        if source.is_test() || module == "engine::ids" {
            continue;
        }
        let marks = ["is_numbered", "Variant", "KeyPolicy"];
        let found = marks
            .iter()
            .find_map(|mark| words(&source.code, mark).next());
        let listed = KNOW_IDS.iter().any(|&(known, _reason)| known == module);
        match found {
            Some(at) if !listed => {
                let line = source.line_at(at);
                complaints.push(format!("{}:{line}: knows of ids", source.path));
            }
            None if listed => complaints.push(format!("`{module}` does not know of ids")),
            _ => {}
        }
    }
    complain(&complaints);
}

/// Invariant L3: files of readers name none of the calls that store header words. A background task
/// gets the words that it may store as `SyncNotes`.
#[test]
fn only_writers_store_header_words() {
    const WITHOUT_LOCK: [&str; 6] = [
        "inspect",
        "engine::read",
        "engine::stats",
        "engine::verify",
        "engine::clean::background",
        "engine::entry",
    ];
    let stores = HEADER_STORES.iter().map(|(call, _, _)| *call);
    let mut complaints = Vec::new();
    let mut looked = 0;
    for source in sources(&["src"]) {
        let module = source.module().unwrap_or_default();
        if !WITHOUT_LOCK.iter().any(|name| module.starts_with(name)) {
            continue;
        }
        looked += 1;
        for call in stores.clone() {
            if let Some(at) = source.code.find(call) {
                let line = source.line_at(at);
                complaints.push(format!(
                    "{}:{line}: `{call}` without the lock (L3)",
                    source.path
                ));
            }
        }
    }
    assert!(looked > WITHOUT_LOCK.len(), "{looked}");
    complain(&complaints);
}

#[test]
fn unsafe_code_stays_in_listed_files() {
    for source in sources(&["src"]).iter().filter(|source| !source.is_test()) {
        let allowed = UNSAFE_FILES
            .iter()
            .find(|(path, _)| *path == source.path)
            .map_or(0, |(_, count)| *count);
        let found: Vec<_> = words(&source.code, "unsafe")
            .map(|at| source.line_at(at))
            .collect();
        assert_eq!(
            found.len(),
            allowed,
            "{}: `unsafe` in the lines {found:?}",
            source.path
        );
    }
}

/// Returns the ids of the invariants that safety notes cite, each with the place of its note.
fn cited() -> (Vec<(String, String)>, Vec<String>) {
    let (mut ids, mut without) = (Vec::new(), Vec::new());
    for source in sources(&["src"]) {
        for (number, line) in source.lines() {
            let Some((_, note)) = line.split_once("// SAFETY:") else {
                continue;
            };
            let place = format!("{}:{number}", source.path);
            let head = note.split([':', '.']).next().unwrap_or(note);
            let of_this: Vec<_> = head
                .split([' ', ',', '(', ')'])
                .filter(|word| is_invariant(word))
                .collect();
            if of_this.is_empty() {
                without.push(format!("{place}: a safety note that cites no invariant"));
            }
            ids.extend(of_this.into_iter().map(|id| (id.to_owned(), place.clone())));
        }
    }
    (ids, without)
}

fn is_invariant(word: &str) -> bool {
    let number = word.strip_prefix(['M', 'L']);
    number.is_some_and(|digits| {
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[test]
fn safety_notes_cite_an_invariant() {
    let (ids, without) = cited();
    assert!(!ids.is_empty());
    complain(&without);
}

#[test]
fn cited_invariants_exist_in_design() {
    let path = Path::new(ROOT).join("docs/design.md");
    let design = fs::read_to_string(path).expect("docs/design.md holds the invariants");
    let defined = |id: &str| {
        design.lines().any(|line| {
            let text = line
                .trim_start()
                .trim_start_matches(['|', '#', '-', '*', ' ']);
            // The bold marks are trimmed with the beginning of the table's row.
            line.contains(&format!("**{id}")) && leading_name(text) == id
        })
    };
    let (ids, _) = cited();
    let missing: Vec<_> = ids
        .iter()
        .filter(|(id, _)| !defined(id))
        .map(|(id, place)| format!("{place}: {id} is not defined in docs/design.md"))
        .collect();
    complain(&missing);
}

/// Returns the functions of a file, from the line with `fn` to the closing brace, as rustfmt lays
/// them out.
fn functions(code: &str) -> Vec<(usize, Range<usize>)> {
    let lines: Vec<&str> = code.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let is_function = words(line, "fn").any(|fn_at| {
            let name = leading_name(line[fn_at + 2..].trim_start());
            !name.is_empty()
                && line[..fn_at]
                    .split_whitespace()
                    .all(|word| !word.contains(['=', ':', '<', '&']))
        });
        if !is_function || line.trim_end().ends_with([';', '}']) {
            continue;
        }
        // A function that a trait only declares ends with its parameters.
        let parameters_end = format!("{})", " ".repeat(indent));
        let head = lines[at..]
            .iter()
            .take_while(|line| !line.trim_end().ends_with('{'));
        if head
            .into_iter()
            .any(|line| line.starts_with(&parameters_end) && line.trim_end().ends_with(';'))
        {
            continue;
        }
        let closing = format!("{}}}", " ".repeat(indent));
        let end = lines[at..]
            .iter()
            .position(|line| line.trim_end() == closing);
        if let Some(end) = end {
            found.push((at + 1, at..at + end + 1));
        }
    }
    found
}

#[test]
fn functions_fit_on_a_screen() {
    let (mut complaints, mut count) = (Vec::new(), 0);
    for source in sources(&["src"]) {
        let code = if source.is_test() {
            &source.text
        } else {
            &source.code
        };
        for (line, range) in functions(code) {
            count += 1;
            if range.len() > LONGEST_FUNCTION {
                complaints.push(format!(
                    "{}:{line}: a function of {} lines",
                    source.path,
                    range.len()
                ));
            }
        }
    }
    assert!(count > 300, "only {count} functions were found");
    complain(&complaints);
}

#[test]
fn scan_sees_only_code() {
    let code = code_of(
        "let a = \"unsafe \\\" crate::x\"; // unsafe\nlet b = 'u'; unsafe {}\n/* unsafe */ r#\"unsafe\"#",
    );
    assert_eq!(words(&code, "unsafe").count(), 1, "{code}");
    assert_eq!(words("unsafe_code not_unsafe", "unsafe").count(), 0);
    assert_eq!(
        paths_after("{map, heap::{Segment, walk}, dir::Names};"),
        ["map", "heap::Segment", "heap::walk", "dir::Names"]
    );
    assert_eq!(paths_after("sync::Word;"), ["sync::Word"]);
    let text = "fn a() {\n    b();\n}\nstruct S;\nimpl S {\n    pub(crate) fn c(\n        x: u8,\n    ) -> u8 {\n        x\n    }\n    fn d();\n}\n";
    let lengths: Vec<_> = functions(text)
        .into_iter()
        .map(|(line, range)| (line, range.len()))
        .collect();
    assert_eq!(lengths, [(1, 3), (6, 5)]);
    let test = "fn a() {}\n#[cfg(test)]\nmod tests {\n    unsafe\n}\n";
    assert_eq!(words(&code_of(test), "unsafe").count(), 0);
}

/// Names in backticks in errors and logs of the library: options, methods and programs that a user
/// will look up.
#[test]
fn messages_name_existing_items() {
    const PROGRAMS: [&str; 4] = [
        "mmapcache-inspect",
        "ulimit",
        "mlockall",
        "vm.max_map_count",
    ];
    let all = sources(&["src"]);
    let public = |name: &str| {
        ["fn", "struct", "enum"].iter().any(|kind| {
            let item = format!("pub {kind} {name}");
            all.iter()
                .any(|source| words(&source.code, &item).next().is_some())
        })
    };
    let (mut named, mut complaints) = (0, Vec::new());
    let library = |source: &&Source| !source.is_test() && !source.path.starts_with("src/bin/");
    for source in all.iter().filter(library) {
        for (number, line) in source.lines() {
            let code = line.trim_start();
            if code.starts_with("//") || code.contains("reason =") || !code.contains('"') {
                continue;
            }
            for name in code.split('`').skip(1).step_by(2) {
                let first = name.split([' ', '(', ':']).next().unwrap_or(name);
                named += 1;
                if !PROGRAMS.contains(&first) && !public(first) {
                    let place = format!("{}:{number}", source.path);
                    complaints.push(format!(
                        "{place}: `{name}` is in a message and nowhere else"
                    ));
                }
            }
        }
    }
    assert!(named > 10, "{named} names in messages");
    complain(&complaints);
}
