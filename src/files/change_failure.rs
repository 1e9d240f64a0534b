//! Owns whether a failed change of files leaves the content of the disk in doubt. Knows nothing of
//! what was to be changed.

use crate::files::StoreError;

/// Why a change of files failed.
#[derive(Debug)]
pub(crate) enum ChangeFailure {
    /// Nothing that counts was written, and no file got or lost a name. The change may be tried
    /// again.
    NotDone(StoreError),
    /// It is not known what stands on the disk.
    InDoubt(StoreError),
}

impl ChangeFailure {
    /// Makes the failure of a step before anything that others could see. If the directory itself
    /// is lost, a second try is useless, and the failure is in doubt.
    pub(crate) fn before_any_change(error: StoreError) -> Self {
        let is_in_doubt = error.is_place_lost() || fault!(EarlyFailurePoisons);
        if is_in_doubt { Self::InDoubt(error) } else { Self::NotDone(error) }
    }

    /// Makes the failure of a rename. If the disk had no room for the name, the file did not get
    /// it.
    pub(crate) fn of_a_rename(error: StoreError) -> Self {
        if error.is_disk_full() { Self::before_any_change(error) } else { Self::InDoubt(error) }
    }

    /// Returns whether a shorter file might succeed.
    pub(crate) fn wants_less(&self) -> bool {
        let Self::NotDone(StoreError::Io { source, .. }) = self else { return false };
        source.kind() == std::io::ErrorKind::FileTooLarge
    }

    /// Returns whether a second try with more room on the disk is safe and might succeed.
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
