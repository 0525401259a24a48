//! Runs every reading command of `mmapcache-inspect`, and the repair, on damaged files.
//!
//! Whatever the files contain, the program ends soon, within its memory, with one of its three exit
//! codes, and shows nothing that was never put.
#![cfg(feature = "cli")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod corruption;

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use corruption::affected::Affected;
use corruption::checker::Checker;
use corruption::image::Image;
use corruption::mutation::Mutation;
use corruption::mutation_lists as lists;
use corruption::sample_cache::{SampleCache, key, scratch};
use serde_json::Value;

/// A command may take this long; the best of some tries counts, because other programs run too.
const TIME: Duration = Duration::from_secs(1);
const TRIES: u32 = 5;
/// Memory in KiB that a command may use in addition to mapped files: as for the engine, 16 MiB and
/// four times the files.
const MEMORY: usize = 16 * 1024 + 4 * 48;

/// Damaged files, and what their change affects.
struct DamagedSample<'a> {
    sample: &'a SampleCache,
    image: Image,
    affected: Affected,
    name: String,
}

impl<'a> DamagedSample<'a> {
    fn new(sample: &'a SampleCache, mutations: &[Mutation]) -> Self {
        let mut image = sample.image.clone();
        for mutation in mutations {
            mutation.apply(&mut image, sample);
        }
        Self {
            affected: Affected::between(sample, &image),
            name: format!("{mutations:?}"),
            sample,
            image,
        }
    }

    /// Runs every reading command, which must not change the files, and then a repair.
    fn show(&self) {
        let dir = scratch();
        let path = dir.path().join("cache");
        self.image.write_to(&path).unwrap();
        let files_alone = self.image.nodes.len() == self.image.files().count();
        let written = files_alone.then(|| Image::read(&path).unwrap());
        self.json(&self.run(&path, &["stats", "--json"]));
        self.run(&path, &["stats"]);
        self.keys(&self.run(&path, &["list", "--json"]));
        self.entries(&self.run(&path, &["list", "--values", "--json"]));
        self.entries(&self.run(&path, &["export"]));
        self.json(&self.run(&path, &["verify", "--json"]));
        for level in ["headers", "slots"] {
            self.json(&self.run(&path, &["verify", "--level", level, "--json"]));
        }
        self.keys(&self.run(&path, &["list", "--sort", "size", "--limit", "9", "--json"]));
        self.copy(&path);
        for number in [8, 12, 20] {
            self.get(&path, &key(number));
        }
        self.overviews(&path);
        self.decode(&path);
        if let Some(written) = written {
            let now = Image::read(&path).unwrap();
            assert!(now == written, "{}: reading changed the files", self.name);
        }
        self.json(&self.run(&path, &["repair", "--json"]));
        self.entries(&self.run(&path, &["export"]));
    }

    /// Copies the cache elsewhere: the copy is clean if nothing was damaged, or there is none.
    fn copy(&self, path: &Path) {
        let elsewhere = scratch();
        let copy = elsewhere.path().join("copy");
        let made = self.run(path, &["copy", copy.to_str().unwrap(), "--json"]);
        self.json(&made);
        assert_eq!(copy.exists(), !made.stdout.is_empty(), "{}", self.name);
        if copy.exists() {
            let verified = self.run(&copy, &["verify"]);
            // A forged length may leave too little room between two records for a filler record.
            let told: Value = serde_json::from_slice(&made.stdout).unwrap();
            let sound = verified.status.success() || told["damaged_bytes"] != 0;
            assert!(sound, "{}: {verified:?}", self.name);
            self.entries(&self.run(&copy, &["export"]));
        }
    }

    /// Runs the commands that decode single files.
    fn decode(&self, path: &Path) {
        self.json(&self.run(path, &["stats", "--full", "--json"]));
        self.json(&self.run(path, &["header", "--json"]));
        self.json(&self.run(path, &["histogram", "--json"]));
        self.json(&self.run(path, &["map", "--json"]));
        self.run(path, &["map"]);
        for line in lines(&self.run(path, &["heap", "--json"])) {
            let shown = line["kind"] == "damage" || line["kind"] == "gap";
            let key = if shown {
                Vec::new()
            } else {
                member(&line, "key")
            };
            let known =
                shown || self.sample.history.contains_key(&key) || self.affected.may_list(&key);
            assert!(known, "{}: {key:?}", self.name);
        }
        let hex: String = key(12).iter().map(|byte| format!("{byte:02x}")).collect();
        for arguments in [
            ["slot", "3"],
            ["record", "1:136"],
            ["record", "0:99999999999"],
        ] {
            self.json(&self.run(path, &[arguments[0], arguments[1], "--json"]));
        }
        self.run(path, &["slot", "--key", &format!("hex:{hex}")]);
    }

    /// Runs the commands that show the cache as a whole.
    fn overviews(&self, path: &Path) {
        self.json(&self.run(path, &["report", "--json"]));
        let page = self.run(path, &["report", "--html", "-"]).stdout;
        assert!(
            page.is_empty() || page.ends_with(b"</html>\n"),
            "{}",
            self.name
        );
        self.json(&self.run(path, &["metrics", "--json"]));
        let up = self.run(path, &["metrics"]).stdout;
        assert!(up.starts_with(b"# HELP mmapcache_up "), "{}", self.name);
        let watch = ["watch", "--json", "--count", "1", "--interval", "10ms"];
        self.json(&self.run(path, &watch));
    }

    /// Runs a command under a shell that limits its memory and CPU time.
    fn run(&self, path: &Path, arguments: &[&str]) -> Output {
        let limit = format!("ulimit -d {MEMORY} && ulimit -t 1 && exec \"$0\" \"$@\"");
        let (command, rest) = arguments.split_first().unwrap();
        let mut took = Duration::MAX;
        for _ in 0..TRIES {
            let began = Instant::now();
            let output = Command::new("sh")
                .args([
                    "-c",
                    &limit,
                    env!("CARGO_BIN_EXE_mmapcache-inspect"),
                    command,
                ])
                .arg(path)
                .args(rest)
                .output()
                .unwrap();
            took = took.min(began.elapsed());
            let (name, code) = (&self.name, output.status.code());
            let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
            let known = matches!(code, Some(0..=2));
            assert!(
                known,
                "{name}: {arguments:?}: {:?}: {complaint}",
                output.status
            );
            assert!(
                !complaint.contains("panicked"),
                "{name}: {arguments:?}: {complaint}"
            );
            assert!(
                code != Some(2) || self.may_be_refused() || is_missing_heap(&complaint),
                "{name}: {arguments:?}: {complaint}"
            );
            if took <= TIME {
                return output;
            }
        }
        panic!("{}: {arguments:?}: {took:?} at best", self.name);
    }

    /// Whether the program may exit with 2: no cache, or a file of another version.
    fn may_be_refused(&self) -> bool {
        self.affected.version || self.affected.no_index
    }

    fn checker(&self) -> Checker<'_> {
        Checker::new(self.sample, &self.affected, &self.name)
    }

    fn get(&self, path: &Path, key: &[u8]) {
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        let output = self.run(path, &["get", &format!("hex:{hex}")]);
        if output.status.success() {
            self.checker()
                .check_answer("get", key, Ok(Some(output.stdout)));
        } else {
            assert!(output.stdout.is_empty(), "{}: a part of a value", self.name);
            assert!(!output.stderr.is_empty(), "{}: no message", self.name);
        }
    }

    /// Asserts that all output of a command is JSON.
    fn json(&self, output: &Output) {
        if !output.stdout.is_empty() {
            let parsed: Result<Value, _> = serde_json::from_slice(&output.stdout);
            assert!(parsed.is_ok(), "{}: {parsed:?}", self.name);
        }
    }

    fn keys(&self, output: &Output) {
        for line in lines(output) {
            let key = member(&line, "key");
            let known = self.sample.history.contains_key(&key);
            assert!(
                known || self.affected.may_list(&key),
                "{}: {key:?}",
                self.name
            );
        }
    }

    fn entries(&self, output: &Output) {
        for line in lines(output) {
            self.checker()
                .listed(&member(&line, "key"), &member(&line, "value"));
        }
    }
}

fn lines(output: &Output) -> Vec<Value> {
    let lines = output
        .stdout
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty());
    lines
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

/// Returns the bytes of a member, which are text or base64.
fn member(line: &Value, name: &str) -> Vec<u8> {
    match line.get(name) {
        Some(text) => text.as_str().unwrap().as_bytes().to_vec(),
        None => {
            let coded = line[format!("{name}_base64")].as_str().unwrap();
            STANDARD.decode(coded).unwrap()
        }
    }
}

/// Returns about `count` of the mutations, spread over the list.
fn some(mutations: Vec<Mutation>, count: usize) -> impl Iterator<Item = Vec<Mutation>> {
    let stride = (mutations.len() / count).max(1);
    mutations
        .into_iter()
        .step_by(stride)
        .map(|mutation| vec![mutation])
}

// An operator examines a corrupt cache with this program: it must not hang, crash or fill memory.
#[test]
fn inspector_survives_corrupt_files() {
    let sample = SampleCache::make();
    let samples: Vec<_> = some(lists::files(&sample), 40)
        .chain(some(lists::bytes(&sample), 40))
        .chain(some(lists::bits(&sample), 50))
        .chain(some(lists::cuts(&sample), 25))
        .chain(some(lists::zeros(&sample), 12))
        .chain(some(lists::words(&sample), 30))
        .chain((0..10).map(|number| lists::stack(&sample, number)))
        .collect();
    println!("{} samples", samples.len());
    assert!(samples.len() >= 200);
    for mutations in samples {
        DamagedSample::new(&sample, &mutations).show();
    }
}

/// Whether the program says that a segment is missing, which is no corruption of the others.
fn is_missing_heap(complaint: &str) -> bool {
    complaint.contains("is its disk mounted")
}

#[test]
fn limits_stop_the_inspector() {
    let sample = SampleCache::make();
    let dir = scratch();
    let path = dir.path().join("cache");
    sample.image.write_to(&path).unwrap();
    let sound = DamagedSample::new(&sample, &[]);
    let listed = lines(&sound.run(&path, &["export"]));
    assert_eq!(listed.len(), sample.versions.len());
    assert_eq!(sound.run(&path, &["verify"]).status.code(), Some(0));
    // A value of 64 MiB exceeds the memory that a command may use.
    let large = dir.path().join("large");
    mmapcache::MmapCache::open(&large)
        .unwrap()
        .put(b"large", &vec![7; 64 << 20])
        .unwrap();
    let shown = std::panic::catch_unwind(|| sound.run(&large, &["get", "large"]));
    assert!(shown.is_err(), "the program had 64 MiB");
}
