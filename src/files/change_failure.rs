//! Owns whether a change of files that failed leaves anything in doubt. Knows nothing of what was to
//! be changed.

use crate::files::StoreError;

/// Why files were not changed as they should be.
#[derive(Debug)]
pub(crate) enum ChangeFailure {
    /// Nothing was written that counts, and no file has got or lost a name: all is as it was, and
    /// the change may be tried again.
    NotDone(StoreError),
    /// What stands on disk is not known.
    InDoubt(StoreError),
}

impl ChangeFailure {
    /// Of a step that comes before anything that others could see. Where the directory itself is
    /// lost, trying again is of no use.
    pub(crate) fn before_any_change(error: StoreError) -> Self {
        let is_in_doubt = error.is_place_lost() || planted!(EarlyFailurePoisons);
        if is_in_doubt { Self::InDoubt(error) } else { Self::NotDone(error) }
    }

    /// Of giving a file its name: where there is no room for the name, it was not given.
    pub(crate) fn of_a_rename(error: StoreError) -> Self {
        if error.is_disk_full() { Self::before_any_change(error) } else { Self::InDoubt(error) }
    }

    /// Whether a shorter file could be made where this one could not.
    pub(crate) fn wants_less(&self) -> bool {
        let Self::NotDone(StoreError::Io { source, .. }) = self else { return false };
        source.kind() == std::io::ErrorKind::FileTooLarge
    }

    /// Whether more room on the disk could help, and would do no harm.
    pub(crate) fn wants_room(&self) -> bool {
        matches!(self, Self::NotDone(error) if error.is_disk_full())
    }
}

impl From<ChangeFailure> for StoreError {
    fn from(failure: ChangeFailure) -> Self {
        match failure {
            ChangeFailure::NotDone(error) | ChangeFailure::InDoubt(error) => error,
        }
    }
}
