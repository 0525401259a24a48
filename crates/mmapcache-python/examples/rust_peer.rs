//! The Rust side of `tests/rust_and_python.py`: writes to a cache that a Python program writes to at the
//! same time, and checks everything that it reads.
//!
//! Usage: `rust_peer PATH SECONDS`. Prints one line of JSON with what it did, which the Python side adds to
//! its own figures and compares with the cache. What the two agree on is in that file.

use std::collections::HashMap;
use std::error::Error;
use std::time::{Duration, Instant};

use mmapcache::{Cache, InsertOptions};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const NAME: &str = "rust";
const BRIEF: Duration = Duration::from_millis(20);

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, path, seconds] = arguments.as_slice() else {
        return Err("usage: rust_peer PATH SECONDS".into());
    };
    let mut peer = Peer::open(path)?;
    let end = Instant::now() + Duration::try_from_secs_f64(seconds.parse()?)?;
    while Instant::now() < end {
        peer.step()?;
    }
    peer.check_own_keys()?;
    println!(
        r#"{{"steps": {}, "claims": {}, "computations": {}}}"#,
        peer.steps, peer.claims, peer.computations
    );
    Ok(())
}

struct Peer {
    cache: Cache,
    steps: u64,
    claims: u64,
    computations: u64,
    /// What this program stored last under each of its own keys.
    own: HashMap<u64, Vec<u8>>,
    brief_since: Option<Instant>,
    random: u64,
}

impl Peer {
    fn open(path: &str) -> Outcome<Self> {
        Ok(Self {
            cache: Cache::open(path)?,
            steps: 0,
            claims: 0,
            computations: 0,
            own: HashMap::new(),
            brief_since: None,
            random: u64::from(std::process::id()) | 1,
        })
    }

    fn step(&mut self) -> Outcome {
        self.steps += 1;
        self.change_shared_key()?;
        self.change_own_key()?;
        self.claim()?;
        self.compute()?;
        self.look_at_brief_key()?;
        self.cache.increment("count", 1, &InsertOptions::new())?;
        Ok(())
    }

    /// Any program's value, whole.
    fn change_shared_key(&mut self) -> Outcome {
        let key = format!("shared/{}", self.below(500));
        if let Some(found) = self.cache.get(&key)? {
            check_value(&found).map_err(|problem| format!("{key}: {problem}"))?;
        }
        self.cache.insert(&key, value(self.steps))?;
        Ok(())
    }

    /// Exactly what this program stored there, for no other one does.
    fn change_own_key(&mut self) -> Outcome {
        let number = self.below(200);
        let key = own_key(number);
        if self.cache.get(&key)? != self.own.get(&number).cloned() {
            return Err(format!("{key} is not what was stored there").into());
        }
        if self.steps.is_multiple_of(7) {
            let is_removed = self.cache.remove(&key)?;
            if is_removed != self.own.remove(&number).is_some() {
                return Err(format!("removing {key} says {is_removed}").into());
            }
        } else {
            let value = value(self.steps);
            self.cache.insert(&key, &value)?;
            self.own.insert(number, value);
        }
        Ok(())
    }

    /// One of the programs adds the key.
    fn claim(&mut self) -> Outcome {
        let key = format!("claim/{}", self.below(5_000));
        if self.cache.add(key, NAME, &InsertOptions::new())?.is_some() {
            self.claims += 1;
        }
        Ok(())
    }

    /// One of the programs computes the value.
    fn compute(&mut self) -> Outcome {
        let key = format!("computed/{}", self.below(2_000));
        let computations = &mut self.computations;
        let found = self
            .cache
            .get_or_insert_with(&key, InsertOptions::new(), || {
                *computations += 1;
                key.clone()
            })?;
        if found.value != key.as_bytes() {
            return Err(format!("{key} has another key's value").into());
        }
        Ok(())
    }

    fn look_at_brief_key(&mut self) -> Outcome {
        let key = format!("brief/{NAME}");
        // The clock first: this thread may be stopped between the two.
        let is_over = self
            .brief_since
            .is_none_or(|since| since.elapsed() >= BRIEF);
        let is_there = self.cache.contains(&key)?;
        if is_over && is_there && self.brief_since.is_some() {
            return Err(format!("{key} outlived its deadline").into());
        }
        if is_over {
            let terms = InsertOptions::new().ttl(BRIEF);
            self.cache.insert_with(&key, "brief", &terms)?;
            // Later than the moment from which the engine counts.
            self.brief_since = Some(Instant::now() + Duration::from_millis(2));
        }
        Ok(())
    }

    fn check_own_keys(&self) -> Outcome {
        for (number, value) in &self.own {
            if self.cache.get(own_key(*number))?.as_ref() != Some(value) {
                return Err(format!("own key {number} was lost").into());
            }
        }
        Ok(())
    }

    /// A number below `limit`, by xorshift.
    fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % limit
    }
}

fn own_key(number: u64) -> String {
    format!("own/{NAME}/{number}")
}

/// Who stored it, at which step, and bytes that follow from the step.
fn value(step: u64) -> Vec<u8> {
    let mut value = format!("{NAME}:{step}:").into_bytes();
    value.resize(value.len() + filler_length(step), step as u8);
    value
}

fn filler_length(step: u64) -> usize {
    (step * 7_919 % 1_500) as usize
}

fn check_value(value: &[u8]) -> Result<(), String> {
    let mut parts = value.splitn(3, |&byte| byte == b':');
    let (name, step, filler) = (parts.next(), parts.next(), parts.next());
    if !matches!(name, Some(b"rust" | b"python")) {
        return Err("the value names no program".into());
    }
    let step: u64 = step
        .and_then(|step| std::str::from_utf8(step).ok())
        .and_then(|step| step.parse().ok())
        .ok_or("the value has no step")?;
    let is_whole = filler.is_some_and(|filler| {
        filler.len() == filler_length(step) && filler.iter().all(|&byte| byte == step as u8)
    });
    if !is_whole {
        return Err(format!("the value of step {step} is not whole"));
    }
    Ok(())
}
