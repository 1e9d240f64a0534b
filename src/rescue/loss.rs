//! Owns what a repair tells of commands that it cannot keep. Knows nothing of how it is repaired.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::SystemTime;

use super::course::{Course, Past};
use super::pieces::Piece;
use super::stock::Stock;
use crate::error::Error;
use crate::model::{Metadata, system_time};

/// The most actors and the most names of commands that are counted one by one.
const MOST_NAMES: usize = 1000;

/// What becomes of commands that are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LossKind {
    /// The model loses what these commands have done. They cannot be read.
    State,
    /// The model loses what these commands have done. They can be read, but not be applied, because
    /// commands before them are lost.
    Unusable,
    /// The model keeps what these commands have done. Only the history of them is lost.
    History,
}

/// Commands that a repair cannot keep.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loss {
    /// What becomes of them.
    pub kind: LossKind,
    /// Their sequences.
    pub sequences: RangeInclusive<u64>,
    /// The time of the first one if it can be read. Otherwise that of the last command before it:
    /// none of them is earlier. `None` if that is not known either.
    pub not_before: Option<SystemTime>,
    /// The time of the last one if it can be read. Otherwise that of the first command behind it:
    /// none of them is later. `None` if that is not known either.
    pub not_after: Option<SystemTime>,
    /// Who asked for those that can be read, and for how many. At most 1,000 are counted by name,
    /// and the others under the empty name, as those that nobody has signed.
    pub actors: BTreeMap<String, u64>,
    /// The names of those that can be read, and how many there are of each; as
    /// [`actors`](Self::actors).
    pub commands: BTreeMap<String, u64>,
}

impl Loss {
    fn new(kind: LossKind, (first, last): (u64, u64)) -> Self {
        Self {
            kind,
            sequences: first..=last,
            not_before: None,
            not_after: None,
            actors: BTreeMap::new(),
            commands: BTreeMap::new(),
        }
    }

    /// Returns how many commands these are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.sequences.end().saturating_sub(*self.sequences.start()).saturating_add(1)
    }
}

impl Stock {
    /// Finds what is lost if the course is taken, and `past` is kept before it.
    pub(super) fn losses(&self, course: &Course<'_>, past: &Past<'_>) -> Result<Vec<Loss>, Error> {
        let mut losses = Vec::new();
        for gap in past.gaps(self.oldest, course.snapshot.sequence) {
            losses.push(self.with_times(Loss::new(LossKind::History, gap)));
        }
        let mut next = course.end.saturating_add(1);
        while next <= self.newest {
            let piece = self.pieces.iter().filter(|it| it.holds(next)).max_by_key(|it| it.last);
            let loss = match piece {
                Some(piece) => {
                    let range = (next, piece.last.min(self.newest));
                    self.unusable(Loss::new(LossKind::Unusable, range), piece)?
                }
                None => {
                    let behind = self.pieces.iter().map(|it| it.first).filter(|&it| it > next);
                    let last = behind.min().map_or(self.newest, |first| first - 1);
                    let range = (next, last.min(self.newest));
                    self.with_times(Loss::new(LossKind::State, range))
                }
            };
            next = loss.sequences.end().saturating_add(1);
            losses.push(loss);
        }
        Ok(losses)
    }

    /// Adds between which times the commands were, by what can be read around them.
    fn with_times(&self, loss: Loss) -> Loss {
        let (first, last) = (*loss.sequences.start(), *loss.sequences.end());
        let before = self.pieces.iter().filter(|it| it.last < first).map(|it| it.last_time_ns);
        let behind = self.pieces.iter().filter(|it| it.first > last).map(|it| it.first_time_ns);
        // A snapshot has the time of its newest command.
        let snapshots = || self.snapshots.iter().map(|it| (it.sequence, it.header.time_ns));
        let before = before.chain(snapshots().filter(|it| it.0 < first).map(|it| it.1)).max();
        let behind = behind.chain(snapshots().filter(|it| it.0 >= last).map(|it| it.1)).min();
        Loss { not_before: before.map(system_time), not_after: behind.map(system_time), ..loss }
    }

    /// Reads commands that cannot be applied.
    fn unusable(&self, mut loss: Loss, piece: &Piece) -> Result<Loss, Error> {
        let (first, last) = (*loss.sequences.start(), *loss.sequences.end());
        let mut frames = piece.open(&*self.storage, &self.directory, first)?;
        let path = frames.file().path.clone();
        while frames.next_sequence() <= last && frames.advance(piece.last)? {
            let Some(frame) = frames.frame() else { break };
            frame.each_record(&path, |sequence, record| {
                if !loss.sequences.contains(&sequence) {
                    return Ok::<_, Error>(());
                }
                let time = system_time(record.time_ns);
                loss.not_before.get_or_insert(time);
                loss.not_after = Some(time);
                let actor = Metadata::decode(record.metadata).map(|it| it.actor);
                count(&mut loss.actors, &actor.unwrap_or_default());
                let named = piece.header.commands.iter().find(|(tag, _)| *tag == record.tag);
                count(&mut loss.commands, named.map_or("", |(_, name)| name.as_str()));
                Ok(())
            })?;
        }
        Ok(loss)
    }
}

fn count(counts: &mut BTreeMap<String, u64>, name: &str) {
    let is_new = !counts.contains_key(name);
    let name = if is_new && counts.len() >= MOST_NAMES { "" } else { name };
    *counts.entry(name.to_owned()).or_default() += 1;
}
