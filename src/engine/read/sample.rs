//! A key by chance: every live one as likely as any other.
//!
//! Each entry has one position of the roster, so positions are drawn until one has an entry. Knows
//! for how long that is worth while, and that a listing finds whatever is left.

use std::sync::Arc;

use crate::error::{Error, Result};

use crate::engine::generation::Generation;
use crate::engine::handle::{Handle, random};
use crate::engine::read::iter::{Cursor, Keys, Seen};

/// Positions that are drawn before all are listed, however few there are.
const DRAWS: u32 = 64;
/// Positions of the roster for each draw more. A listing takes them in their order, for a small
/// part of what one out of order costs.
const POSITIONS_PER_DRAW: u32 = 32;
/// Times that all is begun anew where others change the cache all the while.
const ROUNDS: u32 = 64;

/// Numbers that nobody can foresee, all from one of the system's (SplitMix64).
struct Rng(u64);

impl Rng {
    fn new() -> Self {
        Self(random())
    }

    /// One of the first `count` numbers. That some are likelier than others, by one part in 2^32 at
    /// most, nobody can notice.
    fn below(&mut self, count: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let mixed = mixed ^ (mixed >> 31);
        ((u128::from(mixed) * u128::from(count)) >> 64) as u64
    }
}

impl Handle {
    /// A live key, each as likely as any other; none where there is no entry.
    pub(crate) fn random_key(&self) -> Result<Option<Vec<u8>>> {
        let mut chance = Rng::new();
        for _ in 0..ROUNDS {
            let generation = Arc::clone(&self.current()?.0);
            // Else keys whose positions are cut off would never be drawn.
            generation
                .check_roster_length()
                .inspect_err(|_| self.saw_damage())?;
            let header = generation.header();
            let changes = header.changes();
            let found = match draw(self, Arc::clone(&generation), &mut chance) {
                Ok(None) if generation.roster_len() > 0 => list(self, &mut chance),
                drawn => drawn,
            };
            // Counted before it is asked who counts: an insertion does so before it links.
            let counted = header.occupied();
            match found {
                Ok(None) if counted > 0 && header.is_idle_since(changes) => {
                    return Err(Error::Incomplete {
                        path: self.path.to_path_buf(),
                        found: 0,
                        counted,
                        damaged_bytes: 0,
                    });
                }
                // The only one is that of a change under way, whose writer may be dead.
                Ok(None) if counted == 1 && header.changes() == changes => return Ok(None),
                Ok(None) if counted > 0 => {}
                Err(Error::Superseded { .. }) => {}
                found => return found,
            }
        }
        Err(Error::Contended {
            path: self.path.to_path_buf(),
            what: "all entries",
            looks: ROUNDS,
        })
    }
}

/// Draws positions until one has an entry. What is damaged is passed over.
fn draw(handle: &Handle, generation: Arc<Generation>, chance: &mut Rng) -> Result<Option<Vec<u8>>> {
    let occupied = generation.header().occupied();
    let mut cursor = Cursor::of(handle, generation);
    let all = cursor.end;
    if all == 0 {
        return Ok(None);
    }
    let further = match occupied {
        0 => 0,
        _ => all / POSITIONS_PER_DRAW,
    };
    for _ in 0..DRAWS + further {
        let position = chance.below(all.into()) as u32;
        match cursor.settle(position, false) {
            Ok(Seen::Entry(_)) => return Ok(Some(cursor.key)),
            Ok(Seen::Nothing) => {}
            Err(error) if error.is_of_one_entry() => handle.saw_damage(),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Lists all keys and takes one of them; none where there are only damaged ones.
fn list(handle: &Handle, chance: &mut Rng) -> Result<Option<Vec<u8>>> {
    let (mut taken, mut seen) = (None, 0);
    let mut keys = Keys::new(handle)?;
    while let Some(next) = keys.next_borrowed() {
        match next {
            Ok((key, _)) => {
                seen += 1;
                // The last of so many stays with the chance of one in so many, as each before it.
                if chance.below(seen) == 0 {
                    taken = Some(key.to_vec());
                }
            }
            Err(error) if error.is_of_one_entry() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(taken)
}
