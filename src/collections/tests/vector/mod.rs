//! Tests of what only vectors do: random lives beside a `Vec`, panics of a user's code, memory, and
//! searches.

mod lives;
mod memory;
mod panics;
mod traits;

use std::sync::atomic::Ordering::SeqCst;

use super::Random;
use super::content::{Alive, Bomb, Content, Counted, Fickle};
use crate::collections::Vector;
use crate::collections::tree::audit_sequences;

/// Checks all invariants of the families to which the vectors belong, and that no memory was lost.
fn assert_sound<T>(vectors: &[&Vector<T>]) {
    let trees: Vec<_> = vectors.iter().map(|vector| &vector.tree).collect();
    assert_eq!(audit_sequences(&trees), 0, "pieces of memory were lost");
}
