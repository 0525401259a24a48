//! Writer and reader processes on one cache, some of which are killed or stopped.
//!
//! The expected state follows from the writers' operations and from what they acknowledged.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use mmapcache::{ErrorKind, MmapCache, Options};

use super::Child;
use super::ack_log::AckLog;
use super::checking_reader::{CHECKS, LISTINGS, Listing, SUPERSEDED, VALUES};
use super::contents::{Random, parse_key};
use super::expected_state::{
    BATCH, ExpectedState, ParsedValue, SHARED, WRITERS, initial_entries, owner,
};
use super::lock_watch::{Contenders, LockWatch};
use super::worker::{NEXT, REBUILDS, TestDir};

/// No process may wait longer than this, on a machine that also runs other programs.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long a kill waits for its moment, or for the next holder of the lock.
const PATIENCE: Duration = Duration::from_millis(100);
/// How often owner ids are read: a rebuild gives the processes others.
const SEARCHES: Duration = Duration::from_millis(10);

/// When two processes are killed, and which two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Any two, at once.
    Any,
    /// The holder of the lock, and the waiter that it is reserved for.
    Reserved,
    /// The waiter to which a lock without a holder is being handed, and any other process.
    Handed,
}

impl Moment {
    fn is_now(self, seen: Contenders) -> bool {
        match self {
            Self::Any => true,
            Self::Reserved => {
                seen.holder.is_some() && seen.next.is_some() && seen.holder != seen.next
            }
            Self::Handed => seen.holder.is_none() && seen.next.is_some(),
        }
    }

    /// Whether the processes that were chosen by what was seen still were in that state when the
    /// kills had been sent. A waiter that was being handed the lock may have just taken it.
    fn is_hit(self, seen: Contenders, after: Contenders) -> bool {
        let taken = self == Self::Handed && after.holder == seen.next;
        self.is_now(seen) && (after == seen || taken)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Writer(u64),
    Reader(u64),
}

impl Role {
    fn start(self, dir: &TestDir, expected: &[ExpectedState]) -> Child {
        match self {
            Self::Writer(which) => {
                let numbers = expected[which as usize].to_numbers();
                Child::start("writes", &dir.0, &numbers)
            }
            Self::Reader(which) => Child::start("reads", &dir.0, &[which]),
        }
    }

    fn ack_log(self, dir: &TestDir) -> AckLog {
        match self {
            Self::Writer(which) => dir.ack_log("writer", which),
            Self::Reader(which) => dir.ack_log("reader", which),
        }
    }
}

#[derive(Debug)]
struct Member {
    role: Role,
    child: Child,
    log: AckLog,
}

impl Member {
    fn start(role: Role, dir: &TestDir, expected: &[ExpectedState]) -> Self {
        let mut child = role.start(dir, expected);
        child.expect("ready");
        let log = role.ack_log(dir);
        Self { role, child, log }
    }
}

/// What a group has done and read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    pub(crate) operations: u64,
    pub(crate) rebuilds: u64,
    pub(crate) values: u64,
    pub(crate) listings: u64,
    pub(crate) superseded: u64,
    pub(crate) checks: u64,
    pub(crate) kills: u64,
    /// Kills after which more was found done than had been acknowledged.
    pub(crate) unacknowledged: u64,
    /// Pairs that were killed: holder and next waiter, and with a waiter that was handed the lock.
    pub(crate) reserved: u64,
    pub(crate) handed: u64,
    /// Processes that took the lock from a pair that was killed, and were killed too.
    pub(crate) successors: u64,
    pub(crate) stops: u64,
    /// The longest time from a kill to the next write by another process.
    pub(crate) longest: Duration,
}

/// Processes that write and read one cache, and the state that they must lead to.
#[derive(Debug)]
pub(crate) struct ProcessGroup {
    dir: TestDir,
    /// Opened before the first process, and used until the end.
    old: MmapCache,
    members: Vec<Member>,
    watch: LockWatch,
    /// The acknowledged operations, as far as they were read.
    expected: Vec<ExpectedState>,
    done: Done,
}

impl ProcessGroup {
    /// Starts at most eight writers, and at most four readers, on a new cache in an empty directory.
    pub(crate) fn start(root: &Path, options: &Options, [writers, readers]: [u64; 2]) -> Self {
        assert!(writers <= WRITERS && readers <= 4);
        let dir = TestDir(root.to_owned());
        let files = root.join("files");
        std::fs::create_dir(&files).expect("a directory");
        std::os::unix::fs::symlink(&files, root.join("linked")).expect("a link");
        let old = options.open(dir.cache()).expect("a new cache");
        std::os::unix::fs::symlink(dir.cache(), dir.linked(true)).expect("a link");
        for (key, value) in initial_entries() {
            old.put(&key, &value).expect("a put");
        }
        let writers = (0..writers).map(Role::Writer);
        let roles = writers.chain((0..readers).map(Role::Reader));
        let expected: Vec<_> = (0..WRITERS).map(ExpectedState::new).collect();
        let start = |role| Member::start(role, &dir, &expected);
        Self {
            members: roles.map(start).collect(),
            watch: LockWatch::new(&dir.cache()),
            dir,
            old,
            expected,
            done: Done::default(),
        }
    }

    /// Kills one process, checks what it leaves, and starts another in its role.
    pub(crate) fn kill_one(&mut self, random: &mut Random) {
        let killed = self.choose(random);
        let began = Instant::now();
        self.members[killed].child.send_kill();
        self.replace_killed(&[killed], began);
    }

    /// Kills two processes in one instant, and in every second case also the process that takes the
    /// lock after them, within a millisecond. Checks what they leave, and replaces them.
    pub(crate) fn kill_several(&mut self, random: &mut Random, moment: Moment) {
        let (pair, seen) = self.choose_two(random, moment);
        let began = Instant::now();
        for member in pair {
            self.members[member].child.send_kill();
        }
        let is_hit = moment.is_hit(seen, self.watch.read());
        self.done.reserved += u64::from(is_hit && moment == Moment::Reserved);
        self.done.handed += u64::from(is_hit && moment == Moment::Handed);
        let mut killed = pair.to_vec();
        if random.below(2) == 0 {
            let pause = Duration::from_micros([0, 0, 20, 1_000][random.below(4) as usize]);
            killed.extend(self.kill_successor(&pair, pause));
        }
        self.replace_killed(&killed, began);
        let report = self.old.verify().run().expect("a check");
        assert!(report.is_clean(), "{:?}", report.problems);
    }

    /// Reads who contends for the lock until that is what is wanted, or until it has waited for too
    /// long. Returns what it read last.
    fn await_contenders(&mut self, is_wanted: impl Fn(&Self, Contenders) -> bool) -> Contenders {
        let began = Instant::now();
        let mut searches = 0;
        loop {
            if began.elapsed() >= searches * SEARCHES {
                let processes = self.members.iter().map(|member| member.child.id());
                self.watch.find_owner_ids(processes);
                searches += 1;
            }
            let seen = self.watch.read();
            if is_wanted(self, seen) || began.elapsed() > PATIENCE {
                return seen;
            }
        }
    }

    /// Waits for the moment, and chooses two processes for it, the first to be killed first.
    fn choose_two(&mut self, random: &mut Random, moment: Moment) -> ([usize; 2], Contenders) {
        let seen = self.await_contenders(|_, seen| moment.is_now(seen));
        let named = |process: Option<u32>| self.position(process?);
        let (holder, next) = match moment {
            Moment::Any => (None, None),
            _ => (named(seen.holder), named(seen.next)),
        };
        let count = self.members.len();
        let any = random.below(count as u64) as usize;
        let first = next.or(holder).unwrap_or(any);
        let other = (first + 1 + random.below(count as u64 - 1) as usize) % count;
        let second = holder.filter(|&holder| holder != first).unwrap_or(other);
        let pair = match random.below(2) {
            0 => [first, second],
            _ => [second, first],
        };
        (pair, seen)
    }

    fn position(&self, process: u32) -> Option<usize> {
        let mut members = self.members.iter();
        members.position(|member| member.child.id() == process)
    }

    /// Waits until another process than the killed ones holds the lock. After a pause it kills the one
    /// that holds it then.
    fn kill_successor(&mut self, killed: &[usize], pause: Duration) -> Option<usize> {
        let successor = |group: &Self, seen: Contenders| {
            let holder = seen.holder.and_then(|holder| group.position(holder));
            holder.filter(|member| !killed.contains(member))
        };
        let seen = self.await_contenders(|group, seen| successor(group, seen).is_some());
        let first = successor(self, seen)?;
        let began = Instant::now();
        while began.elapsed() < pause {
            std::hint::spin_loop();
        }
        let now = match pause {
            Duration::ZERO => seen,
            _ => self.watch.read(),
        };
        let chosen = successor(self, now).unwrap_or(first);
        self.members[chosen].child.send_kill();
        self.done.successors += 1;
        Some(chosen)
    }

    /// Checks what processes left to which a kill was sent, and starts others in their roles.
    fn replace_killed(&mut self, killed: &[usize], began: Instant) {
        for &member in killed {
            self.members[member].child.expect_killed();
            self.done.kills += 1;
        }
        self.assert_others_continue(killed, began);
        for &member in killed {
            let role = self.members[member].role;
            if let Role::Writer(writer) = role {
                self.check_killed_writer(writer);
            }
            self.members[member] = Member::start(role, &self.dir, &self.expected);
        }
    }

    /// Chooses a process: in two cases of three the one that holds the lock at this moment.
    fn choose(&self, random: &mut Random) -> usize {
        let any = random.below(self.members.len() as u64) as usize;
        if random.below(3) == 0 {
            return any;
        }
        let holder = self.old.stats().expect("the counters").writer;
        let holder = holder.and_then(|holder| self.position(holder));
        holder.unwrap_or(any)
    }

    /// Stops one process for a while.
    pub(crate) fn stop_one(&mut self, random: &mut Random, pause: Duration) {
        let killed = self.choose(random);
        self.members[killed].child.stop();
        std::thread::sleep(pause);
        self.members[killed].child.wake();
        self.done.stops += 1;
    }

    /// Returns the CPU time that the processes of now have used, in seconds.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let members = self.members.iter();
        members.map(|member| member.child.cpu_seconds()).sum()
    }

    /// Asserts that every other writer soon writes again.
    fn assert_others_continue(&mut self, killed: &[usize], began: Instant) {
        let before: Vec<_> = self.members.iter().map(|one| one.log.read(NEXT)).collect();
        // Taking the lock recovers what the killed process left.
        drop(self.old.writer().expect("the writer after a kill"));
        let waited = began.elapsed();
        assert!(waited < DEADLINE, "the lock was free after {waited:?}");
        self.done.longest = self.done.longest.max(waited);
        let began = Instant::now();
        for (which, member) in self.members.iter_mut().enumerate() {
            let waits = !killed.contains(&which) && matches!(member.role, Role::Writer(_));
            while waits && member.log.read(NEXT) == before[which] {
                assert!(member.child.is_alive(), "{:?} gave up", member.role);
                let lock = self.watch.read();
                assert!(
                    began.elapsed() < DEADLINE,
                    "{:?} waits: {lock:?}",
                    member.role
                );
                std::thread::sleep(Duration::from_micros(200));
            }
        }
    }

    /// Asserts that a killed writer left everything acknowledged and, after it, only a part of the
    /// next batch. No other process writes these keys, so that they do not change during the check.
    fn check_killed_writer(&mut self, writer: u64) {
        let found = self.read_keys_of(writer);
        let acknowledged = self.ack_log_of(writer).read(NEXT).max(1);
        let expected = &mut self.expected[writer as usize];
        while expected.next < acknowledged {
            expected.advance();
        }
        // An earlier kill may have left more: its successor may have been killed before it
        // acknowledged anything.
        let before = expected.clone();
        while (&expected.own, &expected.tallies) != (&found.own, &found.tallies) {
            expected.advance();
            assert!(
                expected.next <= before.next + BATCH,
                "writer {writer} after {} operations: {}",
                before.next,
                differences(&found, &before)
            );
        }
        self.done.unacknowledged += u64::from(expected.next > before.next);
    }

    fn ack_log_of(&self, writer: u64) -> &AckLog {
        &self.members[writer as usize].log
    }

    /// Returns one writer's keys, read by an old handle and a new one.
    fn read_keys_of(&self, writer: u64) -> Found {
        let fresh = MmapCache::open(self.dir.cache()).expect("the cache");
        let found = listed(&fresh, writer);
        let by_old = listed(&self.old, writer);
        assert_eq!(by_old, found, "as an old handle sees it");
        for (key, &number) in &found.own {
            let value = self.old.get(key).expect("a lookup").expect("a listed key");
            assert_eq!(ParsedValue::of(key, &value).number, number);
        }
        found
    }

    /// Ends all processes and checks the whole cache.
    pub(crate) fn finish(mut self) -> Done {
        let mut members = std::mem::take(&mut self.members);
        members.iter_mut().for_each(|member| member.child.dismiss());
        for member in members {
            assert_eq!(member.child.finish(), "done", "{:?}", member.role);
            match member.role {
                Role::Writer(writer) => {
                    let expected = &mut self.expected[writer as usize];
                    while expected.next < member.log.read(NEXT) {
                        expected.advance();
                    }
                    self.done.operations += expected.next - 1;
                    self.done.rebuilds += member.log.read(REBUILDS);
                }
                Role::Reader(_) => {
                    self.done.values += member.log.read(VALUES);
                    self.done.listings += member.log.read(LISTINGS);
                    self.done.superseded += member.log.read(SUPERSEDED);
                    self.done.checks += member.log.read(CHECKS);
                }
            }
        }
        self.assert_complete(&self.old);
        self.assert_complete(&MmapCache::open(self.dir.cache()).expect("the cache"));
        self.assert_no_leftovers();
        self.done
    }

    /// Asserts that every way of reading gives the expected state.
    fn assert_complete(&self, cache: &MmapCache) {
        let mut own = BTreeMap::new();
        for expected in &self.expected {
            let found = listed_once(cache, expected.writer).expect("a listing");
            assert_eq!(
                found.tallies, expected.tallies,
                "writer {}",
                expected.writer
            );
            assert!(
                found.own == expected.own,
                "{}",
                differences(&found, expected)
            );
            own.extend(found.own);
        }
        assert_eq!(cache.len(), own.len() as u64 + SHARED);
        for (key, number) in own {
            let entry = cache.entry(&key).expect("a lookup").expect("an entry");
            assert_eq!(ParsedValue::of(&key, entry.value()).number, number);
            assert_eq!(
                cache.version(&key).expect("a lookup"),
                Some(entry.version())
            );
        }
        let keys: mmapcache::Result<Vec<_>> = cache.keys().expect("a listing").collect();
        assert_eq!(keys.expect("keys").len() as u64, cache.len());
        let report = cache.verify().run().expect("a check");
        assert!(report.is_clean(), "{:?}", report.problems);
        assert!(report.totals_compared);
        assert_eq!(report.entries, cache.len());
        assert_eq!(cache.stats().expect("the counters").dropped, 0);
    }

    /// Asserts that a completed rebuild removes what interrupted ones left.
    fn assert_no_leftovers(&self) {
        self.old.clear().expect("an empty cache");
        let files = std::fs::read_dir(self.dir.0.join("files")).expect("a directory");
        let names: Vec<_> = files
            .map(|file| file.expect("a file").file_name())
            .collect();
        assert_eq!(names.len(), 4, "{names:?}");
    }
}

/// The values of one writer's keys.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    own: BTreeMap<Vec<u8>, u64>,
    tallies: [u64; SHARED as usize],
}

/// Lists the whole cache, again if another process replaced it.
fn listed(cache: &MmapCache, writer: u64) -> Found {
    let began = Instant::now();
    loop {
        match listed_once(cache, writer) {
            Ok(found) => return found,
            Err(error) => assert!(matches!(error.kind(), ErrorKind::Superseded), "{error}"),
        }
        assert!(began.elapsed() < DEADLINE, "no listing comes to its end");
    }
}

fn listed_once(cache: &MmapCache, writer: u64) -> mmapcache::Result<Found> {
    let (mut own, mut tallies) = (BTreeMap::new(), [0; SHARED as usize]);
    let mut listing = Listing::default();
    for item in cache.iter()? {
        let (key, value) = item?;
        listing.add(&key);
        let parsed = ParsedValue::of(&key, &value);
        match owner(&key) {
            Some(owner) if owner == writer => {
                let twice = own.insert(key, parsed.number);
                assert_eq!(twice, None, "a key that is listed twice");
            }
            Some(_) => {}
            None => {
                let (_, index) = parse_key(&key).expect("a key");
                tallies[index as usize] = parsed.tallies[writer as usize];
            }
        }
    }
    listing.assert_each_once();
    Ok(Found { own, tallies })
}

fn differences(found: &Found, expected: &ExpectedState) -> String {
    let missing = |from: &BTreeMap<Vec<u8>, u64>, of: &BTreeMap<Vec<u8>, u64>| {
        let missing = of
            .iter()
            .filter(|&(key, number)| from.get(key) != Some(number));
        let named =
            missing.map(|(key, number)| (String::from_utf8_lossy(key).into_owned(), *number));
        named.collect::<Vec<_>>()
    };
    let (lost, foreign) = (
        missing(&found.own, &expected.own),
        missing(&expected.own, &found.own),
    );
    let (seen, known) = (found.tallies, expected.tallies);
    format!("lost {lost:?}, foreign {foreign:?}, tallies {seen:?} instead of {known:?}")
}
