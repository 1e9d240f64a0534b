//! Owns what every durable follower has: its seat, its files, its dead letters. Knows nothing of
//! what it does with a command.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::FollowerOptions;
use super::gated::Gated;
use super::thread::Failure;
use crate::codec::LARGEST_COMMAND_BYTES;
use crate::engine::{FollowerSeat, FollowerState, LONG_WAIT, beginning};
use crate::error::Error;
use crate::events::{Followed, From, Recorded, Subscription};
use crate::files::{
    Build, Directory, FollowerDirectory, FollowerKind, Letter, MOST_LETTER_BYTES, MOST_LETTERS,
    MOST_NAME_BYTES, MOST_REASON_BYTES, Standing,
};
use crate::history::{HistoryRecord, RecordOrigin, StoredRecords};
use crate::journal::Record;
use crate::model::{LARGEST_EVENTS_BYTES, Model, encode_events, time_ns};
use crate::options::Events;
use crate::panics::told_of_panics;
use crate::storage::Storage;

/// The least and the longest time between a failed save and the next try. An interval may be
/// longer, but what is not saved holds the journal.
const LEAST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

// One record always fits into a dead letter: a command, its events, its metadata, the headers.
const _: () =
    assert!(MOST_LETTER_BYTES >= LARGEST_COMMAND_BYTES + LARGEST_EVENTS_BYTES + (1 << 20));

/// What every durable follower has.
pub(super) struct Follower<M: Model> {
    pub(super) followed: Followed<M>,
    /// It changes nothing any more once the database was closed.
    pub(super) storage: Arc<dyn Storage>,
    pub(super) seat: Arc<FollowerSeat>,
    pub(super) own: FollowerDirectory,
    pub(super) standing: Standing,
    pub(super) options: FollowerOptions,
    pub(super) subscription: Option<Subscription<M>>,
    /// What the records of dead letters belong to.
    letters: Arc<RecordOrigin<M>>,
    /// When the first command was worked on that is not saved, and how many there are.
    unsaved_since: Instant,
    unsaved: u64,
    /// When the last save failed, if it did.
    failed_at: Option<Instant>,
}

impl<M: Model> Follower<M> {
    /// Takes the seat of that name, and reads where the follower stands. Returns also what was
    /// damaged.
    pub(super) fn take(
        followed: Followed<M>,
        (kind, name): (FollowerKind, &str),
        options: FollowerOptions,
    ) -> Result<(Self, Found), Error> {
        if followed.process.is_forked() {
            return Err(Error::Forked);
        }
        check_name(name)?;
        let runs = || Error::FollowerRuns { kind, name: name.to_owned() };
        let board = &followed.shared.followers;
        let taken = board.take(kind, name);
        if taken.is_none() && board.is_closing() {
            return Err(Error::Stopped);
        }
        let seat = taken.ok_or_else(runs)?;
        let inner = followed.storage.clone();
        let storage: Arc<dyn Storage> = Arc::new(Gated { inner, board: board.clone() });
        let own = FollowerDirectory::of(&followed.directory, kind, name);
        let standing = Standing {
            database: followed.identity.database,
            kind,
            name: name.to_owned(),
            hold_at_most: options.hold_at_most_bytes,
            lost: None,
            current: Build::default(),
            next: None,
        };
        // A letter has the events that it had, whatever becomes of those of new commands.
        let mut letters = followed.live_file();
        letters.header.events = Events::Stored.code();
        let mut made = Self {
            followed,
            storage,
            seat,
            own,
            standing,
            options,
            subscription: None,
            letters: RecordOrigin::of_this_program(letters),
            unsaved_since: Instant::now(),
            unsaved: 0,
            failed_at: None,
        };
        let found = made.read()?;
        Ok((made, found))
    }

    /// Reads where it stands.
    fn read(&mut self) -> Result<Found, Error> {
        let storage = &*self.storage;
        Directory::create_follower(storage, &self.own)?;
        {
            // One may be there for a moment, to say that the follower is lost.
            let _alone = self.followed.shared.followers.standings();
            self.own.remove_temporaries(storage)?;
        }
        let found = match self.own.read(storage) {
            Ok(None) => return Ok(Found::Nothing),
            Ok(Some(found)) => found,
            Err(error) => match Error::from(error) {
                error @ Error::Io { .. } => return Err(error),
                damage => return Ok(Found::Damaged(damage)),
            },
        };
        let (expected, is_of) = (&self.standing, (found.database, found.kind, &found.name));
        if is_of != (expected.database, expected.kind, &expected.name) {
            let path = self.own.standing();
            let text = |(database, kind, name)| format!("{kind} `{name}` of database {database}");
            let whose = (expected.database, expected.kind, &expected.name);
            return Ok(Found::Damaged(Error::corrupt(&path, 16, text(whose), text(is_of))));
        }
        let hold_at_most = self.standing.hold_at_most;
        self.standing = Standing { hold_at_most, ..found };
        Ok(Found::Standing)
    }

    /// Follows the database behind a sequence.
    pub(super) fn subscribe_after(&mut self, position: u64) -> Result<(), Error> {
        self.subscription = None; // so that two never keep batches
        let made = Subscription::new(self.followed.clone(), From::After(position))?;
        self.subscription = Some(made);
        Ok(())
    }

    /// Returns the next command behind `position`. If it `waits`, it waits until the position
    /// should be saved, or an order comes.
    pub(super) fn next(
        &mut self,
        position: u64,
        waits: bool,
    ) -> Result<Option<Recorded<M>>, Failure> {
        if self.subscription.is_none() {
            self.subscribe_after(position).map_err(|error| failure(position, &error))?;
        }
        let timeout = if waits { self.until_save() } else { Duration::ZERO };
        let Self { subscription: Some(subscription), seat, .. } = self else { return Ok(None) };
        let next = subscription.next_unless(timeout, &|| seat.is_wanted());
        next.map_err(|error| {
            self.subscription = None;
            failure(position, &error)
        })
    }

    /// Whether the database was closed, and everything was given.
    pub(super) fn has_ended(&self) -> bool {
        self.subscription.as_ref().is_some_and(Subscription::has_ended)
    }

    pub(super) fn until_save(&self) -> Duration {
        let interval = self.options.checkpoint_interval;
        match (self.failed_at, self.unsaved) {
            // A disk that fails is not tried again without a pause.
            (Some(at), _) => {
                interval.clamp(LEAST_PAUSE, LONGEST_PAUSE).saturating_sub(at.elapsed())
            }
            (None, 0) => LONG_WAIT,
            (None, _) => interval.saturating_sub(self.unsaved_since.elapsed()),
        }
    }

    /// Notes that this many commands more are worked on.
    pub(super) fn note(&mut self, commands: u64) {
        if self.unsaved == 0 {
            self.unsaved_since = Instant::now();
        }
        self.unsaved += commands;
    }

    /// Whether the position should be made durable now.
    pub(super) fn is_save_due(&self) -> bool {
        let is_much = self.unsaved >= self.options.checkpoint_commands;
        is_much && self.failed_at.is_none() || self.until_save().is_zero()
    }

    /// Notes whether the position is durable now.
    pub(super) fn note_save(&mut self, saved: &Result<(), Error>) {
        match saved {
            Ok(()) => (self.unsaved, self.failed_at) = (0, None),
            Err(_) => self.failed_at = Some(Instant::now()),
        }
        let failure = saved.as_ref().err().map(|error| error.to_string().into());
        self.seat.tell(|status| status.checkpoint_failure = failure);
    }

    pub(super) fn has_failed_to_save(&self) -> bool {
        self.failed_at.is_some()
    }

    pub(super) fn has_unsaved(&self) -> bool {
        self.unsaved > 0 || self.failed_at.is_some()
    }

    /// Makes `standing` durable. If the clean-up has marked the follower as lost, that stays until
    /// a position is durable from which it can go on.
    pub(super) fn save(&mut self, standing: Standing) -> Result<(), Error> {
        self.save_as(standing, false)
    }

    /// Does the same for a follower that begins anew, where all commands are stored.
    pub(super) fn save_begun(&mut self, standing: Standing) -> Result<(), Error> {
        self.save_as(standing, true)
    }

    fn save_as(&mut self, mut standing: Standing, has_begun: bool) -> Result<(), Error> {
        let board = &self.followed.shared.followers;
        {
            let _alone = board.standings();
            let known = match self.own.read(&*self.storage).map_err(Error::from) {
                Ok(known) => known.and_then(|it| it.lost),
                Err(error @ Error::Io { .. }) => return Err(error),
                Err(_) => None, // what is damaged is replaced
            };
            let can_go_on = |oldest: &u64| standing.needed_after().saturating_add(1) >= *oldest;
            let lost = standing.lost.max(known);
            standing.lost = lost.filter(|oldest| !has_begun && !can_go_on(oldest));
            self.own.replace(&*self.storage, &standing)?;
            if standing.lost.is_none() {
                board.is_not_lost(&self.seat);
            }
        }
        self.standing = standing;
        // Segments that were held for it may go now.
        if board.held_bytes() > 0 {
            self.followed.shared.snapshots.wake();
        }
        let Standing { current, next, .. } = &self.standing;
        let Build { position, letters, .. } = next.as_ref().unwrap_or(current);
        self.seat.tell(|status| {
            status.durable_position = *position;
            status.dead_letters = crate::files::position(letters.len());
        });
        Ok(())
    }

    /// Makes a dead letter.
    pub(super) fn letter(
        &self,
        failed: &Recorded<M>,
        attempts: u32,
        reason: &str,
    ) -> Result<Letter, Error> {
        let record = with_events(failed).map_err(|why| {
            let sequence = failed.sequence;
            self.refuses(format!("command {sequence} cannot be put aside with its events: {why}"))
        })?;
        Ok(Letter {
            sequence: failed.sequence,
            time_ns: time_ns(self.storage.now()),
            attempts,
            reason: beginning(reason, MOST_REASON_BYTES).to_owned(),
            record,
        })
    }

    /// Adds a dead letter to those of a build.
    pub(super) fn put_aside(&self, build: &mut Build, letter: Letter) -> Result<(), Error> {
        let bytes: usize = build.letters.iter().map(|it| it.record.len()).sum();
        let fits = build.letters.is_empty() || bytes + letter.record.len() <= MOST_LETTER_BYTES;
        if !fits || build.letters.len() >= MOST_LETTERS {
            let count = build.letters.len();
            return Err(self.refuses(format!(
                "it has {count} dead letters already, the most that are kept; replay them, or \
                 build it anew"
            )));
        }
        build.letters.retain(|it| it.sequence != letter.sequence);
        let at = build.letters.partition_point(|it| it.sequence < letter.sequence);
        build.letters.insert(at, letter);
        Ok(())
    }

    /// Reads the command of a dead letter.
    pub(super) fn opened(&self, build: &Build, sequence: u64) -> Result<Recorded<M>, Error> {
        let letter = build.letters.iter().find(|letter| letter.sequence == sequence);
        let none = || self.refuses(format!("there is no dead letter with sequence {sequence}"));
        let bytes: Arc<[u8]> = letter.ok_or_else(none)?.record.as_slice().into();
        let stored = Arc::new(StoredRecords { origin: self.letters.clone(), bytes });
        let read = HistoryRecord::read(&stored, sequence, 0);
        let (path, expected) = (self.own.standing(), "the record of a command in a dead letter");
        let (record, _) = read.ok_or_else(|| Error::corrupt(&path, 0, expected, "other bytes"))?;
        Recorded::of(record)
    }

    pub(super) fn refuses(&self, reason: impl Into<String>) -> Error {
        let (kind, name) = (self.seat.kind, self.seat.name.to_string());
        Error::FollowerRefuses { kind, name, reason: reason.into() }
    }

    /// Sets the state.
    pub(super) fn enter(&self, state: FollowerState) {
        self.seat.tell(|status| status.state = state);
    }
}

impl<M: Model> Drop for Follower<M> {
    fn drop(&mut self) {
        self.followed.shared.followers.leave(&self.seat);
    }
}

/// What was found of a follower at its start.
pub(super) enum Found {
    Nothing,
    Standing,
    Damaged(Error),
}

/// Returns the record of a command, with its events also if they are not stored with it.
fn with_events<M: Model>(failed: &Recorded<M>) -> Result<Vec<u8>, String> {
    if !failed.command.has_derived_events() || failed.events.is_empty() {
        return Ok(failed.command.encoded().to_vec());
    }
    let (mut encoded, mut events) = (Vec::new(), Vec::new());
    // `Serialize` is a user's code.
    told_of_panics("event's Serialize", || encode_events::<M>(&failed.events, &mut events))??;
    let record = Record { events: Some(&events), ..failed.command.record() };
    record.push_onto(&mut encoded);
    Ok(encoded)
}

fn check_name(name: &str) -> Result<(), Error> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if !name.is_empty() && name.len() <= MOST_NAME_BYTES && name.bytes().all(is_plain) {
        return Ok(());
    }
    Err(Error::InvalidOption {
        option: "name",
        value: format!("{name:?}"),
        constraint: format!(
            "a follower's name has 1 to {MOST_NAME_BYTES} ASCII letters, digits, `-` and `_`, \
             because it is the name of a directory"
        ),
    })
}

/// What an error of a subscription means for a follower.
pub(super) fn failure(position: u64, error: &Error) -> Failure {
    match lost_before(error) {
        Some(oldest) => Failure::Lost(oldest),
        None => Failure::At(position + 1, error.to_string()),
    }
}

/// Returns from which command on a follower can work, if the error says that what is before is no
/// longer stored.
pub(super) fn lost_before(error: &Error) -> Option<u64> {
    match error {
        Error::HistoryTruncated { oldest, .. } => Some(*oldest),
        // The commands may be there, but not the model before them.
        Error::EventsNotDerivable { oldest, .. } => Some(oldest.saturating_add(1)),
        _ => None,
    }
}
