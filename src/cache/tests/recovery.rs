//! What a killed writer leaves, made by hand: each half-done state, and what the next writer makes of it.

use super::*;
