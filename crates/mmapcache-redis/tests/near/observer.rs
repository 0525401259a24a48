//! An observer counts stale values while writers write and everything breaks.
//!
//! Writers store growing numbers and note when the server has acknowledged each. Whatever a reader gets
//! must be at least the number that was acknowledged a window before it asked.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use mmapcache_redis::{NearCache, Source};
use rustix::process::Signal;

use crate::children::server_at;
use crate::server::{Proxy, Redis};
use crate::{Ending, WINDOW, open, text, wait_until_served};

const KEYS: usize = 20;
const TIME: Duration = Duration::from_secs(6);
/// On a busy machine the same number of answers by copies takes longer, with an end.
const LONGEST: Duration = Duration::from_secs(60);
const ENOUGH: u64 = 1_000;

fn key(number: usize) -> String {
    format!("k{number}")
}

/// When the server acknowledged which number, for each key.
struct Acknowledged([Mutex<Vec<(Instant, u64)>>; KEYS]);

impl Acknowledged {
    fn at_least(&self, key: usize, moment: Instant) -> u64 {
        let known = self.0[key].lock().unwrap();
        let earlier = known.iter().rev().find(|(at, _)| *at <= moment);
        earlier.map_or(0, |(_, number)| *number)
    }

    fn last(&self, key: usize) -> u64 {
        self.0[key]
            .lock()
            .unwrap()
            .last()
            .map_or(0, |(_, number)| *number)
    }
}

struct Observer {
    acknowledged: Acknowledged,
    is_over: AtomicBool,
    local: AtomicU64,
    answered: AtomicU64,
}

impl Observer {
    /// Writes numbers to some keys; the server may be stopped, but is never restarted.
    fn write(&self, redis: &Redis, keys: impl Iterator<Item = usize> + Clone) {
        let mut client = redis.client();
        let mut number = 0;
        while !self.is_over.load(SeqCst) {
            number += 1;
            for index in keys.clone() {
                let mut command = redis::cmd("SET");
                command
                    .arg(key(index))
                    .arg(number)
                    .exec(&mut client)
                    .unwrap();
                let now = Instant::now();
                self.acknowledged.0[index]
                    .lock()
                    .unwrap()
                    .push((now, number));
                thread::sleep(Duration::from_micros(300 + number * 37 % 900));
            }
        }
    }

    fn read(&self, near: &NearCache) {
        let mut index = 0;
        while !self.is_over.load(SeqCst) {
            index = (index + 7) % KEYS;
            let asked = Instant::now();
            let Ok(answer) = near.lookup(key(index)) else {
                continue;
            };
            self.answered.fetch_add(1, SeqCst);
            self.local
                .fetch_add(u64::from(answer.source == Source::Local), SeqCst);
            let seen = text(answer.value).map_or(0, |text| text.parse().unwrap());
            let Some(before) = asked.checked_sub(WINDOW) else {
                continue;
            };
            let known = self.acknowledged.at_least(index, before);
            assert!(
                seen >= known,
                "{} is {seen}, was {known} {WINDOW:?} ago",
                key(index)
            );
        }
    }

    fn break_things(&self, redis: &Redis, proxies: &[&Proxy]) {
        let _ending = Ending(&self.is_over);
        let begun = Instant::now();
        let mut round = 0_usize;
        let is_enough = || self.local.load(SeqCst) > ENOUGH;
        while begun.elapsed() < TIME || (begun.elapsed() < LONGEST && !is_enough()) {
            round += 1;
            thread::sleep(Duration::from_millis(130 + (round as u64 * 53) % 200));
            let proxy = proxies[round % proxies.len()];
            match round % 5 {
                0 => {
                    redis.signal(Signal::STOP);
                    thread::sleep(Duration::from_millis(300));
                    redis.signal(Signal::CONT);
                }
                1 => {
                    proxy.freeze(true);
                    thread::sleep(Duration::from_millis(300));
                    proxy.freeze(false);
                }
                // Of a database without keys: it tells everybody to drop everything.
                2 => {
                    let mut client = redis.client();
                    redis::cmd("SELECT").arg(9).exec(&mut client).unwrap();
                    redis::cmd("FLUSHDB").exec(&mut client).unwrap();
                }
                _ => proxy.cut(),
            }
        }
    }
}

#[test]
fn observer_sees_nothing_stale() {
    let (dir, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    let proxies = [Proxy::to(&redis), Proxy::to(&redis)];
    let handles = [redis.port, proxies[0].port, proxies[1].port]
        .map(|port| open(dir.path(), server_at(port)));
    let observer = Observer {
        acknowledged: Acknowledged([(); KEYS].map(|()| Mutex::default())),
        is_over: AtomicBool::new(false),
        local: AtomicU64::new(0),
        answered: AtomicU64::new(0),
    };
    thread::scope(|scope| {
        scope.spawn(|| observer.write(&redis, (0..KEYS).step_by(2)));
        scope.spawn(|| observer.write(&redis, (1..KEYS).step_by(2)));
        for near in &handles {
            scope.spawn(|| observer.read(near));
        }
        observer.break_things(&redis, &[&proxies[0], &proxies[1]]);
    });
    // After quiet, nothing is old at all.
    for near in &handles {
        wait_until_served(near);
    }
    thread::sleep(WINDOW);
    for near in &handles {
        for (index, source) in (0..KEYS).flat_map(|index| [(index, 1), (index, 2)]) {
            let seen = text(near.get(key(index)).unwrap()).map_or(0, |text| text.parse().unwrap());
            assert_eq!(
                seen,
                observer.acknowledged.last(index),
                "{} at {source}",
                key(index)
            );
        }
    }
    let (local, answered) = (observer.local.load(SeqCst), observer.answered.load(SeqCst));
    println!(
        "{answered} answers, {local} by copies; {:?}",
        handles.map(|near| near.stats())
    );
    assert!(
        local > ENOUGH,
        "too few copies were served to show anything: {local} of {answered}"
    );
}
