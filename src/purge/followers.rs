//! Owns what a purge does with durable followers, which may hold what must be erased. A projection is
//! built anew from the new history. A command that was put aside is the user's to decide on. Knows
//! nothing of what followers do. What a sink has stored elsewhere is not reached.

use std::path::PathBuf;

use crate::error::Error;
use crate::files::{
    Build, CHECKPOINT_SUFFIX, Directory, FollowerDirectory, FollowerKind, Standing, list_followers,
};
use crate::storage::{Storage, is_temporary};

/// Checks that no dead letter holds a command from `first_changed` on, unless it is of a projection,
/// which is built anew.
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
/// start builds these projections anew. Returns how many there are.
pub(super) fn reset_projections(
    storage: &dyn Storage,
    directory: &Directory,
    first_changed: u64,
) -> Result<u64, Error> {
    let mut reset = 0;
    for (kind, name) in list_followers(storage, directory)? {
        if kind != FollowerKind::Projection {
            continue;
        }
        let own = FollowerDirectory::of(directory, kind, &name);
        match own.read(storage).map_err(Error::from) {
            Ok(Some(standing)) if !holds(&standing, first_changed) => continue,
            Ok(Some(standing)) => {
                let version = standing.current.version;
                let current = Build { version, ..Build::default() };
                let standing = Standing { current, next: None, lost: None, ..standing };
                own.replace(storage, &standing)?;
            }
            Err(error @ Error::Io { .. }) => return Err(error),
            // The next start reports the damage. Until then nobody knows what the files hold.
            Ok(None) | Err(_) => {}
        }
        for name in storage.list(&own.root).map_err(Error::io("list", &own.root))? {
            let path: PathBuf = own.root.join(&name);
            if name.ends_with(CHECKPOINT_SUFFIX) || is_temporary(&name) {
                storage.remove(&path).map_err(Error::io("remove", &path))?;
            }
        }
        storage.sync_directory(&own.root).map_err(Error::io("sync directory", &own.root))?;
        reset += 1;
    }
    Ok(reset)
}

fn holds(standing: &Standing, first_changed: u64) -> bool {
    let mut builds = std::iter::once(&standing.current).chain(&standing.next);
    builds.any(|build| build.position >= first_changed)
}
