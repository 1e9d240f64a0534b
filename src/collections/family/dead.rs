//! Owns lists of dead pieces, and how they are divided when a version goes. Knows nothing of
//! versions.

use super::super::pool::{Dead, Lists, UNKNOWN};
use super::super::shape::Kind;

/// Dead pieces of one kind.
pub(in super::super) struct Chunk {
    pub(in super::super) kind: Kind,
    /// The lowest and the highest birth, once somebody asked for them.
    births: Option<(u64, u64)>,
    pub(in super::super) pieces: Vec<Dead>,
}

impl Chunk {
    fn new(kind: Kind, pieces: Vec<Dead>) -> Self {
        Self { kind, births: None, pieces }
    }

    /// Returns the lowest and the highest birth of the pieces, which nobody has freed.
    fn births(&mut self) -> (u64, u64) {
        *self.births.get_or_insert_with(|| {
            let (mut lowest, mut highest) = (u64::MAX, 0);
            for piece in &mut self.pieces {
                if piece.born == UNKNOWN {
                    // SAFETY: the piece is dead and not yet free, and each kind begins with its
                    // birth, which nobody writes after the piece was made.
                    piece.born = unsafe { *piece.at.cast::<u64>() };
                }
                lowest = lowest.min(piece.born);
                highest = highest.max(piece.born);
            }
            (lowest, highest)
        })
    }

    /// Moves the lists into chunks.
    pub(in super::super) fn drain(lists: &mut Lists, chunks: &mut Vec<Self>) {
        for kind in Kind::ALL {
            let pieces = std::mem::take(&mut lists[kind]);
            if !pieces.is_empty() {
                chunks.push(Self::new(kind, pieces));
            }
        }
    }

    /// Adds this chunk to a chunk of its kind in `chunks`.
    fn join(mut self, chunks: &mut Vec<Self>) {
        let Some(other) = chunks.iter_mut().find(|other| other.kind == self.kind) else {
            chunks.push(self);
            return;
        };
        let (mine, theirs) = (self.births(), other.births());
        if other.pieces.len() < self.pieces.len() {
            std::mem::swap(&mut other.pieces, &mut self.pieces);
        }
        other.pieces.append(&mut self.pieces);
        other.births = Some((mine.0.min(theirs.0), mine.1.max(theirs.1)));
    }
}

/// Divides what died in a version whose parent goes away, and whose next parent has the epoch
/// `floor`: what is younger was the old parent's own, and is free. The rest stays dead.
pub(super) fn divide(dead: Vec<Chunk>, floor: u64, free: &mut Vec<Chunk>, kept: &mut Vec<Chunk>) {
    if floor == 0 {
        free.extend(dead);
        return;
    }
    for mut chunk in dead {
        let (lowest, highest) = chunk.births();
        if fault!(DeadListDividedWrongly) || lowest > floor {
            free.push(chunk);
        } else if highest <= floor {
            chunk.join(kept);
        } else {
            let (young, old): (Vec<Dead>, Vec<Dead>) =
                chunk.pieces.iter().partition(|piece| piece.born > floor);
            free.push(Chunk::new(chunk.kind, young));
            Chunk::new(chunk.kind, old).join(kept);
        }
    }
}
