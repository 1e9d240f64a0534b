//! Owns how the lists of several modules become one vocabulary. Runs in the compiler, so it uses
//! loops instead of iterators, and does not allocate.

use super::{Entry, Line};
use crate::model::Model;

/// A list of some of a model's commands. Implemented by [`commands!`](crate::commands!).
pub trait CommandList<M: Model> {
    /// The commands, in the order of the lines.
    const ENTRIES: &'static [Entry<M>];
    /// The lines themselves.
    const LINES: &'static [Line];
}

/// A model whose vocabulary has that list. Implemented by [`commands!`](crate::commands!).
#[diagnostic::on_unimplemented(
    message = "the list `{L}` is not in `commands!` of model `{Self}`",
    note = "add `..{L}`, with its path, in `prevalence::commands! {{ {Self} {{ … }} }}`: else no \
            journal names its commands"
)]
pub trait Includes<L> {}

/// Does not compile if the model's vocabulary lacks the list.
pub const fn assert_included<M: Includes<L>, L>() {}

/// Returns how many elements these lists have together.
#[must_use]
#[expect(clippy::indexing_slicing, reason = "runs in the compiler, where iterators cannot")]
pub const fn count<T>(lists: &[&[T]]) -> usize {
    let (mut count, mut list) = (0, 0);
    while list < lists.len() {
        count += lists[list].len();
        list += 1;
    }
    count
}

/// Puts lists one behind the other, which have `COUNT` elements together. None of them is `filler`,
/// which is any value of the type.
#[must_use]
#[expect(clippy::indexing_slicing, reason = "runs in the compiler, where iterators cannot")]
pub const fn join<T: Copy, const COUNT: usize>(lists: &[&[T]], filler: T) -> [T; COUNT] {
    let mut joined = [filler; COUNT];
    let (mut at, mut list) = (0, 0);
    while list < lists.len() {
        let mut element = 0;
        while element < lists[list].len() {
            joined[at] = lists[list][element];
            (at, element) = (at + 1, element + 1);
        }
        list += 1;
    }
    joined
}
