//! Epochs: times in which every change of a key was told to some process of this machine.
//!
//! Each copy carries the epoch in which its request was sent, and a process serves copies of its own
//! epoch only. A process whose connection is new knows nothing of what was told before. It may
//!
//! - take an epoch that began while it was already listening, or
//! - join an older one, if a member *proves* that it has processed everything that was told before the
//!   newcomer began to listen; from then on the newcomer hears everything itself, or
//! - begin a new epoch, which makes all older copies unverified.
//!
//! A proof is made by a PING: its reply comes after all messages about earlier writes. So members need
//! not trust each other's connections, and a member that is stopped or killed proves nothing.
//!
//! Three records in the file: the epoch, a request to join, and a proof. All name the run of the server
//! and the start of the machine, so that nothing outlives either. May call `copies` and `clock`.

use std::time::Duration;

use mmapcache::{Cache, InsertOptions};

use crate::clock;
use crate::copies::Copies;

/// One run of the server, since one start of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run(pub(crate) u64);

/// An epoch, and a moment: of its beginning, or up to which a member has processed everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) epoch: u64,
    pub(crate) run: Run,
    pub(crate) moment: u64,
}

impl Record {
    fn encode(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        for (place, word) in bytes
            .chunks_exact_mut(8)
            .zip([self.epoch, self.run.0, self.moment])
        {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; 24] = bytes.try_into().ok()?;
        let word = |at: usize| {
            let word = bytes[at..].first_chunk::<8>();
            word.map_or(0, |word| u64::from_le_bytes(*word))
        };
        Some(Self {
            epoch: word(0),
            run: Run(word(8)),
            moment: word(16),
        })
    }
}

/// What a newcomer can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// The epoch is its own from now on.
    Member(u64),
    /// A member may prove the epoch.
    Ask,
    /// There is no epoch that could be proven.
    Begin,
}

/// What a newcomer that has listened to `run` without a gap since the moment `since` can do.
pub(crate) fn entry(copies: &Copies, run: Run, since: u64) -> mmapcache::Result<Entry> {
    let Some(epoch) = read(&copies.cache, &copies.epoch_key())? else {
        return Ok(Entry::Begin);
    };
    if epoch.run != run || epoch.moment > clock::now() {
        return Ok(Entry::Begin);
    }
    if epoch.moment >= since {
        return Ok(Entry::Member(epoch.epoch));
    }
    let proof = read(&copies.cache, &copies.proof_key())?;
    let is_proven = proof.is_some_and(|proof| {
        proof.epoch == epoch.epoch && proof.run == run && proof.moment >= since
    });
    Ok(if is_proven {
        Entry::Member(epoch.epoch)
    } else {
        Entry::Ask
    })
}

/// Asks the members for a proof.
pub(crate) fn ask(copies: &Copies, wait: Duration) -> mmapcache::Result<()> {
    put(&copies.cache, copies.join_key(), &[], Some(wait))
}

/// Answers a request to join, if there is one: all that was told before `moment` is processed.
pub(crate) fn prove(copies: &Copies, proof: Record) -> mmapcache::Result<()> {
    if !is_asked(copies)? {
        return Ok(());
    }
    put(
        &copies.cache,
        copies.proof_key(),
        &proof.encode(),
        Some(Duration::from_secs(60)),
    )
}

fn is_asked(copies: &Copies) -> mmapcache::Result<bool> {
    match copies.cache.stored_entry(copies.join_key()) {
        Ok(asked) => Ok(asked.is_some_and(|asked| !asked.is_expired())),
        // Damaged: the newcomer loses patience. As an error it would end all copies, at each proof.
        Err(error) if error.is_corruption() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns the epoch of `run` in the file if it began after the moment `since`.
pub(crate) fn newer(copies: &Copies, run: Run, since: u64) -> mmapcache::Result<Option<u64>> {
    let epoch = read(&copies.cache, &copies.epoch_key())?;
    let is_newer =
        |epoch: &Record| epoch.run == run && epoch.moment >= since && epoch.moment <= clock::now();
    Ok(epoch.filter(is_newer).map(|epoch| epoch.epoch))
}

/// Begins an epoch, or takes the one that another process has begun since `since`. Returns it, and
/// whether it is new.
pub(crate) fn begin(copies: &Copies, run: Run, since: u64) -> mmapcache::Result<(u64, bool)> {
    let mut writer = copies.cache.writer()?;
    if let Some(epoch) = newer(copies, run, since)? {
        return Ok((epoch, false));
    }
    let record = Record {
        epoch: random().max(1),
        run,
        moment: clock::now(),
    };
    let options = InsertOptions::new().no_expiry();
    writer.insert_with(copies.epoch_key(), record.encode(), &options)?;
    writer.commit()?;
    Ok((record.epoch, true))
}

fn put(cache: &Cache, key: Vec<u8>, value: &[u8], life: Option<Duration>) -> mmapcache::Result<()> {
    let options = InsertOptions::new().stale_for(Duration::ZERO);
    let options = match life {
        Some(life) => options.ttl(life),
        None => options.no_expiry(),
    };
    cache.insert_with(key, value, &options).map(drop)
}

/// A damaged record is none.
fn read(cache: &Cache, key: &[u8]) -> mmapcache::Result<Option<Record>> {
    match cache.stored_entry(key) {
        Ok(found) => Ok(found
            .filter(|found| !found.is_expired())
            .and_then(|found| Record::decode(found.value()))),
        Err(error) if error.is_corruption() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns 64 random bits.
pub(crate) fn random() -> u64 {
    let mut bytes = [0; 8];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(8) => u64::from_le_bytes(bytes),
        // Not on a Linux that has started; no two processes have the same id and time.
        _ => xxhash_rust::xxh3::xxh3_64(
            &[u64::from(std::process::id()), clock::now()]
                .map(u64::to_le_bytes)
                .concat(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: Run = Run(5);

    fn copies() -> (tempfile::TempDir, Copies) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path().join("near")).unwrap();
        (dir, Copies::new(cache, 7, Duration::from_secs(60)))
    }

    #[test]
    fn empty_file_has_no_epoch() {
        let (_dir, copies) = copies();
        assert_eq!(entry(&copies, RUN, clock::now()).unwrap(), Entry::Begin);
    }

    // The newcomer was listening already when the other process began the epoch.
    #[test]
    fn later_epoch_is_taken() {
        let (_dir, copies) = copies();
        let since = clock::now();
        let (epoch, is_new) = begin(&copies, RUN, clock::now()).unwrap();
        assert!(is_new);
        assert_eq!(entry(&copies, RUN, since).unwrap(), Entry::Member(epoch));
        assert_eq!(begin(&copies, RUN, since).unwrap(), (epoch, false));
    }

    #[test]
    fn older_epoch_needs_proof() {
        let (_dir, copies) = copies();
        let (epoch, _) = begin(&copies, RUN, clock::now()).unwrap();
        let before = clock::now();
        let since = clock::now().max(before + 1);
        assert_eq!(entry(&copies, RUN, since).unwrap(), Entry::Ask);

        // No process asked: no proof is written.
        let proof = |moment| Record {
            epoch,
            run: RUN,
            moment,
        };
        prove(&copies, proof(since)).unwrap();
        assert_eq!(entry(&copies, RUN, since).unwrap(), Entry::Ask);

        ask(&copies, Duration::from_secs(60)).unwrap();
        prove(&copies, proof(before)).unwrap();
        assert_eq!(entry(&copies, RUN, since).unwrap(), Entry::Ask);
        prove(&copies, proof(since)).unwrap();
        assert_eq!(entry(&copies, RUN, since).unwrap(), Entry::Member(epoch));
    }

    // A proof of a member of an epoch that has ended.
    #[test]
    fn proof_of_other_epoch_is_none() {
        let (_dir, copies) = copies();
        let (epoch, _) = begin(&copies, RUN, clock::now()).unwrap();
        let since = clock::now() + 1;
        ask(&copies, Duration::from_secs(60)).unwrap();
        let other = Record {
            epoch: epoch ^ 1,
            run: RUN,
            moment: since,
        };
        prove(&copies, other).unwrap();
        assert_eq!(entry(&copies, RUN, since).unwrap(), Entry::Ask);
    }

    // Otherwise each proof would fail, and end all copies, until a newcomer asks again.
    #[test]
    fn damaged_request_asks_nothing() {
        let (dir, copies) = copies();
        let (epoch, _) = begin(&copies, RUN, clock::now()).unwrap();
        ask(&copies, Duration::from_secs(60)).unwrap();
        let key = copies.join_key();
        let heap = dir.path().join("near.heap");
        let bytes = std::fs::read(&heap).unwrap();
        let at = bytes.windows(key.len()).rposition(|bytes| bytes == key);
        let file = std::fs::File::options().write(true).open(&heap).unwrap();
        // The first byte of the key stays: with another one the record would be of another key.
        let at = at.unwrap() as u64 + 1;
        std::os::unix::fs::FileExt::write_all_at(&file, b"!", at).unwrap();
        let damage = copies.cache.stored_entry(&key).unwrap_err();
        assert!(damage.is_corruption(), "{damage}");
        let moment = clock::now();
        let proof = Record {
            epoch,
            run: RUN,
            moment,
        };
        prove(&copies, proof).unwrap();
        assert_eq!(read(&copies.cache, &copies.proof_key()).unwrap(), None);
    }

    // The server or the machine was started again.
    #[test]
    fn epoch_of_other_run_is_none() {
        let (_dir, copies) = copies();
        let since = clock::now();
        begin(&copies, RUN, clock::now()).unwrap();
        assert_eq!(entry(&copies, Run(6), since).unwrap(), Entry::Begin);
    }
}
