//! Leaves each ordering out in turn: some model must notice.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::tests::loom::harness::{Model, explore};
use crate::engine::tests::loom::models::MODELS;
use crate::sync::loom_model::OrderingSite;

/// Executions of one model without one ordering.
const EXECUTIONS: u64 = 1_500;

/// Executions of the model of one group: some need three preemptions, and all are noticed early.
const GROUP_EXECUTIONS: u64 = 100_000;

fn quick(model: &Model) -> Model {
    Model {
        preemptions: Some(2),
        at_most: EXECUTIONS,
        ..*model
    }
}

/// Names an ordering by type or file, function and call, independently of its line.
fn name(site: &OrderingSite) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(site.file);
    let text = std::fs::read_to_string(path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let line = site.line as usize - 1;
    let identifier = |text: &str| -> String {
        let is_part = |c: &char| c.is_alphanumeric() || *c == '_';
        text.chars().take_while(is_part).collect()
    };
    let call = identifier(&lines[line][site.column as usize - 1..]);
    let above = || lines[..=line].iter().rev();
    let head = above().find(|line| line.contains("fn ")).unwrap();
    let function = identifier(head.split_once("fn ").unwrap().1);
    let owner = if head.starts_with(' ') {
        let owner = above().find_map(|line| Some(line.strip_prefix("impl")?.split_once(' ')?.1));
        identifier(owner.unwrap())
    } else {
        let file = std::path::Path::new(site.file).file_stem().unwrap();
        file.to_str().unwrap().to_owned()
    };
    format!("{owner}::{function} {call}")
}

fn all() -> BTreeMap<String, OrderingSite> {
    let mut sites = BTreeSet::new();
    for model in MODELS {
        let explored = explore(
            Model {
                at_most: 200,
                ..quick(model)
            },
            &[],
        );
        assert_eq!(explored.broken, None, "{}", model.name);
        // The models' own fences are not part of the protocol. The lock has models of its own.
        let others =
            |site: &OrderingSite| site.file.contains("tests") || site.file.contains("lock/");
        let protocol = |site: &OrderingSite| !others(site);
        sites.extend(explored.sites.into_iter().filter(protocol));
    }
    let named: BTreeMap<_, _> = sites.iter().map(|site| (name(site), *site)).collect();
    assert_eq!(named.len(), sites.len());
    named
}

/// Returns the model that notices, and how.
fn noticed(weakened: &[OrderingSite]) -> Option<(&'static str, String)> {
    MODELS.iter().find_map(|model| {
        let broken = explore(quick(model), weakened).broken?;
        Some((model.name, broken))
    })
}

/// Orderings that no model notices if they alone are left out, with the reason.
const IMPLIED: [(&str, &str); 21] = [
    (
        "Reservation::write release_fence",
        "the link of an overwrite, and the redo record of any other change, is a release of its own",
    ),
    (
        "Segment::has_changed acquire_fence",
        "the checksum notices a mixture of two records; what is left is one in four billion, which no \
         model can wait for",
    ),
    (
        "redo_copy::is_settled acquire_fence",
        "not shown by any model: it keeps the redo record from being older than the record that was read",
    ),
    (
        "Header::poll acquire",
        "a directory entry older than the depth costs a miss another attempt, after a fence, and a \
         hit needs no validation",
    ),
    (
        "Header::set_poll publish",
        "as for `Header::poll`: what it orders costs a miss another attempt",
    ),
    (
        "Slot::link acquire",
        "a listing reads the record after the fence by which it validates the slot",
    ),
    (
        "Slot::set_link publish",
        "the record has a fence of its own, and so has the redo record",
    ),
    (
        "Header::roster_len acquire",
        "a position that is not seen filled looks damaged, so it is read again after a fence",
    ),
    (
        "EntryWords::set_counters publish",
        "as for `Header::roster_len`: what the length does not cover is read again after a fence",
    ),
    (
        "ExpectedCount::of acquire_fence",
        "not shown by any model, also without the one in `least`: it keeps the count from being \
         newer than the roster's length",
    ),
    (
        "ExpectedCount::least acquire_fence",
        "not shown by any model, also without the one in `of`: it keeps the redo record and the count \
         of changes from being older than the count of entries",
    ),
    (
        "HeapEndWords::set_tail publish",
        "the fence after the link covers the record",
    ),
    (
        "HeapEndWords::set_reserved publish",
        "`tail` follows at once, and is a release; readers ask the system for a segment's file",
    ),
    (
        "Region::set_stamp release_fence",
        "a region is given up in one step and built in a later one: fences of its redo record, of \
         the heap and of the link lie between",
    ),
    (
        "Region::stamp acquire",
        "the fence after the directory entry, in a listing the one after the link, is as strong",
    ),
    (
        "Slot::link_after acquire_fence",
        "the stamp is compared first, after a fence; a record does not change",
    ),
    (
        "Slot::set_link release_fence",
        "the heap's end is stored by a release of its own; beside a link only hints change",
    ),
    (
        "PositionRef::get acquire",
        "the fence after the link comes before anything that is compared",
    ),
    (
        "PositionRef::set publish",
        "the fence after the redo record covers it and the new regions",
    ),
    (
        "table::seen_again acquire_fence",
        "the polled word is loaded first, and the fence after it comes before the entry",
    ),
    (
        "Table::set_entry publish",
        "the fence after the redo record covers the new regions",
    ),
];

/// Orderings that imply each other: a model notices if they are left out together.
const TOGETHER: [(&str, &[&str]); 7] = [
    (
        "insert, list keys",
        &[
            "EntryWords::set_counters publish",
            "Header::roster_len acquire",
        ],
    ),
    (
        "overwrite twice, get twice",
        &["Reservation::write release_fence", "Slot::set_link publish"],
    ),
    (
        "a kill, the link comes before the end",
        &[
            "HeapEndWords::set_tail publish",
            "Slot::set_link release_fence",
        ],
    ),
    (
        "a kill, the redo record comes first",
        &[
            "PositionRef::set publish",
            "redo::commit_redo release_fence",
        ],
    ),
    (
        "purge a region, get",
        &[
            "Table::set_entry publish",
            "redo::commit_redo release_fence",
            "Region::set_stamp release_fence",
        ],
    ),
    (
        "re-use a region, get",
        &["Header::poll acquire", "table::seen_again acquire_fence"],
    ),
    (
        "re-use a region, peek",
        &[
            "Region::set_stamp release_fence",
            "redo::clear_redo release_fence",
            "HeapEndWords::reserve release_fence",
            "redo::commit_redo release_fence",
            "Reservation::write release_fence",
            "Slot::set_link release_fence",
        ],
    ),
];

#[test]
#[ignore = "takes some five minutes"]
fn loom_notices_every_missing_ordering() {
    let sites = all();
    let implied = BTreeMap::from(IMPLIED);
    let mut wrong = Vec::new();
    for (name, site) in &sites {
        match (noticed(&[*site]), implied.get(&name[..])) {
            (Some((model, broken)), None) => println!("{name}: {model}: {broken}"),
            (None, Some(reason)) => println!("{name}: not noticed: {reason}"),
            (found, _) => wrong.push(format!("{name}: {found:?}")),
        }
    }
    let stale = implied.keys().filter(|name| !sites.contains_key(**name));
    wrong.extend(stale.map(|name| format!("{name}: there is no such ordering")));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

// An ordering that others imply is left out together with them, and a model notices.
#[test]
fn loom_notices_missing_groups_of_orderings() {
    let sites = all();
    let mut wrong = Vec::new();
    for (model, names) in TOGETHER {
        let weakened: Vec<_> = names.iter().map(|name| sites[*name]).collect();
        let found = MODELS.iter().find(|found| found.name == model).unwrap();
        let thorough = Model {
            preemptions: Some(3),
            at_most: GROUP_EXECUTIONS,
            ..*found
        };
        match explore(thorough, &weakened).broken {
            Some(broken) => println!("{}: {model}: {broken}", names.join(", ")),
            None => wrong.push((model, names)),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
