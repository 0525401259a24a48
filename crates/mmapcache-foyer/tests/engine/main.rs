//! Tests of the engine through foyer's `HybridCache`: one program, because foyer takes long to compile
//! for each type of key and value.

mod collisions;
mod common;
mod deadlines;
mod full_queue;
mod opening;
mod restart;
