//! A place for the benchmarks of the engine; there are none yet.

fn main() {}
