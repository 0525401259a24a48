//! The result of one optimistic read.
//!
//! May call nothing of this crate.

use std::convert::Infallible;

/// The result of one optimistic read: of data that a writer may change at any time, without a lock,
/// validated afterwards as under a seqlock.
///
/// Everything that reads optimistically returns it: the fast paths of the hash table, of a look-up
/// and of a listing, one attempt of their slow paths, and one check of `verify`. The fast paths
/// cannot tell corruption, so `C` is uninhabited there: with a `T` of one word, the result is two
/// words, which stay in registers (a result of three is spilled in pieces, and loading it as a whole
/// waits for the stores).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt<T, C = Infallible> {
    /// This was read, and is valid.
    Done(T),
    /// There is nothing, and that is valid.
    Absent,
    /// Nothing is known: a writer changed something during the read, or the fast path does not cover
    /// the case. The caller reads again, after a fast path by the slow path.
    Retry,
    /// What was read is inconsistent. It is corruption unless a writer was at work.
    Corrupt(C),
}
