//! Checks what the documents say about the repository: the files, functions, tests and links that
//! they name exist, examples are complete, and the documents stay short and plain.
//!
//! Reads Markdown and source as text.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// The documents that name functions as `file:function`.
const WITH_PLACES: [&str; 4] = [
    "docs/design.md",
    "docs/concurrency.md",
    "docs/recovery.md",
    "docs/decisions.md",
];
/// Words that leave the actor out, or that this project once used in its own sense.
const UNCLEAR: [&str; 14] = [
    "whoever",
    "whosoever",
    "nobody",
    "somebody",
    "anybody",
    "everybody",
    "meanwhile",
    "anew",
    "lest",
    "at hand",
    "for good",
    "none where",
    "come by",
    "believed",
];

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap()
}

/// Returns the names of all documents.
fn documents() -> Vec<String> {
    let folder = Path::new(ROOT).join("docs");
    let names = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let mut all: Vec<_> = names
        .map(|name| format!("docs/{}", name.to_str().unwrap()))
        .filter(|name| name.ends_with(".md"))
        .collect();
    all.push("README.md".to_owned());
    all.sort();
    all
}

/// Returns the text without fenced and indented blocks.
fn prose(text: &str) -> String {
    let mut is_code = false;
    let lines = text.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence && !line.starts_with("    ")
    });
    lines.fold(String::new(), |all, line| all + line + "\n")
}

/// Returns the pieces between backticks.
fn spans(text: &str) -> Vec<String> {
    let prose = prose(text);
    prose
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// Whether a text has these words, not only as a part of a longer word.
fn says(text: &str, words: &str) -> bool {
    let is_letter = |c: Option<char>| c.is_some_and(char::is_alphabetic);
    text.match_indices(words).any(|(at, _)| {
        !is_letter(text[..at].chars().next_back())
            && !is_letter(text[at + words.len()..].chars().next())
    })
}

/// Fails with all messages, if there are any.
#[track_caller]
fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// Returns names and contents of the source files below some folders.
fn sources(folders: &[&str]) -> Vec<(String, String)> {
    let mut left: Vec<PathBuf> = folders.iter().map(|at| Path::new(ROOT).join(at)).collect();
    let mut found = Vec::new();
    while let Some(path) = left.pop() {
        // Build results are not our source.
        if path.ends_with("target") {
            continue;
        }
        if path.is_dir() {
            left.extend(
                fs::read_dir(path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let name = path
                .strip_prefix(ROOT)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            found.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

#[test]
fn named_proofs_are_tests() {
    let is_name = |name: &str| {
        let mut bytes = name.bytes();
        bytes.all(|byte| byte == b'_' || byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let all = sources(&["tests", "src/engine"]);
    let (mut count, mut complaints) = (0, Vec::new());
    for span in spans(&read("docs/guarantees.md")) {
        let Some((file, test)) = span.split_once("::") else {
            continue;
        };
        if !is_name(file) || !is_name(test) {
            continue;
        }
        count += 1;
        // A file, or the folder of its name that it was split into.
        let (own, parts) = (format!("/{file}.rs"), format!("/{file}/"));
        let found = all
            .iter()
            .filter(|(path, _)| path.ends_with(&own) || path.contains(&parts))
            .filter_map(|(_, text)| Some(&text[..text.find(&format!("fn {test}()"))?]))
            .any(|before| {
                let attributes = before.rsplit("fn ").next().unwrap();
                attributes.contains("#[test]") && !attributes.contains("#[ignore")
            });
        if !found {
            complaints.push(format!("{file}::{test} is not a test that always runs"));
        }
    }
    assert!(count > 30, "{count}");
    assert_none(&complaints);
}

/// A forge shows lines that rustdoc hides, and a reader copies what is shown.
#[test]
fn examples_are_complete() {
    for (document, least) in [
        ("README.md", 1),
        ("docs/cache.md", 2),
        ("docs/dictionary.md", 2),
    ] {
        let text = read(document);
        let blocks = text.split("\n```rust\n").skip(1);
        let blocks: Vec<_> = blocks
            .map(|rest| rest.split("\n```").next().unwrap())
            .collect();
        assert!(blocks.len() >= least, "{document}");
        for block in blocks {
            let hidden = block
                .lines()
                .find(|line| line.starts_with("# ") || *line == "#");
            assert_eq!(hidden, None, "{document}: {block}");
            assert!(block.contains("fn main()"), "{document}: {block}");
        }
    }
}

#[test]
fn overviews_stay_short() {
    for (document, most) in [
        ("README.md", 1_500),
        ("docs/cache.md", 2_500),
        ("docs/design.md", 4_000),
    ] {
        let words = read(document).split_whitespace().count();
        assert!(
            words <= most,
            "{document} has {words} words, more than {most}"
        );
    }
}

#[test]
fn places_exist() {
    let mut complaints = Vec::new();
    for document in WITH_PLACES {
        let mut count = 0;
        for span in spans(&read(document)) {
            let Some((file, function)) = span.split_once(".rs:") else {
                continue;
            };
            count += 1;
            let path = Path::new(ROOT).join(format!("src/{file}.rs"));
            let text = fs::read_to_string(path).unwrap_or_default();
            if !says(&text, &format!("fn {function}")) {
                complaints.push(format!("{document}: `{span}` does not exist"));
            }
        }
        assert!(count > 0, "{document} names no place");
    }
    assert_none(&complaints);
}

/// Design and recipes name constants of the code, which a maintainer searches for.
#[test]
fn constants_exist() {
    let code: String = sources(&["src"])
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    let design = read("docs/design.md") + &read("CONTRIBUTING.md");
    let is_constant =
        |span: &&String| span.len() > 3 && span.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    let spans = spans(&design);
    let constants: Vec<_> = spans.iter().filter(is_constant).collect();
    assert!(constants.len() >= 3, "{constants:?}");
    let missing = constants.into_iter().filter(|name| {
        let defined = code.contains(&format!("const {name}:"));
        // A call of the system, and a mark of comments, are no constants of this crate.
        !defined && !["FIEMAP", "SAFETY"].contains(&name.as_str())
    });
    let complaints: Vec<_> = missing
        .map(|name| format!("no constant `{name}`"))
        .collect();
    assert_none(&complaints);
}

#[test]
fn paths_exist() {
    let mut complaints = Vec::new();
    for document in documents() {
        for span in spans(&read(&document)) {
            let is_path = ["src/", "tests/", "docs/", "benches/", "fuzz/", ".ci/"]
                .iter()
                .any(|start| span.starts_with(start));
            // Arguments follow a space, and files that a run makes are not committed.
            let path = span.split([' ', ':']).next().unwrap();
            let is_made = ["fuzz/corpus", "fuzz/artifacts", "fuzz/target"]
                .iter()
                .any(|start| path.starts_with(start));
            if is_path && !is_made && !Path::new(ROOT).join(path).exists() {
                complaints.push(format!("{document}: `{path}` does not exist"));
            }
        }
    }
    assert_none(&complaints);
}

/// Returns the anchor that a forge gives a heading.
fn anchor(heading: &str) -> String {
    let lower = heading.trim().to_lowercase();
    let kept = lower
        .chars()
        .filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn links_lead_somewhere() {
    let (mut count, mut complaints) = (0, Vec::new());
    for document in documents() {
        let text = read(&document);
        for rest in prose(&text).split("](").skip(1) {
            let target = rest.split(')').next().unwrap();
            if target.contains("://") {
                continue;
            }
            count += 1;
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let folder = Path::new(ROOT).join(&document).parent().unwrap().to_owned();
            let path = match file {
                "" => Path::new(ROOT).join(&document),
                file => folder.join(file),
            };
            let is_there = match fs::read_to_string(&path) {
                Ok(text) if !heading.is_empty() => prose(&text)
                    .lines()
                    .filter_map(|line| line.strip_prefix('#'))
                    .any(|title| anchor(title.trim_start_matches('#')) == heading),
                _ => path.exists(),
            };
            if !is_there {
                complaints.push(format!("{document}: {target} leads nowhere"));
            }
        }
    }
    assert!(count > 30, "{count}");
    assert_none(&complaints);
}

#[test]
fn headings_differ() {
    for document in documents() {
        let text = prose(&read(&document));
        let headings = text.lines().filter(|line| line.starts_with("## "));
        let anchors: Vec<_> = headings.map(|line| anchor(&line[3..])).collect();
        let different: BTreeSet<_> = anchors.iter().collect();
        assert_eq!(different.len(), anchors.len(), "{document}: {anchors:?}");
    }
}

/// Each invariant has a row, which says where the code depends on it.
#[test]
fn invariants_have_places() {
    let text = read("docs/design.md");
    let rows: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("| **"))
        .collect();
    let mut names = BTreeSet::new();
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, says, place] = cells[..] else {
            panic!("{row}");
        };
        assert!(
            names.insert(name.trim_matches('*').to_owned()),
            "{name} twice"
        );
        assert!(!says.is_empty() && place.contains(".rs:"), "{row}");
    }
    for (letter, count) in [
        ("M", 4),
        ("L", 7),
        ("S", 6),
        ("H", 5),
        ("R", 2),
        ("G", 3),
        ("N", 3),
        ("A", 2),
        ("W", 4),
        ("P", 4),
    ] {
        let numbered = (1..=count).all(|number| names.contains(&format!("{letter}{number}")));
        let all = names.iter().filter(|name| name.starts_with(letter)).count();
        assert!(numbered && all == count, "{letter}: {names:?}");
    }
}

/// The names of the invariants, each with the place where the code depends on it.
fn invariants() -> Vec<(String, String)> {
    let text = read("docs/design.md");
    let rows = text.lines().filter(|line| line.starts_with("| **"));
    rows.map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let (name, place) = (cells[0].trim_matches('*'), cells[2].trim_matches('`'));
        (name.to_owned(), place.to_owned())
    })
    .collect()
}

/// The words of a text that have the form of an invariant's name: one of these letters and a number.
fn cited(text: &str, letters: &BTreeSet<char>) -> BTreeSet<String> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| {
            let mut chars = word.chars();
            let begins = chars.next().is_some_and(|first| letters.contains(&first));
            let number = chars.as_str();
            begins && number.len() <= 2 && number.parse::<u8>().is_ok_and(|number| number > 0)
        })
        .map(str::to_owned)
        .collect()
}

/// Splits a source file into code and the tests in it.
fn split_tests<'t>(path: &str, text: &'t str) -> (&'t str, &'t str) {
    if path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs") {
        return ("", text);
    }
    text.split_at(text.find("\nmod tests {").unwrap_or(text.len()))
}

/// Each invariant is cited where the code depends on it, and by the test that fails without it.
#[test]
fn invariants_are_cited() {
    let names: BTreeSet<_> = invariants().into_iter().map(|(name, _)| name).collect();
    let letters = names
        .iter()
        .filter_map(|name| name.chars().next())
        .collect();
    let (mut in_code, mut in_tests) = (BTreeSet::new(), BTreeSet::new());
    let mut complaints = Vec::new();
    for (path, text) in sources(&["src", "tests"]) {
        // This file names invariants without depending on any.
        if path == file!() {
            continue;
        }
        let (code, tests) = split_tests(&path, &text);
        let (code, tests) = (cited(code, &letters), cited(tests, &letters));
        let unknown = code.union(&tests).filter(|name| !names.contains(*name));
        complaints.extend(unknown.map(|name| format!("{path}: {name} is no invariant")));
        in_code.extend(code);
        in_tests.extend(tests);
    }
    for (all, which) in [(in_code, "code"), (in_tests, "test")] {
        let missing = names.difference(&all);
        complaints.extend(missing.map(|name| format!("no {which} cites {name}")));
    }
    assert_none(&complaints);
}

/// A function with the comments before it, by its name; empty if there is none.
fn function<'t>(text: &'t str, name: &str) -> &'t str {
    let heads = ["(", "<"].map(|after| text.find(&format!("fn {name}{after}")));
    let Some(head) = heads.into_iter().flatten().min() else {
        return "";
    };
    let line = text[..head].rfind('\n').map_or(0, |at| at + 1);
    let indent = text[line..].len() - text[line..].trim_start().len();
    let before = text[..line].lines().rev();
    let about = |line: &&str| line.trim_start().starts_with(['/', '#']);
    let about: usize = before.take_while(about).map(|line| line.len() + 1).sum();
    let end = format!("\n{}}}\n", " ".repeat(indent));
    let end = text[line..].find(&end).map_or(text.len(), |at| line + at);
    &text[line - about..end]
}

#[test]
fn invariants_are_cited_at_their_place() {
    let mut complaints = Vec::new();
    for (name, place) in invariants() {
        let (file, called) = place.split_once(':').unwrap();
        let text = read(&format!("src/{file}"));
        if !says(function(&text, called), &name) {
            complaints.push(format!("`{place}` does not cite {name}"));
        }
    }
    assert_none(&complaints);
}

#[test]
fn dictionary_operations_are_counted() {
    let methods = read("src/dict/dictionary.rs")
        .matches("\n    pub fn ")
        .count();
    let said = format!("with {methods} methods of all dictionaries");
    let text = read("docs/dictionary.md").replace('\n', " ");
    assert!(
        text.contains(&said),
        "docs/dictionary.md does not say: {said}"
    );
}

/// The limits that the guide names are the constants of the code.
#[test]
fn dictionary_limits_are_the_constants() {
    let limits = [
        ("dictionary", "MAX_PARTS", "key", "1 to {} *parts*"),
        (
            "dictionary",
            "MAX_PART",
            "key_part",
            "each of 1 to {} bytes",
        ),
        (
            "dictionary",
            "MAX_DEPTH",
            "../codec/format",
            "more than {} levels deep",
        ),
        (
            "dictionary",
            "MAX_DEPTH",
            "../codec/format",
            "at most {} nested lists",
        ),
        (
            "dictionary",
            "LISTED_AT_ONCE",
            "local/memory",
            "at most {} items and no lock",
        ),
        (
            "dictionary",
            "RETRIES",
            "dictionary",
            "`update` allows {} retries",
        ),
        ("format", "MAX_PART", "key_part", "Parts have 1 to {} bytes"),
    ];
    for (document, constant, file, says) in limits {
        let code = read(&format!("src/dict/{file}.rs"));
        let (_, after) = code.split_once(&format!("const {constant}: ")).unwrap();
        let number = after.split([' ', ';']).nth(2).unwrap();
        let said = says.replace("{}", number);
        let text = read(&format!("docs/{document}.md")).replace('\n', " ");
        assert!(
            text.contains(&said),
            "docs/{document}.md does not say: {said}"
        );
    }
}

#[test]
fn words_are_clear() {
    let mut complaints = Vec::new();
    for document in documents() {
        let text = prose(&read(&document)).to_lowercase();
        // Names in backticks may be old.
        let text: String = text.split('`').step_by(2).collect();
        let found = UNCLEAR.iter().filter(|words| says(&text, words));
        complaints.extend(found.map(|words| format!("{document} says \"{words}\"")));
    }
    assert_none(&complaints);
}

#[test]
fn comments_are_clear() {
    let folders = ["src", "tests", "benches", "examples", "fuzz", "xtask"];
    let mut complaints = Vec::new();
    for (path, text) in sources(&folders) {
        let comments = text.lines().map(str::trim_start).enumerate();
        let comments = comments.filter(|(_, line)| line.starts_with("//"));
        for (number, line) in comments {
            let line = line.to_lowercase();
            let found = UNCLEAR.iter().filter(|words| says(&line, words));
            let at = number + 1;
            complaints.extend(found.map(|words| format!("{path}:{at} says \"{words}\"")));
        }
    }
    assert_none(&complaints);
}

#[test]
fn scans_see_what_they_should() {
    assert!(says("fn grow(", "fn grow") && !says("fn grown(", "fn grow"));
    assert_eq!(anchor(" The record's checksum"), "the-records-checksum");
    let letters = BTreeSet::from(['M', 'S']);
    assert!(
        cited("S1, M12: (S3_ XS4 SS5 S6", &letters)
            .into_iter()
            .eq(["M12", "S1", "S6"])
    );
    let text = "fn ab() {}\n\n/// Why.\nfn a(b: u32) {\n    c();\n}\nd";
    assert_eq!(function(text, "a"), "/// Why.\nfn a(b: u32) {\n    c();");
    assert_eq!(spans("a `b` c\n```\n`d`\n```\n`e:f`"), ["b", "e:f"]);
}
