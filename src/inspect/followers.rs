//! Owns the description of durable followers: where each stands, and what stays for it. Knows
//! nothing of what a follower does.

use super::found::{FollowerFiles, SegmentFile};
use super::survey::{Survey, foreign};
use crate::error::Error;
use crate::files::{CHECKPOINT_MAGIC, FollowerDirectory, FollowerKind, Standing, list_followers};

impl Survey<'_> {
    /// Describes the durable followers. `newest` is the sequence of the newest command.
    pub(super) fn followers(
        &self,
        newest: u64,
        segments: &[SegmentFile],
    ) -> Result<Vec<FollowerFiles>, Error> {
        let mut found = Vec::new();
        for (kind, name) in list_followers(self.storage, self.directory)? {
            let own = FollowerDirectory::of(self.directory, kind, &name);
            let standing = match own.read(self.storage) {
                Ok(Some(standing)) => Ok(standing),
                Ok(None) => continue, // it was removed meanwhile
                Err(error) => Err(error.to_string()),
            };
            let (standing, mut problem) = match standing {
                Ok(standing) => (Some(standing), None),
                Err(problem) => (None, Some(problem)),
            };
            if let Some(standing) = &standing {
                problem = self.follower_problem(&own, kind, &name, standing);
            }
            let standing = standing.as_ref();
            let at = standing.map_or(0, |it| it.current.position);
            found.push(FollowerFiles {
                kind,
                name,
                position: at,
                next_position: standing.and_then(|it| Some(it.next.as_ref()?.position)),
                lag: standing.map_or(0, |_| newest.saturating_sub(at)),
                version: standing.map_or(0, |it| it.current.version),
                hold_at_most_bytes: standing.map_or(0, |it| it.hold_at_most),
                held_bytes: standing.map_or(0, |it| self.held_bytes(it, segments)),
                lost: standing.and_then(|it| it.lost),
                dead_letters: standing.map_or_else(Vec::new, |it| {
                    it.current.letters.iter().map(|letter| letter.sequence).collect()
                }),
                file_bytes: self.bytes_below(&own.root),
                problem,
                path: own.root,
            });
        }
        Ok(found)
    }

    fn follower_problem(
        &self,
        own: &FollowerDirectory,
        kind: FollowerKind,
        name: &str,
        standing: &Standing,
    ) -> Option<String> {
        let path = own.standing();
        if let Err(error) = foreign(&path, self.manifest.database, standing.database) {
            return Some(error.to_string());
        }
        if (standing.kind, standing.name.as_str()) != (kind, name) {
            return Some(format!(
                "{} is of the {} `{}`, but its directory is that of the {kind} `{name}`",
                path.display(),
                standing.kind,
                standing.name
            ));
        }
        let builds = std::iter::once(&standing.current).chain(&standing.next);
        for build in builds.filter(|build| build.checkpoint > 0) {
            let path = own.checkpoint(build.checkpoint);
            match self.packed(&path, CHECKPOINT_MAGIC) {
                Ok(file) if file.header.sequence == build.position => {}
                Ok(file) => {
                    return Some(format!(
                        "{} is of position {}, but STANDING states {}",
                        path.display(),
                        file.header.sequence,
                        build.position
                    ));
                }
                Err(error) => return Some(error.to_string()),
            }
        }
        None
    }

    /// Returns the bytes of the segments that no snapshot needs, and that stay for a follower.
    fn held_bytes(&self, standing: &Standing, segments: &[SegmentFile]) -> u64 {
        let is_archived = self.directory.has_archive(self.storage).unwrap_or(true);
        if standing.lost.is_some() || is_archived {
            return 0;
        }
        let oldest = self.manifest.snapshots.first().copied().unwrap_or(0);
        let after = standing.needed_after();
        let pairs = segments.iter().zip(segments.iter().skip(1));
        let held = pairs.filter(|(_, next)| {
            next.first_sequence <= oldest.saturating_add(1)
                && next.first_sequence > after.saturating_add(1)
        });
        held.map(|(segment, _)| segment.file_bytes).sum()
    }
}
