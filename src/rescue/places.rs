//! Owns the check that a copy is written beside the original and not into it, whatever links and
//! names lead there. Knows nothing of content.

use std::path::{Component, Path, PathBuf};

use crate::error::Error;
use crate::files::absolute;

/// Makes a path absolute, and removes what does not count: `.` and slashes at its end.
pub(super) fn tidy(path: &Path) -> Result<PathBuf, Error> {
    Ok(absolute(path)?.components().collect())
}

/// Checks that the directories `one` and `other` are not the same and not inside each other. The
/// second one may be missing.
pub(super) fn check_apart(one: &Path, other: &Path) -> Result<(), Error> {
    let (one, real) = (resolved(one), resolved(other));
    match one.starts_with(&real) || real.starts_with(&one) {
        true => Err(Error::NotEmpty { path: other.to_path_buf() }),
        false => Ok(()),
    }
}

/// Follows the links on the way to a path, as far as something is there.
fn resolved(path: &Path) -> PathBuf {
    for above in path.ancestors() {
        if let Ok(real) = std::fs::canonicalize(above) {
            let rest = path.strip_prefix(above).unwrap_or(Path::new(""));
            // What is not there is no link, so `..` leads back from it.
            return rest.components().fold(real, |mut path, part| {
                match part {
                    Component::ParentDir => drop(path.pop()),
                    part => path.push(part),
                }
                path
            });
        }
    }
    path.to_path_buf()
}
