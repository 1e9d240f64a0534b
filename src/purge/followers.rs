//! Owns what a purge does with durable followers, which may hold what must be erased. A projection
//! is built anew from the new history. A command that was put aside is the user's to decide on.
//! Knows nothing of what followers do. What a sink has stored elsewhere is not reached.

use crate::error::Error;
use crate::files::{Build, Directory, FollowerDirectory, FollowerKind, Standing, list_followers};
use crate::storage::Storage;

/// Checks that no dead letter holds a command from `first_changed` on, unless it is of a
/// projection, which is built anew.
pub(super) fn check(
    storage: &dyn Storage,
    directory: &Directory,
    first_changed: u64,
) -> Result<(), Error> {
    for (kind, name) in list_followers(storage, directory)? {
        if kind == FollowerKind::Projection {
            continue;
        }
        let own = FollowerDirectory::of(directory, kind, &name);
        let standing = own.read(storage)?;
        let letters = standing.iter().flat_map(|it| &it.current.letters);
        if let Some(letter) = letters.into_iter().find(|it| it.sequence >= first_changed) {
            let reason = format!(
                "it holds command {} as a dead letter, and the purge cannot erase it there. \
                 Replay the dead letter, or remove the {kind}",
                letter.sequence
            );
            return Err(Error::FollowerRefuses { kind, name, reason });
        }
    }
    Ok(())
}

/// Removes the checkpoints of all projections that hold commands from `first_changed` on. The next
/// start builds these projections anew. Removes also what crashes have left of any follower.
/// Returns how many projections these are.
pub(super) fn reset_projections(
    storage: &dyn Storage,
    directory: &Directory,
    first_changed: u64,
) -> Result<u64, Error> {
    let mut reset = 0;
    for kind in FollowerKind::ALL {
        for name in FollowerDirectory::list(storage, directory, kind)? {
            let own = FollowerDirectory::of(directory, kind, &name);
            let kept = match own.read(storage).map_err(Error::from) {
                Ok(Some(standing)) if !holds(&standing, first_changed) => standing.checkpoints(),
                Ok(Some(standing)) if kind != FollowerKind::Projection => standing.checkpoints(),
                Ok(Some(standing)) => {
                    reset += 1;
                    let version = standing.current.version;
                    let current = Build { version, ..Build::default() };
                    let standing = Standing { current, next: None, lost: None, ..standing };
                    own.replace(storage, &standing)?;
                    Vec::new()
                }
                Err(error @ Error::Io { .. }) => return Err(error),
                // Nobody knows what it holds: its dead letters may be readable nevertheless.
                Err(_) if kind == FollowerKind::Projection => {
                    let path = own.standing();
                    storage.remove(&path).map_err(Error::io("remove", &path))?;
                    reset += 1;
                    Vec::new()
                }
                Ok(None) | Err(_) => Vec::new(),
            };
            own.clear(storage, &kept)?;
            storage.sync_directory(&own.root).map_err(Error::io("sync directory", &own.root))?;
        }
    }
    Ok(reset)
}

fn holds(standing: &Standing, first_changed: u64) -> bool {
    let mut builds = std::iter::once(&standing.current).chain(&standing.next);
    builds.any(|build| build.position >= first_changed)
}
