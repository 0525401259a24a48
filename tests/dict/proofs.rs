//! The table of `docs/dictionary.md`: every test that it names exists, and it has every point.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const POINTS: u32 = 44;

/// Returns the tests that a text names.
fn named(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let code = text.split('`').skip(1).step_by(2);
    code.filter_map(|code| code.split_once("::"))
        .filter(|(file, test)| {
            let plain = |name: &str| {
                let mut bytes = name.bytes();
                bytes.all(|byte| byte == b'_' || byte.is_ascii_lowercase() || byte.is_ascii_digit())
            };
            plain(file) && plain(test)
        })
}

/// Returns the rows of the table: the number of a point, and the rest of its row.
fn rows(document: &str) -> Vec<(u32, &str)> {
    let (_, table) = document.split_once("## Point by point").expect("the table");
    let rows = table.lines().filter_map(|line| {
        let (number, rest) = line.strip_prefix("| ")?.split_once(" |")?;
        Some((number.parse().ok()?, rest))
    });
    rows.collect()
}

fn document() -> String {
    fs::read_to_string(Path::new(ROOT).join("docs/dictionary.md")).expect("the document")
}

/// Returns the comments and attributes of a test that always runs, if the file has one of this name.
fn head(file: &str, test: &str) -> Option<String> {
    let folder = Path::new(ROOT).join("tests/dict");
    let places = [format!("{file}.rs"), format!("suite/{file}.rs")];
    let mut texts = places
        .iter()
        .filter_map(|place| fs::read_to_string(folder.join(place)).ok());
    texts.find_map(|text| {
        let at = text.find(&format!("fn {test}("))?;
        let head = text[..at].rsplit('}').next().unwrap_or_default();
        let is_run = head.contains("#[test]") && !head.contains("#[ignore");
        is_run.then(|| head.to_owned())
    })
}

/// Returns whether a file has a test of this name that always runs.
fn is_test(file: &str, test: &str) -> bool {
    head(file, test).is_some()
}

// Every test that the guide names always runs.
#[test]
fn guide_names_only_run_tests() {
    let document = document();
    let named: BTreeSet<_> = named(&document).collect();
    assert!(named.len() > 80, "only {} tests are named", named.len());
    let missing: Vec<_> = named
        .iter()
        .filter(|(file, test)| !is_test(file, test))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

// Every point has a row with tests of its number, or a reason why not.
#[test]
fn guide_proves_or_explains_each_point() {
    let document = document();
    let rows = rows(&document);
    assert!(
        rows.iter().map(|(number, _)| *number).eq(1..=POINTS),
        "each point once, in order"
    );
    for (number, row) in rows {
        let columns: Vec<_> = row.split(" |").map(str::trim).collect();
        let [what, proof, beside, ""] = columns[..] else {
            panic!("{number}: {columns:?}");
        };
        assert_eq!(
            what.is_empty(),
            proof.is_empty(),
            "{number}: what holds is proved"
        );
        assert!(
            !proof.is_empty() || !beside.is_empty(),
            "{number}: neither a test nor a reason"
        );
        let point = format!("// Point {number}.");
        for (file, test) in named(proof) {
            let head = head(file, test).unwrap_or_default();
            assert!(head.contains(&point), "{number}: {file}::{test}");
        }
    }
}

#[test]
fn scan_finds_only_tests() {
    assert!(is_test("proofs", "scan_finds_only_tests"));
    assert!(is_test("plain", "remove_says_whether_item_existed"));
    assert!(!is_test("proofs", "is_test"));
    assert!(!is_test("keys", "remove_says_whether_item_existed"));
    assert!(!is_test("none", "scan_finds_only_tests"));
    let text = "`a::b_1`, `Condition::Any`, and `c`";
    assert!(named(text).eq([("a", "b_1")]));
}
