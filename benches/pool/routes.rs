//! 100,000 VPN routes that share ten route distinguishers, a hundred label stacks and a hundred
//! path ids, decoded from their packed form.
//!
//! Decoded instances are small structures on the heap, as a daemon keeps them for each route.

use std::hint::black_box;
use std::sync::Arc;

use mmapcache::intern::{DecodeCache, DecodeOptions};

use crate::counting::count;
use crate::{median, time};

const ROUTES: usize = 100_000;
const ROUNDS: usize = 25;

/// A decoded attribute: its packed bytes and what was read from them.
struct Attribute {
    _packed: Box<[u8]>,
    number: u64,
}

impl Attribute {
    fn decode(packed: &[u8]) -> Result<Self, std::convert::Infallible> {
        let number = packed
            .iter()
            .fold(0, |sum, &byte| (sum << 8) | u64::from(byte));
        Ok(Self {
            _packed: packed.into(),
            number,
        })
    }
}

/// A kind of attribute, and the limits for its times.
struct Kind {
    name: &'static str,
    bytes: usize,
    distinct: usize,
    min: usize,
    max: usize,
}

const KINDS: [Kind; 3] = [
    Kind {
        name: "route distinguishers",
        bytes: 8,
        distinct: 10,
        min: 50,
        max: 500,
    },
    Kind {
        name: "label stacks",
        bytes: 3,
        distinct: 100,
        min: 100,
        max: 1_000,
    },
    Kind {
        name: "path ids",
        bytes: 4,
        distinct: 100,
        min: 50,
        max: 256,
    },
];

impl Kind {
    fn packed(&self, route: usize) -> [u8; 8] {
        let value = (route * 7_919 % self.distinct) as u64;
        value.to_le_bytes()
    }

    fn each(&self, mut take: impl FnMut(&[u8])) {
        for route in 0..ROUTES {
            take(&self.packed(route)[..self.bytes]);
        }
    }

    fn cache(&self) -> DecodeCache<Attribute> {
        let mut options = DecodeOptions::new();
        options.min_entries(self.min).max_entries(self.max).build()
    }

    fn without(&self) -> Vec<Arc<Attribute>> {
        let mut routes = Vec::with_capacity(ROUTES);
        self.each(|packed| {
            let Ok(decoded) = Attribute::decode(packed);
            routes.push(Arc::new(decoded));
        });
        routes
    }

    fn with(&self, cache: &DecodeCache<Attribute>) -> Vec<Arc<Attribute>> {
        let mut routes = Vec::with_capacity(ROUTES);
        self.each(|packed| {
            let Ok(decoded) = cache.get_or_decode(packed, Attribute::decode);
            routes.push(decoded);
        });
        routes
    }
}

pub(crate) fn measure() {
    println!("\n{ROUTES} routes; bytes are those of the instances, without the routes' pointers\n");
    println!(
        "| attribute | distinct | bounds | without: bytes | allocations | with: bytes | allocations | saved | hit rate | decode each, ns | cached, ns |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    let (mut all_without, mut all_with) = (0, 0);
    for kind in &KINDS {
        let pointers = (ROUTES * size_of::<Arc<Attribute>>()) as isize;
        let (routes, calls_without, without) = count(|| kind.without());
        drop(routes);
        let (kept, calls_with, with) = count(|| {
            let cache = kind.cache();
            let routes = kind.with(&cache);
            (cache, routes)
        });
        let hit_rate = 100.0 * kept.0.stats().hit_rate();
        drop(kept);
        let (without, with) = (without - pointers, with - pointers);
        let (decode, cached) = times(kind);
        println!(
            "| {} | {} | {}/{} | {without} | {calls_without} | {with} | {calls_with} | {:.2} % | {hit_rate:.2} % | {decode:.0} | {cached:.0} |",
            kind.name,
            kind.distinct,
            kind.min,
            kind.max,
            saved(without, with),
        );
        all_without += without;
        all_with += with;
    }
    let saved = saved(all_without, all_with);
    println!("| all | | | {all_without} | | {all_with} | | {saved:.2} % | | | |");
}

fn saved(without: isize, with: isize) -> f64 {
    100.0 * (1.0 - with as f64 / without as f64)
}

/// Returns the nanoseconds to decode an attribute, and to get it from a cache that has it.
fn times(kind: &Kind) -> (f64, f64) {
    let (mut decode, mut cached) = (Vec::new(), Vec::new());
    let cache = kind.cache();
    for _ in 0..ROUNDS {
        // Freed outside the measurement, as it would be with the route.
        let mut routes = Vec::new();
        decode.push(time(ROUTES, || routes = kind.without()));
        drop(black_box(routes));
        let mut routes = Vec::new();
        cached.push(time(ROUTES, || routes = kind.with(&cache)));
        black_box(routes.iter().map(|route| route.number).sum::<u64>());
    }
    (median(&mut decode), median(&mut cached))
}
