//! Owns how the lists of several modules become one vocabulary. Runs in the compiler, so it uses
//! loops instead of iterators, and does not allocate.

use super::{CommandTable, Entry, Line};
use crate::model::Model;

/// A list of some of a model's commands. Implemented by [`commands!`](crate::commands!).
pub trait CommandList<M: Model> {
    /// The commands, in the order of the lines.
    const ENTRIES: &'static [Entry<M>];
    /// The lines themselves.
    const LINES: &'static [Line];
}

/// Returns how many commands these lists have together.
#[must_use]
#[expect(clippy::indexing_slicing, reason = "runs in the compiler, where iterators cannot")]
pub const fn entries_in<M: Model>(lists: &[&[Entry<M>]]) -> usize {
    let (mut count, mut list) = (0, 0);
    while list < lists.len() {
        count += lists[list].len();
        list += 1;
    }
    count
}

/// Puts lists one behind the other, which have `COUNT` commands together.
#[must_use]
#[expect(clippy::indexing_slicing, reason = "runs in the compiler, where iterators cannot")]
pub const fn join_entries<M: Model, const COUNT: usize>(
    lists: &[&[Entry<M>]],
) -> [Entry<M>; COUNT] {
    let mut joined = [*CommandTable::<M>::REDACTED; COUNT];
    let (mut at, mut list) = (0, 0);
    while list < lists.len() {
        let mut entry = 0;
        while entry < lists[list].len() {
            joined[at] = lists[list][entry];
            (at, entry) = (at + 1, entry + 1);
        }
        list += 1;
    }
    joined
}

/// Returns how many lines these lists have together.
#[must_use]
#[expect(clippy::indexing_slicing, reason = "runs in the compiler, where iterators cannot")]
pub const fn lines_in(lists: &[&[Line]]) -> usize {
    let (mut count, mut list) = (0, 0);
    while list < lists.len() {
        count += lists[list].len();
        list += 1;
    }
    count
}

/// Puts lists one behind the other, which have `COUNT` lines together.
#[must_use]
#[expect(clippy::indexing_slicing, reason = "runs in the compiler, where iterators cannot")]
pub const fn join_lines<const COUNT: usize>(lists: &[&[Line]]) -> [Line; COUNT] {
    let mut joined = [Line { tag: 0, name: "", text: "" }; COUNT];
    let (mut at, mut list) = (0, 0);
    while list < lists.len() {
        let mut line = 0;
        while line < lists[list].len() {
            joined[at] = lists[list][line];
            (at, line) = (at + 1, line + 1);
        }
        list += 1;
    }
    joined
}
