//! Owns the choice of a snapshot and of the commands behind it, and of the history before it. Knows
//! nothing of how they are written.

use super::pieces::Piece;
use super::stock::{SoundSnapshot, Stock};

/// A part of a piece.
#[derive(Clone, Copy)]
pub(super) struct Slice<'a> {
    pub(super) piece: &'a Piece,
    pub(super) first: u64,
    pub(super) last: u64,
}

/// How a state is reached: a snapshot, and the commands behind it.
pub(super) struct Course<'a> {
    pub(super) snapshot: &'a SoundSnapshot,
    pub(super) tail: Vec<Slice<'a>>,
    /// The sequence that is reached.
    pub(super) end: u64,
}

/// The commands before a snapshot that can be read.
#[derive(Default)]
pub(super) struct Past<'a> {
    /// The oldest first. There may be gaps between them.
    pub(super) slices: Vec<Slice<'a>>,
}

impl Stock {
    /// Finds the way to the highest sequence that is not beyond `most`. Of several ways there, it
    /// takes the one with the newest snapshot. `None` if no snapshot is sound.
    pub(super) fn course(&self, most: u64) -> Option<Course<'_>> {
        let mut best: Option<Course<'_>> = None;
        for snapshot in self.snapshots.iter().filter(|it| it.sequence <= most) {
            let course = self.course_from(snapshot, most);
            if best.as_ref().is_none_or(|best| course.end > best.end) {
                best = Some(course);
            }
        }
        best
    }

    fn course_from<'a>(&'a self, snapshot: &'a SoundSnapshot, most: u64) -> Course<'a> {
        let (mut end, mut chain) = (snapshot.sequence, snapshot.chain);
        let mut tail = Vec::new();
        while end < most {
            let next = end.saturating_add(1);
            let goes_on = |it: &&Piece| it.holds(next) && it.chain_at(end) == Some(chain);
            let Some(piece) = self.pieces.iter().filter(goes_on).max_by_key(|it| it.last) else {
                break;
            };
            let last = piece.last.min(most);
            tail.push(Slice { piece, first: next, last });
            (end, chain) = (last, piece.chain);
        }
        Course { snapshot, tail, end }
    }

    /// Finds the commands up to a snapshot that can be read.
    pub(super) fn past(&self, snapshot: &SoundSnapshot) -> Past<'_> {
        let (mut last, mut chain) = (snapshot.sequence, Some(snapshot.chain));
        let mut slices = Vec::new();
        while last > 0 {
            let fits = |it: &&Piece| {
                it.holds(last) && chain.is_none_or(|chain| it.chain_at(last) == Some(chain))
            };
            if let Some(piece) =
                self.pieces.iter().filter(fits).min_by_key(|it| (it.first, !it.is_whole))
            {
                slices.push(Slice { piece, first: piece.first, last });
                (last, chain) = (piece.first.saturating_sub(1), Some(piece.chain_before));
                continue;
            }
            // What goes on behind a gap cannot be compared with anything.
            let before = self.pieces.iter().filter(|it| it.last < last).map(|it| it.last).max();
            let Some(before) = before else { break };
            (last, chain) = (before, None);
        }
        slices.reverse();
        Past { slices }
    }
}

impl<'a> Past<'a> {
    /// Returns the commands before the snapshot at `sequence` that follow each other up to it.
    pub(super) fn joined(&self, sequence: u64) -> &[Slice<'a>] {
        let mut next = sequence.saturating_add(1);
        let mut begin = self.slices.len();
        for slice in self.slices.iter().rev() {
            if slice.last.saturating_add(1) != next {
                break;
            }
            next = slice.first;
            begin -= 1;
        }
        self.slices.get(begin..).unwrap_or(&[])
    }

    /// Returns the ranges from `oldest` to `newest` that are in no slice.
    pub(super) fn gaps(&self, oldest: u64, newest: u64) -> Vec<(u64, u64)> {
        let mut gaps = Vec::new();
        let mut next = oldest;
        for slice in &self.slices {
            if slice.first > next {
                gaps.push((next, slice.first - 1));
            }
            next = next.max(slice.last.saturating_add(1));
        }
        if next <= newest {
            gaps.push((next, newest));
        }
        gaps
    }
}
