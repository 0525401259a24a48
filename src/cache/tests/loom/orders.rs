//! Every place that orders memory, left out in turn: some model must notice.

use std::collections::{BTreeMap, BTreeSet};

use super::models::MODELS;
use super::stage::{Model, explore};
use crate::sync::modelled::Site;

/// Executions of one model with one place left out.
const EXECUTIONS: u64 = 1_500;

fn quick(model: &Model) -> Model {
    Model {
        preemptions: Some(2),
        at_most: EXECUTIONS,
        ..*model
    }
}

/// The file, the function and the call: what a place is called whatever line it is on.
fn name(site: &Site) -> String {
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
    let function =
        above().find_map(|line| line.split_once("fn ").map(|(_, rest)| identifier(rest)));
    let owner = above().find_map(|line| Some(line.strip_prefix("impl")?.split_once(' ')?.1));
    let owner = owner.map(identifier).unwrap();
    format!("{owner}::{} {call}", function.unwrap())
}

fn all() -> BTreeMap<String, Site> {
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
        // The models' own fences are theirs, not the protocol's.
        let protocol = |site: &Site| !site.file.contains("tests");
        sites.extend(explored.sites.into_iter().filter(protocol));
    }
    let named: BTreeMap<_, _> = sites.iter().map(|site| (name(site), *site)).collect();
    assert_eq!(named.len(), sites.len());
    named
}

/// The model that notices, and how.
fn noticed(weakened: &[Site]) -> Option<(&'static str, String)> {
    MODELS.iter().find_map(|model| {
        let broken = explore(quick(model), weakened).broken?;
        Some((model.name, broken))
    })
}

#[test]
#[ignore = "takes a quarter of an hour"]
fn loom_notices_every_ordering_that_is_left_out() {
    let only = std::env::var("SITES").unwrap_or_default();
    let (part, parts) = only
        .split_once('/')
        .map_or((0, 1), |(a, b)| (a.parse().unwrap(), b.parse().unwrap()));
    for (at, (name, site)) in all().into_iter().enumerate() {
        if parts > 1 && at % parts != part {
            continue;
        }
        if parts == 1 && !only.split(',').any(|part| name.contains(part)) {
            continue;
        }
        let began = std::time::Instant::now();
        let found = noticed(&[site]);
        println!("{name}: {found:?} {:?}", began.elapsed());
    }
}
