//! Owns the proof that a new directory is what it should be, before it gets its name. Knows nothing
//! of how it was made.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use super::copying::End;
use super::{Steps, cannot_be_opened};
use crate::error::Error;
use crate::inspect::{Depth, Inspection, Opener, Severity, opener_of, verify_with};
use crate::storage::Storage;

/// Refuses a directory that a program has open.
pub(super) fn refuse_open(path: &Path) -> Result<(), Error> {
    match opener_of(path) {
        Opener::Writer { .. } => Err(Error::Locked { path: path.to_path_buf() }),
        Opener::Reader { .. } | Opener::NobodySeen | Opener::Unknown { .. } => Ok(()),
    }
}

/// Returns whether a program had the database open when it was looked at.
pub(super) fn is_live(look: &Inspection) -> bool {
    matches!(look.opener(), Opener::Writer { .. })
}

/// Verifies all of the closed database at `root`: it must end with `end`, an open must succeed as
/// far as files show it, and nothing may be missing but the commands in `gaps`.
pub(super) fn prove<'a>(
    storage: &Arc<dyn Storage>,
    root: &Path,
    end: End,
    gaps: impl Iterator<Item = &'a RangeInclusive<u64>>,
    steps: &mut Steps<'_>,
) -> Result<(), Error> {
    let gaps: Vec<_> = gaps.cloned().collect();
    let verified = verify_with(storage.clone(), root, Depth::Deep, &mut |it| steps.proved(it))?;
    steps.end();
    let wrong = verified.findings.iter().find(|it| {
        let is_gap = it.sequences.as_ref().is_some_and(|lost| {
            gaps.iter().any(|gap| gap.contains(lost.start()) && gap.contains(lost.end()))
        });
        it.severity == Severity::Damage && !is_gap
    });
    if let Some(wrong) = wrong {
        let found = wrong.found.clone();
        return Err(Error::corrupt(&wrong.path, wrong.bytes.start, wrong.expected.clone(), found));
    }
    let look = Inspection::open_with(storage.clone(), root, |_| Opener::NobodySeen)?;
    let expected = format!("a database that an open reads up to sequence {}", end.sequence);
    if let Some(problem) = &look.open_plan().problem {
        return Err(cannot_be_opened(root, expected, problem));
    }
    if look.newest_sequence() != end.sequence {
        return Err(Error::corrupt(root, 0, expected, look.newest_sequence().to_string()));
    }
    Ok(())
}
