//! Owns how a program starts, lists and removes durable followers. Knows nothing of how they work.

use std::path::Path;

use super::feeder::Feeder;
use super::follower::Follower;
use super::gated::Gated;
use super::handle::{FollowerHandle, ProjectionHandle};
use super::keeper::Keeper;
use super::options::FollowerOptions;
use super::projection::Projection;
use super::reactor::{Reacting, Reactor};
use super::sink::Sink;
use super::thread::{Works, start};
use crate::Database;
use crate::error::Error;
use crate::files::{
    Directory, FollowerDirectory, FollowerKind, Standing, list_followers, position,
};
use crate::model::Model;
use crate::storage::Storage;

/// A durable follower of a database, whether it runs or not; see
/// [`Database::followers`](crate::Database::followers).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FollowerInfo {
    /// What it is.
    pub kind: FollowerKind,
    /// Its name.
    pub name: String,
    /// The version of its code, if it is a projection.
    pub version: u32,
    /// The sequence of the last command that it holds durably. Behind it, the journal is held.
    pub position: u64,
    /// How many bytes of the journal it may hold.
    pub hold_at_most_bytes: u64,
    /// If it has lost commands: the oldest sequence that was still stored then.
    pub lost: Option<u64>,
    /// Commands that were put aside.
    pub dead_letters: u64,
    /// Whether it runs.
    pub runs: bool,
    /// What is wrong with the file that says where it stands. Then all figures are 0.
    pub damage: Option<String>,
}

impl<M: Model> Database<M> {
    /// Starts a projection under a name, which is the name of a directory. It goes on from its
    /// checkpoint, or begins with `initial` before the first command.
    ///
    /// ```
    /// # use prevalence::{Command, Context, Database, Model};
    /// use prevalence::{FollowerError, FollowerOptions, Projection, Recorded};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Default, Serialize, Deserialize)]
    /// # struct Till(u64);
    /// # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    /// # struct Paid(u64);
    /// # impl Model for Till { type Event = Paid; }
    /// # #[derive(Serialize, Deserialize)]
    /// # struct PayIn(u64);
    /// # impl Command<Till> for PayIn {
    /// #     type Output = ();
    /// #     type Rejection = std::convert::Infallible;
    /// #     fn apply(self, till: &mut Till, cx: &mut Context<'_, Till>)
    /// #         -> Result<(), Self::Rejection> { till.0 += self.0; cx.emit(Paid(self.0)); Ok(()) }
    /// # }
    /// # prevalence::commands! { Till { 1 => PayIn } }
    /// #[derive(Clone, Default, Serialize, Deserialize)]
    /// struct Payments {
    ///     count: u64,
    /// }
    ///
    /// impl Projection<Till> for Payments {
    ///     fn apply(&mut self, recorded: &Recorded<Till>) -> Result<(), FollowerError> {
    ///         self.count += recorded.events.len() as u64;
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let till = Database::<Till>::open(directory.path())?;
    /// let options = FollowerOptions::new();
    /// let payments = till.projection("payments", Payments::default(), options)?;
    /// till.execute(PayIn(100))?;
    /// payments.wait_for(till.sequence(), std::time::Duration::from_secs(10))?;
    /// assert_eq!(payments.query(|payments| payments.count), 1);
    /// # drop(payments);
    /// # till.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::FollowerRuns`] if a projection of this name runs; [`Error::InvalidOption`] if the
    /// name has other characters than ASCII letters, digits, `-` and `_`, or more than 100;
    /// [`Error::HistoryTruncated`] if it must be built and history does not reach back to the first
    /// command, unless [`Projection::from_model`] helps; [`Error::Stopped`], [`Error::Forked`], and
    /// errors of reading and writing its files. A damaged checkpoint is no error: it is told in the
    /// [status](crate::FollowerStatus::damage), and the projection is built anew.
    pub fn projection<P: Projection<M>>(
        &self,
        name: &str,
        initial: P,
        options: FollowerOptions,
    ) -> Result<ProjectionHandle<M, P>, Error> {
        let kind = FollowerKind::Projection;
        let (follower, found) = Follower::take(self.followed()?, (kind, name), options)?;
        let keeper = Keeper::new(follower, found, initial, self.engine())?;
        let published = keeper.published();
        Ok(ProjectionHandle::new(self.started(keeper, kind)?, published))
    }

    /// Starts to feed another database under a name. It goes on behind the position that the sink
    /// tells.
    ///
    /// # Errors
    /// As for [`projection`](Self::projection). Failures of the sink itself are told in the
    /// [status](crate::FollowerStatus::state).
    pub fn sink<S: Sink<M>>(
        &self,
        name: &str,
        sink: S,
        options: FollowerOptions,
    ) -> Result<FollowerHandle<M>, Error> {
        let kind = FollowerKind::Sink;
        let (follower, found) = Follower::take(self.followed()?, (kind, name), options)?;
        self.started(Feeder::new(follower, found, sink)?, kind)
    }

    /// Starts a reactor under a name. It goes on behind its durable position, or begins where the
    /// options say.
    ///
    /// # Errors
    /// As for [`projection`](Self::projection). [`Error::Corrupt`] if its position is damaged:
    /// then [remove](Self::remove_follower) it, and let it begin where you know that it has come
    /// to. [`Error::FollowerRefuses`] if request ids are not remembered.
    pub fn reactor<R: Reactor<M>>(
        &self,
        name: &str,
        reactor: R,
        options: FollowerOptions,
    ) -> Result<FollowerHandle<M>, Error> {
        let kind = FollowerKind::Reactor;
        let (follower, found) = Follower::take(self.followed()?, (kind, name), options)?;
        self.started(Reacting::new(follower, found, reactor, self.engine())?, kind)
    }

    fn started(
        &self,
        mut works: impl Works<M>,
        kind: FollowerKind,
    ) -> Result<FollowerHandle<M>, Error> {
        let Follower { seat, own, .. } = works.follower();
        let handle = FollowerHandle::new(seat.clone(), self.followed()?, own.clone());
        start(works, kind)?;
        Ok(handle)
    }

    /// Lists all durable followers, also those that do not run.
    ///
    /// # Errors
    /// [`Error::Io`] if the directory cannot be read; [`Error::Forked`].
    pub fn followers(&self) -> Result<Vec<FollowerInfo>, Error> {
        let followed = self.followed()?;
        let storage = &*followed.storage;
        let board = &followed.shared.followers;
        let mut found = Vec::new();
        for (kind, name) in list_followers(storage, &followed.directory)? {
            let runs = board.find(kind, &name).is_some();
            let own = FollowerDirectory::of(&followed.directory, kind, &name);
            match own.read(storage).map_err(Error::from) {
                Ok(Some(standing)) => found.push(info(standing, name, runs)),
                Ok(None) => {} // it was removed just now
                Err(error @ Error::Io { .. }) => return Err(error),
                Err(damage) => {
                    let damage = Some(damage.to_string());
                    found.push(FollowerInfo {
                        kind,
                        name,
                        version: 0,
                        position: 0,
                        hold_at_most_bytes: 0,
                        lost: None,
                        dead_letters: 0,
                        runs,
                        damage,
                    });
                }
            }
        }
        Ok(found)
    }

    /// Removes a durable follower that does not run, with all that is stored of it here, so that it
    /// no longer holds the journal. What a sink has stored in another database stays there.
    ///
    /// # Errors
    /// [`Error::FollowerRuns`] if it runs; [`Error::FollowerRefuses`] if there is none of that
    /// name; [`Error::Io`] if a file cannot be removed; [`Error::Stopped`]; [`Error::Forked`].
    pub fn remove_follower(&self, kind: FollowerKind, name: &str) -> Result<(), Error> {
        let followed = self.followed()?;
        let board = &followed.shared.followers;
        let Some(seat) = board.take(kind, name) else {
            return Err(match board.is_closing() {
                true => Error::Stopped,
                false => Error::FollowerRuns { kind, name: name.to_owned() },
            });
        };
        let inner = followed.storage.clone();
        let storage = Gated { inner, board: board.clone() };
        let removed = {
            // The clean-up may be about to say that the follower is lost.
            let _alone = board.standings();
            remove(&storage, &followed.directory, kind, name, || board.is_not_lost(&seat))
        };
        board.leave(&seat);
        // What was held for it may go now.
        followed.shared.snapshots.wake();
        removed
    }
}

/// Removes the files of a follower. Its standing goes first: without it, nothing else counts.
fn remove(
    storage: &dyn Storage,
    directory: &Directory,
    kind: FollowerKind,
    name: &str,
    gone: impl FnOnce(),
) -> Result<(), Error> {
    let known = list_followers(storage, directory)?;
    if !known.iter().any(|(known, its)| *known == kind && its == name) {
        let reason = "there is none of that name".to_owned();
        return Err(Error::FollowerRefuses { kind, name: name.to_owned(), reason });
    }
    let own = FollowerDirectory::of(directory, kind, name);
    let remove = |path: &Path| storage.remove(path).map_err(Error::io("remove", path));
    remove(&own.standing())?;
    gone();
    storage.sync_directory(&own.root).map_err(Error::io("sync directory", &own.root))?;
    for name in storage.list(&own.root).map_err(Error::io("list", &own.root))? {
        remove(&own.root.join(name))?;
    }
    storage.remove_directory(&own.root).map_err(Error::io("remove", &own.root))?;
    let parent = own.root.parent().unwrap_or(&own.root);
    storage.sync_directory(parent).map_err(Error::io("sync directory", parent))
}

fn info(standing: Standing, name: String, runs: bool) -> FollowerInfo {
    let position_held = standing.needed_after();
    let build = standing.next.as_ref().unwrap_or(&standing.current);
    FollowerInfo {
        kind: standing.kind,
        name,
        version: build.version,
        position: position_held,
        hold_at_most_bytes: standing.hold_at_most,
        lost: standing.lost,
        dead_letters: position(build.letters.len()),
        runs,
        damage: None,
    }
}
