//! Returns a uniformly random key.
//!
//! Each entry has one position of the roster (R1), so random positions are read until one has an
//! entry. If most positions are free, a listing finds what is left. May call `iter`, `handle` and
//! everything below them.

use std::sync::Arc;

use crate::error::{ErrorKind, Result};
use crate::os::random::Rng;

use crate::engine::generation::Generation;
use crate::engine::handle::Handle;
use crate::engine::read::cursor::Cursor;
use crate::engine::read::iter::Keys;
use crate::engine::read::validate::contended;

/// Positions that are read before all are listed, however few there are.
const PROBES: u32 = 64;
/// Positions of the roster for each further probe. A listing reads them in order, for a small part
/// of what a random one costs.
const POSITIONS_PER_PROBE: u32 = 32;
/// Rounds after which a sample gives up while writers keep changing the cache.
const ROUNDS: u32 = 64;

/// Returns a uniformly random key; `None` if there is no entry.
pub(crate) fn random_key(handle: &Handle) -> Result<Option<Vec<u8>>> {
    let mut rng = Rng::new();
    for _ in 0..ROUNDS {
        let generation = Arc::clone(&handle.current()?.0);
        // Otherwise keys whose positions were cut off would never be returned.
        generation
            .check_roster_length()
            .inspect_err(|_| handle.saw_damage())?;
        let header = generation.header();
        let changes = header.changes();
        let found = match probe(handle, Arc::clone(&generation), &mut rng) {
            Ok(None) if generation.roster_len() > 0 => list(handle, &mut rng),
            probed => probed,
        };
        // Loaded before the state of the writer: an insertion counts before it links.
        let counted = header.occupied();
        match found {
            Ok(None) if counted > 0 && header.is_idle_since(changes) => {
                return Err(ErrorKind::Incomplete {
                    found: 0,
                    counted,
                    damaged_bytes: 0,
                }
                .at(&handle.path));
            }
            // The only entry is that of a change in flight, whose writer may be dead.
            Ok(None) if counted == 1 && header.changes() == changes => return Ok(None),
            Ok(None) if counted > 0 => {}
            Err(error) if matches!(error.kind(), ErrorKind::Superseded) => {}
            found => return found,
        }
    }
    Err(contended(handle, "all entries", ROUNDS))
}

/// Reads random positions until one has an entry. Passes over corrupt ones.
fn probe(handle: &Handle, generation: Arc<Generation>, rng: &mut Rng) -> Result<Option<Vec<u8>>> {
    let occupied = generation.header().occupied();
    let mut cursor = Cursor::of(handle, generation);
    let all = cursor.end;
    if all == 0 {
        return Ok(None);
    }
    let further = match occupied {
        0 => 0,
        _ => all / POSITIONS_PER_PROBE,
    };
    for _ in 0..PROBES + further {
        let position = rng.below(all.into()) as u32;
        debug_assert!(position < all);
        match cursor.read_position(position, false) {
            Ok(Some(_)) => return Ok(Some(cursor.key)),
            Ok(None) => {}
            Err(error) if error.is_of_one_entry() => handle.saw_damage(),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Lists all keys and returns a random one; `None` if all are corrupt. Reservoir sampling: the n-th
/// key replaces the one that was kept with a probability of 1/n.
fn list(handle: &Handle, rng: &mut Rng) -> Result<Option<Vec<u8>>> {
    let (mut kept, mut listed) = (None, 0);
    let mut keys = Keys::new(handle)?;
    while let Some(next) = keys.next_borrowed() {
        match next {
            Ok((key, _)) => {
                listed += 1;
                if rng.below(listed) == 0 {
                    kept = Some(key.to_vec());
                }
            }
            Err(error) if error.is_of_one_entry() => {}
            Err(error) => return Err(error),
        }
    }
    debug_assert_eq!(kept.is_none(), listed == 0, "the first is always kept");
    Ok(kept)
}
