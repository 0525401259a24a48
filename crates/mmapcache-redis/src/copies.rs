//! The copies in the local file, and the rule by which a reply becomes one.
//!
//! The file is shared by processes that do not know how far the others are. So before a request is
//! sent, a *claim* is put beside the key, in the file; each process that hears that the key changed
//! removes the claim and then the copy; a reply is stored only under the writer lock and if its claim is still
//! there. A process that is stopped between reply and store, for however long, finds its claim gone.
//! One that is killed there stored nothing.
//!
//! A copy ends with the epoch in which its request was sent and a byte that says what it is. May call
//! `mmapcache`.

use std::time::Duration;

use mmapcache::{Cache, InsertOptions, Version};

/// Bytes after the value of a copy: the epoch, and [`VALUE`] or [`ABSENT`].
const TRAILER: usize = 9;
const VALUE: u8 = 1;
const ABSENT: u8 = 2;

/// Bytes before the key: what the entry is, and the group.
const PREFIX: usize = 9;
/// The longest key that can be copied; longer ones are asked of the server each time.
const MAX_KEY: usize = 65_535 - PREFIX;

/// What an entry of the file is.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
enum Kind {
    Copy = b'c',
    Claim = b'f',
    Computation = b'o',
    Epoch = b'e',
    Join = b'j',
    Proof = b'p',
}

/// The copies of one group: of one server, database and set of prefixes.
#[derive(Debug)]
pub(crate) struct Copies {
    pub(crate) cache: Cache,
    group: [u8; 8],
    claim_life: Duration,
}

/// A copy: its epoch, and its value or that there is none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Copy {
    pub(crate) epoch: u64,
    pub(crate) value: Option<Vec<u8>>,
}

/// The right to store the reply to one request.
#[derive(Debug)]
pub(crate) struct Claim {
    key: Vec<u8>,
    version: Version,
    epoch: u64,
}

impl Copies {
    /// A claim of a killed process ends after `claim_life`; until then its key is not copied.
    pub(crate) fn new(cache: Cache, group: u64, claim_life: Duration) -> Self {
        Self {
            cache,
            group: group.to_le_bytes(),
            claim_life,
        }
    }

    pub(crate) fn can_hold(key: &[u8]) -> bool {
        key.len() <= MAX_KEY
    }

    fn local(&self, kind: Kind, key: &[u8]) -> Vec<u8> {
        let mut local = Vec::with_capacity(PREFIX + key.len());
        local.push(kind as u8);
        local.extend_from_slice(&self.group);
        local.extend_from_slice(key);
        local
    }

    /// Returns the copy of a key, of whatever epoch. One lookup in the file.
    pub(crate) fn get(&self, key: &[u8]) -> mmapcache::Result<Option<Copy>> {
        let stored = self.cache.get(self.local(Kind::Copy, key))?;
        Ok(stored.and_then(decode))
    }

    /// Claims a key before its request is sent. `None` if another caller has it.
    pub(crate) fn claim(&self, key: &[u8], epoch: u64) -> mmapcache::Result<Option<Claim>> {
        let options = InsertOptions::new().ttl(self.claim_life);
        let options = options.stale_for(Duration::ZERO);
        let version = self.cache.add(self.local(Kind::Claim, key), [], &options)?;
        Ok(version.map(|version| Claim {
            key: key.to_vec(),
            version,
            epoch,
        }))
    }

    /// Stores what the server answered, if the claim is still there. Returns whether it was.
    pub(crate) fn store(
        &self,
        claim: &Claim,
        value: Option<&[u8]>,
        life: Duration,
    ) -> mmapcache::Result<bool> {
        let of_claim = self.local(Kind::Claim, &claim.key);
        let mut writer = self.cache.writer()?;
        if !self.is_held(claim, &of_claim)? {
            return Ok(false);
        }
        let options = InsertOptions::new().ttl(life).stale_for(Duration::ZERO);
        let copy = encode(value, claim.epoch);
        writer.insert_with(self.local(Kind::Copy, &claim.key), copy, &options)?;
        writer.remove(of_claim)?;
        writer.commit()?;
        Ok(true)
    }

    /// Gives a claim up.
    pub(crate) fn release(&self, claim: &Claim) -> mmapcache::Result<()> {
        let of_claim = self.local(Kind::Claim, &claim.key);
        if !self.is_held(claim, &of_claim)? {
            return Ok(());
        }
        let mut writer = self.cache.writer()?;
        if self.is_held(claim, &of_claim)? {
            writer.remove(of_claim)?;
        }
        writer.commit()
    }

    fn is_held(&self, claim: &Claim, of_claim: &[u8]) -> mmapcache::Result<bool> {
        let found = self.cache.stored_entry(of_claim)?;
        Ok(found.is_some_and(|found| found.version() == claim.version && !found.is_expired()))
    }

    /// Drops the copy of a key and the claim to store one. Returns whether there was a copy. Two lookups
    /// in the file if there is neither.
    ///
    /// The claim first: a reply that is stored before its claim is removed is met by the second step.
    pub(crate) fn drop_key(&self, key: &[u8]) -> mmapcache::Result<bool> {
        self.remove_if_there(&self.local(Kind::Claim, key))?;
        self.remove_if_there(&self.local(Kind::Copy, key))
    }

    fn remove_if_there(&self, local: &[u8]) -> mmapcache::Result<bool> {
        match self.cache.stored_entry(local) {
            Ok(None) => return Ok(false),
            Ok(Some(_)) => {}
            // A damaged entry: removed unseen.
            Err(error) if error.is_corruption() => {}
            Err(error) => return Err(error),
        }
        self.cache.remove(local)?;
        Ok(true)
    }

    /// The key of the computation of a key's value.
    pub(crate) fn computation_key(&self, key: &[u8]) -> Vec<u8> {
        self.local(Kind::Computation, key)
    }

    pub(crate) fn epoch_key(&self) -> Vec<u8> {
        self.local(Kind::Epoch, &[])
    }

    pub(crate) fn join_key(&self) -> Vec<u8> {
        self.local(Kind::Join, &[])
    }

    pub(crate) fn proof_key(&self) -> Vec<u8> {
        self.local(Kind::Proof, &[])
    }
}

fn encode(value: Option<&[u8]>, epoch: u64) -> Vec<u8> {
    let bytes = value.unwrap_or_default();
    let mut copy = Vec::with_capacity(bytes.len() + TRAILER);
    copy.extend_from_slice(bytes);
    copy.extend_from_slice(&epoch.to_le_bytes());
    copy.push(if value.is_some() { VALUE } else { ABSENT });
    copy
}

/// `None` if another program put something else there.
fn decode(mut stored: Vec<u8>) -> Option<Copy> {
    let length = stored.len().checked_sub(TRAILER)?;
    let (epoch, kind) = stored[length..].split_first_chunk::<8>()?;
    let (epoch, kind) = (u64::from_le_bytes(*epoch), kind[0]);
    stored.truncate(length);
    match kind {
        VALUE => Some(Copy {
            epoch,
            value: Some(stored),
        }),
        ABSENT => Some(Copy { epoch, value: None }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn two_handles() -> (tempfile::TempDir, Copies, Copies) {
        let dir = tempfile::tempdir().unwrap();
        let open = || {
            let cache = Cache::open(dir.path().join("near")).unwrap();
            Copies::new(cache, 7, MINUTE)
        };
        let (one, other) = (open(), open());
        (dir, one, other)
    }

    // As a process that is stopped after the reply, while another one hears of the change.
    #[test]
    fn dropped_claim_stores_nothing() {
        let (_dir, one, other) = two_handles();
        let claim = one.claim(b"k", 1).unwrap().unwrap();
        other.drop_key(b"k").unwrap();
        assert!(!one.store(&claim, Some(b"old"), MINUTE).unwrap());
        assert_eq!(other.get(b"k").unwrap(), None);
    }

    // The other process claims the key again in between: that claim is not ours.
    #[test]
    fn successor_claim_stores_nothing() {
        let (_dir, one, other) = two_handles();
        let claim = one.claim(b"k", 1).unwrap().unwrap();
        other.drop_key(b"k").unwrap();
        let successor = other.claim(b"k", 1).unwrap().unwrap();
        assert!(!one.store(&claim, Some(b"old"), MINUTE).unwrap());
        assert!(other.store(&successor, Some(b"new"), MINUTE).unwrap());
        assert_eq!(one.get(b"k").unwrap().unwrap().value.unwrap(), b"new");
    }

    #[test]
    fn stored_copy_is_dropped() {
        let (_dir, one, other) = two_handles();
        let claim = one.claim(b"k", 1).unwrap().unwrap();
        assert!(one.store(&claim, Some(b"v"), MINUTE).unwrap());
        assert!(other.drop_key(b"k").unwrap());
        assert_eq!(one.get(b"k").unwrap(), None);
        assert!(!other.drop_key(b"k").unwrap());
    }

    #[test]
    fn second_claim_waits_for_first() {
        let (_dir, one, other) = two_handles();
        let claim = one.claim(b"k", 1).unwrap().unwrap();
        assert!(other.claim(b"k", 1).unwrap().is_none());
        one.release(&claim).unwrap();
        assert!(other.claim(b"k", 1).unwrap().is_some());
    }

    // A file may have a default that serves entries after their deadline.
    #[test]
    fn copies_have_no_grace_period() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::builder(dir.path().join("near"))
            .stale_while_revalidate(MINUTE)
            .open()
            .unwrap();
        let copies = Copies::new(cache, 7, MINUTE);
        let claim = copies.claim(b"k", 1).unwrap().unwrap();
        let life = Duration::from_millis(5);
        assert!(copies.store(&claim, Some(b"v"), life).unwrap());
        std::thread::sleep(Duration::from_millis(10));
        assert_eq!(copies.get(b"k").unwrap(), None);
    }

    #[test]
    fn absence_differs_from_emptiness() {
        assert_eq!(decode(encode(None, 3)).unwrap().value, None);
        assert_eq!(decode(encode(Some(b""), 3)).unwrap().value, Some(vec![]));
        assert_eq!(decode(encode(Some(b"x"), 3)).unwrap().epoch, 3);
        assert_eq!(decode(b"short".to_vec()), None);
    }
}
