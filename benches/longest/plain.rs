//! Measures the machine itself: pauses of a loop that only reads the clock, and of plain stores to
//! mapped files whose blocks were allocated before.
#![expect(unsafe_code, reason = "a mapping for plain stores")]

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use memmap2::MmapMut;
use rustix::fs::FallocateFlags;

use crate::observe::Thread;
use crate::record::Recorder;
use crate::workload::mix;

/// Bytes that a put stores: its record, after the one before, and a slot elsewhere.
const RECORD: usize = 152;
const SLOT: usize = 128;

/// Reads the clock for some time, about as often as operations are measured.
pub(crate) fn pauses(span: Duration) -> Recorder {
    let mut recorder = Recorder::new(span.as_nanos() as u64 / 400);
    let began = Instant::now();
    loop {
        let start = Instant::now();
        // As long as a put, on the processor alone.
        let mut sum = 0;
        while start.elapsed() < Duration::from_nanos(500) {
            sum = mix(sum);
        }
        std::hint::black_box(sum);
        recorder.add(start.elapsed(), String::new);
        if began.elapsed() > span {
            return recorder;
        }
    }
}

/// Stores as much as `entries` puts to two files, to one in order and to the other at random
/// places. Returns all times, and those during which this thread was not preempted.
pub(crate) fn stores(path: &Path, entries: u64) -> [Recorder; 2] {
    let mut heap = map(&path.with_extension("heap"), entries as usize * RECORD);
    let mut index = map(&path.with_extension("index"), entries as usize * SLOT);
    let mut recorder = Recorder::new(2 * entries);
    let mut undisturbed = Recorder::new(2 * entries);
    let mut preemptions = Thread::now().preemptions;
    for turn in 0..2 * entries {
        let number = (turn % entries) as usize;
        let slot = (mix(turn) % entries) as usize;
        let start = Instant::now();
        heap[number * RECORD..][..RECORD].fill(turn as u8);
        index[slot * SLOT..][..SLOT].fill(turn as u8);
        let took = start.elapsed();
        let now = Thread::now().preemptions;
        if std::mem::replace(&mut preemptions, now) == now {
            undisturbed.add(took, String::new);
        }
        recorder.add(took, String::new);
    }
    drop((heap, index));
    for name in ["heap", "index"] {
        std::fs::remove_file(path.with_extension(name)).expect("a file of ours");
    }
    [recorder, undisturbed]
}

fn map(path: &Path, bytes: usize) -> MmapMut {
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .expect("a file");
    let zeros = vec![0; 1 << 18];
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes as u64).expect("room");
    for at in (0..bytes).step_by(zeros.len()) {
        let count = zeros.len().min(bytes - at);
        std::os::unix::fs::FileExt::write_all_at(&file, &zeros[..count], at as u64).expect("room");
    }
    // SAFETY: the file was just created, and no other process knows it.
    unsafe { MmapMut::map_mut(&file) }.expect("a mapping")
}
