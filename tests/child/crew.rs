//! Writers and readers of one cache, each a process of its own, of which some are killed or stopped
//! now and then.
//!
//! What must be there afterwards follows from the writers' ledgers and from what they acknowledged.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use mmapcache::{ErrorKind, MmapCache, Options};

use super::Child;
use super::contents::{Random, parse_key};
use super::ledger::{BATCH, Ledger, SHARED, Said, WRITERS, beginnings, owner};
use super::logbook::Logbook;
use super::witness::{CHECKS, LISTINGS, Listing, SUPERSEDED, VALUES};
use super::worker::{NEXT, REBUILDS, Site};

/// Nobody may keep the others waiting for longer than this, on a machine with other things to do.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Writer(u64),
    Reader(u64),
}

impl Role {
    fn start(self, site: &Site, next: u64) -> Child {
        match self {
            Self::Writer(which) => Child::start("works", &site.0, &[which, next]),
            Self::Reader(which) => Child::start("watches", &site.0, &[which]),
        }
    }

    fn logbook(self, site: &Site) -> Logbook {
        match self {
            Self::Writer(which) => site.logbook("writer", which),
            Self::Reader(which) => site.logbook("reader", which),
        }
    }
}

#[derive(Debug)]
struct Member {
    role: Role,
    child: Child,
    log: Logbook,
}

impl Member {
    fn start(role: Role, site: &Site, next: u64) -> Self {
        let mut child = role.start(site, next);
        child.expect("ready");
        let log = role.logbook(site);
        Self { role, child, log }
    }
}

/// What a crew has done and seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    pub(crate) operations: u64,
    pub(crate) rebuilds: u64,
    pub(crate) values: u64,
    pub(crate) listings: u64,
    pub(crate) superseded: u64,
    pub(crate) checks: u64,
    pub(crate) kills: u64,
    /// Kills after which more was there than had been acknowledged.
    pub(crate) unsaid: u64,
    pub(crate) stops: u64,
    /// The longest time from a kill to the next write of somebody else's.
    pub(crate) longest: Duration,
}

/// Processes that write and read one cache, and what their writes come to.
#[derive(Debug)]
pub(crate) struct Crew {
    site: Site,
    /// Opened before the first process, and used through all that happens.
    old: MmapCache,
    members: Vec<Member>,
    /// What was acknowledged, as far as it was looked at.
    ledgers: Vec<Ledger>,
    done: Done,
}

impl Crew {
    /// Four writers, and so many readers, on a new cache in an empty directory.
    pub(crate) fn start(root: &Path, options: &Options, readers: u64) -> Self {
        let site = Site(root.to_owned());
        let files = root.join("files");
        std::fs::create_dir(&files).expect("a directory");
        std::os::unix::fs::symlink(&files, root.join("linked")).expect("a link");
        let old = options.open(site.cache()).expect("a new cache");
        std::os::unix::fs::symlink(site.cache(), site.linked(true)).expect("a link");
        for (key, value) in beginnings() {
            old.put(&key, &value).expect("a put");
        }
        let writers = (0..WRITERS).map(Role::Writer);
        let roles = writers.chain((0..readers).map(Role::Reader));
        let members = roles.map(|role| Member::start(role, &site, 1)).collect();
        Self {
            members,
            site,
            old,
            ledgers: (0..WRITERS).map(Ledger::new).collect(),
            done: Done::default(),
        }
    }

    /// Kills one of the processes, and has another take its place once all is found in order.
    pub(crate) fn kill_one(&mut self, random: &mut Random) {
        let victim = self.choose(random);
        let role = self.members[victim].role;
        assert!(self.members[victim].child.is_alive(), "{role:?} gave up");
        self.members[victim].child.kill();
        self.done.kills += 1;
        self.others_go_on(victim);
        let next = match role {
            Role::Writer(writer) => self.find_out(writer),
            Role::Reader(_) => 0,
        };
        self.members[victim] = Member::start(role, &self.site, next);
    }

    /// Anybody; two times of three, whoever holds the lock at this moment.
    fn choose(&self, random: &mut Random) -> usize {
        let anybody = random.below(self.members.len() as u64) as usize;
        if random.below(3) == 0 {
            return anybody;
        }
        let holder = self.old.stats().expect("the counters").writer;
        let mut members = self.members.iter();
        let holding = members.position(|member| Some(member.child.id()) == holder);
        holding.unwrap_or(anybody)
    }

    /// Stops one of the processes where it stands, for a while.
    pub(crate) fn stop_one(&mut self, random: &mut Random, pause: Duration) {
        let victim = self.choose(random);
        self.members[victim].child.stop();
        std::thread::sleep(pause);
        self.members[victim].child.wake();
        self.done.stops += 1;
    }

    /// Everybody but the one that was killed writes on, soon.
    fn others_go_on(&mut self, victim: usize) {
        let began = Instant::now();
        let before: Vec<_> = self.members.iter().map(|one| one.log.read(NEXT)).collect();
        // Whoever takes the lock finishes what the kill has left half done.
        drop(self.old.writer().expect("the writer after a kill"));
        self.done.longest = self.done.longest.max(began.elapsed());
        for (which, member) in self.members.iter_mut().enumerate() {
            let waits = which != victim && matches!(member.role, Role::Writer(_));
            while waits && member.log.read(NEXT) == before[which] {
                assert!(member.child.is_alive(), "{:?} gave up", member.role);
                assert!(began.elapsed() < PATIENCE, "{:?} waits", member.role);
                std::thread::sleep(Duration::from_micros(200));
            }
        }
    }

    /// What a killed writer has left: all that it acknowledged, and nothing but what came next.
    /// Nobody else writes its keys, so they hold still while the others work. Returns the number of
    /// its next operation.
    fn find_out(&mut self, writer: u64) -> u64 {
        let found = self.found_of(writer);
        let acknowledged = self.logbook_of(writer).read(NEXT).max(1);
        let ledger = &mut self.ledgers[writer as usize];
        while ledger.next < acknowledged {
            ledger.advance();
        }
        // More may be known of an earlier kill: the one that took its place may have acknowledged
        // nothing before it was killed itself.
        let before = ledger.clone();
        while (&ledger.own, &ledger.tallies) != (&found.own, &found.tallies) {
            ledger.advance();
            assert!(
                ledger.next <= before.next + BATCH,
                "writer {writer} after {} operations: {}",
                before.next,
                differences(&found, &before)
            );
        }
        self.done.unsaid += u64::from(ledger.next > before.next);
        ledger.next
    }

    fn logbook_of(&self, writer: u64) -> &Logbook {
        &self.members[writer as usize].log
    }

    /// What one writer's keys say, as an old handle and a new one see them.
    fn found_of(&self, writer: u64) -> Found {
        let fresh = MmapCache::open(self.site.cache()).expect("the cache");
        let found = listed(&fresh, writer);
        let by_old = listed(&self.old, writer);
        assert_eq!(by_old, found, "as an old handle sees it");
        for (key, &number) in &found.own {
            let value = self.old.get(key).expect("a look").expect("a listed key");
            assert_eq!(Said::of(key, &value).number, number);
        }
        found
    }

    /// Dismisses everybody, and checks all that is there.
    pub(crate) fn finish(mut self) -> Done {
        let mut members = std::mem::take(&mut self.members);
        members.iter_mut().for_each(|member| member.child.dismiss());
        for member in members {
            assert_eq!(member.child.finish(), "done", "{:?}", member.role);
            match member.role {
                Role::Writer(writer) => {
                    let ledger = &mut self.ledgers[writer as usize];
                    while ledger.next < member.log.read(NEXT) {
                        ledger.advance();
                    }
                    self.done.operations += ledger.next - 1;
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
        self.all_is_there(&self.old);
        self.all_is_there(&MmapCache::open(self.site.cache()).expect("the cache"));
        self.leaves_nothing_behind();
        self.done
    }

    /// Contents, found in every way, are what the ledgers come to.
    fn all_is_there(&self, cache: &MmapCache) {
        let mut own = BTreeMap::new();
        for ledger in &self.ledgers {
            let found = listed_once(cache, ledger.writer).expect("a listing");
            assert_eq!(found.tallies, ledger.tallies, "writer {}", ledger.writer);
            assert!(found.own == ledger.own, "{}", differences(&found, ledger));
            own.extend(found.own);
        }
        assert_eq!(cache.len(), own.len() as u64 + SHARED);
        for (key, number) in own {
            let entry = cache.entry(&key).expect("a look").expect("an entry");
            assert_eq!(Said::of(&key, entry.value()).number, number);
            assert_eq!(cache.version(&key).expect("a look"), Some(entry.version()));
        }
        let keys: mmapcache::Result<Vec<_>> = cache.keys().expect("a listing").collect();
        assert_eq!(keys.expect("keys").len() as u64, cache.len());
        let report = cache.verify().run().expect("a check");
        assert!(report.is_clean(), "{:?}", report.problems);
        assert!(report.totals_compared);
        assert_eq!(report.entries, cache.len());
        assert_eq!(cache.stats().expect("the counters").dropped, 0);
    }

    /// What interrupted rebuilds and segments left is gone after a rebuild that is finished.
    fn leaves_nothing_behind(&self) {
        self.old.clear().expect("an empty cache");
        let files = std::fs::read_dir(self.site.0.join("files")).expect("a directory");
        let names: Vec<_> = files
            .map(|file| file.expect("a file").file_name())
            .collect();
        assert_eq!(names.len(), 4, "{names:?}");
    }
}

/// What one writer's keys say.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    own: BTreeMap<Vec<u8>, u64>,
    tallies: [u64; SHARED as usize],
}

/// Lists the whole cache, again where others replaced it meanwhile.
fn listed(cache: &MmapCache, writer: u64) -> Found {
    let began = Instant::now();
    loop {
        match listed_once(cache, writer) {
            Ok(found) => return found,
            Err(error) => assert!(matches!(error.kind(), ErrorKind::Superseded), "{error}"),
        }
        assert!(began.elapsed() < PATIENCE, "no listing comes to its end");
    }
}

fn listed_once(cache: &MmapCache, writer: u64) -> mmapcache::Result<Found> {
    let (mut own, mut tallies) = (BTreeMap::new(), [0; SHARED as usize]);
    let mut listing = Listing::default();
    for item in cache.iter()? {
        let (key, value) = item?;
        listing.met(&key);
        let said = Said::of(&key, &value);
        match owner(&key) {
            Some(owner) if owner == writer => {
                let twice = own.insert(key, said.number);
                assert_eq!(twice, None, "a key that is listed twice");
            }
            Some(_) => {}
            None => {
                let (_, index) = parse_key(&key).expect("a key");
                tallies[index as usize] = said.tallies[writer as usize];
            }
        }
    }
    listing.has_each_once();
    Ok(Found { own, tallies })
}

fn differences(found: &Found, expected: &Ledger) -> String {
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
