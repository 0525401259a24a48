//! Publishing: a message arrives with its topic as bytes of a buffer, the peers of the topic are
//! looked up, and a message with that topic is queued for one of them.
//!
//! With strings, queue and map have their own copies; with handles, the pool owns them, and the
//! rest are pointers.

use std::collections::{HashMap, VecDeque};
use std::hint::black_box;
use std::sync::Barrier;

use mmapcache::intern::{Interned, Pool, PoolOptions, Retention, StoredHash};

use crate::counting::count;
use crate::processors::stay_on;
use crate::{median, time};

const TOPICS: usize = 64;
const MESSAGES: usize = 2_000_000;
const ROUNDS: usize = 9;
const QUEUE: usize = 256;

/// The bytes on the wire: topics of about forty bytes, as in gossipsub.
fn wire() -> Vec<Vec<u8>> {
    let topic = |i| format!("/eth2/4a26c58b/beacon_attestation_{i}/ssz_snappy").into_bytes();
    (0..TOPICS).map(topic).collect()
}

fn pick(message: usize) -> usize {
    message.wrapping_mul(0x9e37_79b9) >> 7 & (TOPICS - 1)
}

/// Queues are short: a push in front drops the last message.
fn queue<T>(queue: &mut VecDeque<T>, topic: T) {
    if queue.len() == QUEUE {
        queue.pop_front();
    }
    queue.push_back(topic);
}

fn publish_strings(wire: &[Vec<u8>], mesh: &HashMap<Vec<u8>, u64>) {
    let mut queued = VecDeque::with_capacity(QUEUE);
    let mut sum = 0;
    for message in 0..MESSAGES {
        let topic = wire[pick(message)].clone();
        sum += mesh[&topic];
        queue(&mut queued, topic);
    }
    black_box((queued, sum));
}

fn publish_handles(wire: &[Vec<u8>], pool: &Pool, mesh: &HashMap<Interned, u64, StoredHash>) {
    let mut queued = VecDeque::with_capacity(QUEUE);
    let mut sum = 0;
    for message in 0..MESSAGES {
        let topic = pool.intern(&wire[pick(message)]);
        sum += mesh[&topic];
        queue(&mut queued, topic);
    }
    black_box((queued, sum));
}

/// A topic that is interned when its peer subscribes is passed on from queue to queue.
fn forward_strings(topics: &[Vec<u8>], mesh: &HashMap<Vec<u8>, u64>) {
    let mut queued = VecDeque::with_capacity(QUEUE);
    let mut sum = 0;
    for message in 0..MESSAGES {
        let topic = &topics[pick(message)];
        sum += mesh[topic];
        queue(&mut queued, topic.clone());
    }
    black_box((queued, sum));
}

fn forward_handles(topics: &[Interned], mesh: &HashMap<Interned, u64, StoredHash>) {
    let mut queued = VecDeque::with_capacity(QUEUE);
    let mut sum = 0;
    for message in 0..MESSAGES {
        let topic = &topics[pick(message)];
        sum += mesh[topic];
        queue(&mut queued, topic.clone());
    }
    black_box((queued, sum));
}

/// A row of the table: the same for one thread, and for two at once.
fn row(what: &str, run: impl Fn() + Sync) {
    run();
    let ((), calls, _) = count(&run);
    let (mut one, mut two) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        one.push(time(MESSAGES, &run));
        let barrier = Barrier::new(2);
        let timed = &|processor| {
            stay_on(processor);
            barrier.wait();
            time(MESSAGES, &run)
        };
        std::thread::scope(|scope| {
            let threads = [0, 1].map(|processor| scope.spawn(move || timed(processor)));
            two.extend(threads.map(|thread| thread.join().expect("it publishes")));
        });
    }
    // In most rounds other programs keep the two apart for a while, and nothing is contended then.
    let two = two.into_iter().fold(0.0, f64::max);
    let one = median(&mut one);
    let each = calls as f64 / MESSAGES as f64;
    println!(
        "| {what} | {each:.3} | {one:.0} | {two:.0} | {:.2} |",
        two / one
    );
}

pub(crate) fn measure() {
    let wire = wire();
    println!("\n{TOPICS} topics of some 45 bytes, nanoseconds per message and thread\n");
    println!("| | allocations per message | one thread | two threads, at most | two / one |");
    println!("|---|--:|--:|--:|--:|");
    let strings: HashMap<Vec<u8>, u64> = wire.iter().cloned().zip(0..).collect();
    row("publish, strings", || publish_strings(&wire, &strings));
    for (name, retention) in [
        ("kept for ever", Retention::Forever),
        ("kept until released", Retention::UntilReleased),
    ] {
        let pool = PoolOptions::new().retention(retention).seed(1).build();
        let topics: Vec<Interned> = wire.iter().map(|topic| pool.intern(topic)).collect();
        let mesh: HashMap<_, u64, StoredHash> = topics.iter().cloned().zip(0..).collect();
        row(&format!("publish, handles {name}"), || {
            publish_handles(&wire, &pool, &mesh);
        });
        row(&format!("forward, handles {name}"), || {
            forward_handles(&topics, &mesh);
        });
    }
    row("forward, strings", || forward_strings(&wire, &strings));
    let pool = PoolOptions::new().seed(1).build();
    let topics: Vec<Interned> = wire[..1].iter().map(|topic| pool.intern(topic)).collect();
    row("one topic for all, `intern` alone", || {
        for _ in 0..MESSAGES {
            black_box(pool.intern(&topics[0]));
        }
    });
}
