//! diskcache, a cache for Python on SQLite, in a process that reads orders and takes the times
//! itself. Its defaults, but for the bound.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::bounded::{Bounded, LIFE, Promises};
use crate::keys::{Batch, Keys};
use crate::store::{Error, Result};

const SCRIPT: &str = include_str!("diskcache.py");

pub(super) struct Diskcache {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Diskcache {
    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err(Error::Failed(
                "Python ended: does `DISKCACHE_PYTHON`, or python3, have diskcache?".to_owned(),
            ));
        }
        Ok(line.trim().to_owned())
    }

    fn ask(&mut self, order: &[u8]) -> Result<(u64, u64)> {
        let to = self.orders.as_mut().expect("open until the end");
        to.write_all(order)?;
        to.flush()?;
        let answer = self.answer()?;
        let (time, found) = answer
            .split_once(' ')
            .ok_or_else(|| Error::Failed(format!("Python answered `{answer}`")))?;
        Ok((time.parse()?, found.parse()?))
    }
}

impl Drop for Diskcache {
    fn drop(&mut self) {
        // It ends at the end of its input.
        drop(self.orders.take());
        let _ = self.child.wait();
    }
}

fn begin(kind: u8, count: usize) -> Result<Vec<u8>> {
    let mut order = vec![kind];
    order.extend(u32::try_from(count)?.to_le_bytes());
    Ok(order)
}

fn append(order: &mut Vec<u8>, field: &[u8]) -> Result<()> {
    order.extend(u32::try_from(field.len())?.to_le_bytes());
    order.extend(field);
    Ok(())
}

impl Bounded for Diskcache {
    const PROMISES: Promises = Promises {
        shared_by: "threads and processes",
        kill: "nothing",
        power: "the last transactions; WAL, `synchronous=NORMAL`: syncs at each checkpoint; values \
                from 32 KiB on, in files of their own, are never synced",
        goes: "a deadline for each entry; the oldest first, ten an insertion",
    };

    fn create(dir: &Path, bound: u64) -> Result<Self> {
        let python = std::env::var_os("DISKCACHE_PYTHON").unwrap_or_else(|| "python3".into());
        let mut child = Command::new(python)
            .args(["-c", SCRIPT])
            .arg(dir)
            .arg(bound.to_string())
            .arg(LIFE.as_secs().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take();
        let answers = child.stdout.take().expect("it was asked for");
        let mut cache = Self {
            child,
            orders,
            answers: BufReader::new(answers),
        };
        let version = cache.answer()?;
        eprintln!("  diskcache {version}");
        Ok(cache)
    }

    fn insert_each(&mut self, batch: &Batch) -> Result<u64> {
        let mut order = begin(b'i', batch.items().count())?;
        for (key, value) in batch.items() {
            append(&mut order, key)?;
            append(&mut order, value)?;
        }
        Ok(self.ask(&order)?.0)
    }

    fn get_each(&mut self, keys: &Keys) -> Result<(u64, u64)> {
        let mut order = begin(b'g', keys.len())?;
        for key in keys.iter() {
            append(&mut order, key)?;
        }
        self.ask(&order)
    }
}
