//! Tests of vectors: random lives beside a `Vec`, panics of a user's code, memory, and the traits.

mod lives;
mod memory;
mod panics;
mod traits;

use super::*;
use crate::collections::Vector;
use crate::collections::tree::audit_sequences;

/// Checks all invariants of the families to which the vectors belong, and that no memory was lost.
fn assert_sound<T>(vectors: &[&Vector<T>]) {
    let mut rest: Vec<_> = vectors.iter().map(|vector| &vector.tree).collect();
    while let Some(first) = rest.first().copied() {
        let (family, others): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|tree| tree.is_of_family(first));
        assert_eq!(audit_sequences(&family), 0, "pieces of memory were lost");
        rest = others;
    }
}
