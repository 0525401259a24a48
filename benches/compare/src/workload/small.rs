//! Small stores: what a program pays that makes one, puts a few entries and closes it, and what one
//! pays that opens it again and reads them all.
//!
//! May call what `workload` offers its parts, and `space`.

use std::path::Path;

use crate::clock::Clock;
use crate::figures::{Figures, median};
use crate::keys::{Batch, Keys, Values};
use crate::plan::Plan;
use crate::store::{Access, Error, Result, Sharing, Store};

use super::{asked, get_each, put_each, space};

/// How often each size is made. Single times depend on what the disk is doing.
const TIMES: usize = 15;

/// The numbers of entries, as the names of figures have them.
pub(crate) const COUNTS: [u64; 4] = [1, 10, 100, 1_000];

const FIGURES: [&str; 3] = ["create", "reopen", "disk"];

pub(super) fn measure<S: Store>(plan: &Plan, figures: &mut Figures) -> Result<()> {
    for count in COUNTS {
        if count > plan.size.entries {
            break;
        }
        let named = |what: &str| format!("small_{what}_{count}");
        if !FIGURES.iter().any(|what| plan.asks_for(&named(what))) {
            continue;
        }
        match measure_one::<S>(plan, count) {
            Ok(small) => {
                figures.note(&named("create"), Ok(small.create))?;
                figures.note(&named("reopen"), small.reopen)?;
                figures.note(&named("disk"), Ok(small.disk))?;
            }
            Err(Error::Refused(reason)) => {
                for what in FIGURES {
                    figures.note(&named(what), Err(Error::Refused(reason)))?;
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Times in microseconds, and bytes.
struct Small {
    create: f64,
    reopen: Result<f64>,
    disk: f64,
}

fn measure_one<S: Store>(plan: &Plan, count: u64) -> Result<Small> {
    asked(S::SHARING, S::SHARING != Sharing::Memory)?;
    let (mut creates, mut reopens, mut disk) = (Vec::new(), Vec::new(), 0);
    let mut batch = Batch::default();
    batch.make(0..count, 0, &mut Values::new(plan.size.value));
    let keys = Keys::of(0..count);
    for _ in 0..TIMES {
        let dir = super::fresh(plan, "small")?;
        creates.push(created::<S>(&dir, &batch, count)?);
        disk = space::disk(&dir)?;
        if S::SHARING.lasts() {
            reopens.push(reopened::<S>(&dir, &keys)?);
        }
        std::fs::remove_dir_all(&dir)?;
    }
    let missing = || Error::Refused("is emptied by the first who opens it");
    Ok(Small {
        create: median(creates).ok_or(Error::Refused("was never made"))?,
        reopen: median(reopens).ok_or_else(missing),
        disk: disk as f64,
    })
}

/// Opening, a put for each entry, closing.
fn created<S: Store>(dir: &Path, batch: &Batch, count: u64) -> Result<f64> {
    let clock = Clock::start()?;
    let mut store = S::open(dir, Access::Create, count)?;
    put_each(&mut store, batch)?;
    store.close()?;
    Ok(clock.elapsed()? as f64 / 1e3)
}

/// Opening, a get of each entry, closing.
fn reopened<S: Store>(dir: &Path, keys: &Keys) -> Result<f64> {
    let clock = Clock::start()?;
    let mut store = S::open(dir, Access::Write, keys.len() as u64)?;
    get_each(&mut store, keys)?;
    store.close()?;
    Ok(clock.elapsed()? as f64 / 1e3)
}
