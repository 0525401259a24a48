//! Keeps each of two threads on a processor, whatever else the machine does.
#![expect(
    unsafe_code,
    reason = "where a thread runs has no safe wrapper among our dependencies"
)]

/// Keeps the calling thread on one processor; does nothing if there is no such processor.
pub(crate) fn stay_on(processor: usize) {
    // SAFETY: all zeros are a valid set, the empty one.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is a live one, and the number is within it.
    unsafe { libc::CPU_SET(processor, &mut set) };
    // SAFETY: the pointer is that of a live set of this size, which the call reads.
    unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
}
