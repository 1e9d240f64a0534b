//! Owns how the entries of a collection are gone through, one by one: they follow each other, or
//! they are in the parts of several snapshots. Knows nothing of what is done with an entry.

use std::io::{BufRead, Write};

use super::json::{JsonError, Writing, unfit};
use crate::codec::{BeforeReading, Entries, Run, StoredEntries, alone};

/// Whether the next entry is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Go {
    On,
    Done,
}

/// What is done with each entry of a collection.
pub(super) trait Entry<'s> {
    /// Reads the entry with this number, counted from 0.
    fn read<R: BufRead, W: Write>(
        &mut self,
        writing: &mut Writing<'s, '_, R, W>,
        at: u64,
    ) -> Result<Go, JsonError>;

    /// Reads an entry of the snapshot before, which is no longer there.
    fn skip<R: BufRead, W: Write>(
        &mut self,
        writing: &mut Writing<'s, '_, R, W>,
    ) -> Result<(), JsonError>;
}

impl<'s, R: BufRead, W: Write> Writing<'s, '_, R, W> {
    /// Reads the length of a collection and its entries, until one says that it was the last that is
    /// wanted.
    pub(super) fn entries(&mut self, entry: &mut impl Entry<'s>) -> Result<Go, JsonError> {
        let before = BeforeReading::new();
        let length = self.length()?;
        match before.entries(usize::try_from(length).ok()).map_err(unfit)? {
            Entries::InParts(stored) => self.stored_entries(stored, length, entry),
            Entries::OneByOne | Entries::NotKept(_) => {
                for at in 0..length {
                    if entry.read(self, at)? == Go::Done {
                        return Ok(Go::Done);
                    }
                }
                Ok(Go::On)
            }
        }
    }

    fn stored_entries(
        &mut self,
        stored: StoredEntries,
        length: u64,
        entry: &mut impl Entry<'s>,
    ) -> Result<Go, JsonError> {
        let parts = stored.parts().clone();
        let mut cursors = parts.cursors();
        let all = [Run { first: 0, entries: length, source: 0 }];
        let mut at = 0;
        for run in parts.runs().unwrap_or(&all) {
            let cursor = usize::try_from(run.source).ok().and_then(|it| cursors.get_mut(it));
            let cursor = cursor.ok_or_else(|| unfit("its entries are in no snapshot"))?;
            let (mut first, mut left) = (run.first, run.entries);
            while left > 0 {
                let found = cursor.entries(first, left).ok_or_else(|| {
                    let reason = parts.take_failure();
                    unfit(reason.unwrap_or_else(|| "an entry is in no part".to_owned()))
                })?;
                let (skipped, wanted) = (found.skipped, found.wanted);
                let mut rest = found.bytes;
                let go = alone(|| {
                    let mut inner = self.on(&mut rest);
                    for _ in 0..skipped {
                        inner.silently(|writing| entry.skip(writing))?;
                    }
                    for number in at..at + wanted {
                        if entry.read(&mut inner, number)? == Go::Done {
                            return Ok::<_, JsonError>(Go::Done);
                        }
                    }
                    Ok(Go::On)
                })?;
                if go == Go::Done {
                    return Ok(Go::Done);
                }
                let used = found.bytes.len() - rest.len();
                cursor.used(used);
                (first, left, at) = (first + wanted, left - wanted, at + wanted);
            }
        }
        stored.skip_rebuilt();
        Ok(Go::On)
    }
}
