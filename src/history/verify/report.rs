//! Owns the report of a verification. Knows nothing of how the verification works.

use std::fmt;
use std::time::SystemTime;

use crate::history::stored_commands::StoredCommand;
use crate::model::{Metadata, REDACTED_TAG, system_time};

/// The report of [`verify_history`](crate::verify_history) or
/// [`verify_against`](crate::verify_against).
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct HistoryReport {
    /// The sequence of the stored snapshot with which replay began; 0 is the initial model.
    pub begins: u64,
    /// The sequence up to which commands were replayed: the newest, unless there is a divergence.
    pub sequence: u64,
    /// How many commands were replayed.
    pub commands_replayed: u64,
    /// How many of the replayed commands were erased by a [`purge`](crate::purge()). They do
    /// nothing.
    pub commands_redacted: u64,
    /// How many stored snapshots were compared with the replayed model.
    pub snapshots_compared: u64,
    /// How many stored snapshots older than `begins` could not be compared, because the commands
    /// behind them are not stored: the archives were moved away or lost.
    pub snapshots_unreachable: u64,
    /// The first divergence; `None` if there is none.
    pub divergence: Option<Divergence>,
}

impl HistoryReport {
    /// Counts a replayed command.
    pub(super) fn count(&mut self, command: &StoredCommand<'_>) {
        self.sequence = command.sequence;
        self.commands_replayed += 1;
        self.commands_redacted += u64::from(command.record.tag == REDACTED_TAG);
    }
}

/// Where replay begins to differ from the stored snapshots, or from another program.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Divergence {
    /// Up to this sequence both are equal.
    pub after: u64,
    /// At this sequence they differ.
    pub at: u64,
    /// What shows the difference.
    pub evidence: Evidence,
    /// The command that causes the difference, if the evidence proves which one it is. With
    /// [`Evidence::Refused`] it is the command that fails; the cause is this command or one of the
    /// [`commands`](Self::commands) before it.
    pub culprit: Option<Culprit>,
    /// The names of the commands after `after` up to `at`, and how many there are of each. One of
    /// these commands causes the difference.
    pub commands: Vec<(String, u64)>,
}

/// What shows a divergence, and what it proves.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Evidence {
    /// The command was accepted when it was stored. Now it is rejected, panics or cannot be
    /// decoded, for this reason. Its own code has changed, or the code of an earlier command: the
    /// models were last known to be equal at [`Divergence::after`].
    Refused(String),
    /// The replayed model does not have the digest of the stored snapshot at [`Divergence::at`].
    /// What the former code did between two snapshots is not stored. So the culprit is known only
    /// if there is one command between them. [`verify_against`](crate::verify_against) finds it in
    /// any case.
    SnapshotDiffers,
    /// This program replayed the same commands twice, and made different models: one of the
    /// commands is not deterministic (see [`docs::determinism`](crate::docs::determinism)).
    NotDeterministic,
    /// The model at [`Divergence::at`], encoded and decoded, is not the same model, for this
    /// reason. A snapshot of it cannot be trusted, and cannot be compared with another one.
    NotStorable(String),
    /// The models of the two programs, replayed side by side, are no longer equal.
    ModelsDiffer,
    /// The command at [`Divergence::at`] emits other events than those that were stored when it
    /// was accepted, in the way that this text says. The events of all commands up to
    /// [`Divergence::after`] are equal. Its own code has changed, or that of an earlier command
    /// that emitted the same events and made another model.
    EventsDiffer(String),
}

/// The command at which a divergence begins.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Culprit {
    /// Its sequence.
    pub sequence: u64,
    /// Its name when it was journaled.
    pub command: String,
    /// The time when it was accepted.
    pub time: SystemTime,
    /// Its metadata, for example who asked for it.
    pub metadata: Metadata,
}

impl Culprit {
    pub(super) fn of(command: &StoredCommand<'_>) -> Self {
        let record = &command.record;
        Self {
            sequence: command.sequence,
            command: command.name().to_owned(),
            time: system_time(record.time_ns),
            metadata: Metadata::decode(record.metadata).unwrap_or_default(),
        }
    }
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { after, at, evidence, culprit, commands } = self;
        match evidence {
            Evidence::Refused(reason) => write!(f, "replay fails at sequence {at}: {reason}")?,
            Evidence::SnapshotDiffers => {
                write!(f, "the replayed model differs from the snapshot at sequence {at}")?;
            }
            Evidence::NotDeterministic => {
                write!(f, "two replays made different models at sequence {at}")?;
            }
            Evidence::NotStorable(reason) => {
                return write!(
                    f,
                    "the model at sequence {at} changes when it is encoded and decoded: {reason}"
                );
            }
            Evidence::ModelsDiffer => write!(f, "the two models differ at sequence {at}")?,
            Evidence::EventsDiffer(how) => {
                write!(f, "the command at sequence {at} has other events: {how}")?;
            }
        }
        write!(f, "; up to sequence {after} there is no difference")?;
        if let Some(Culprit { sequence, command, time, metadata }) = culprit {
            let actor = if metadata.actor.is_empty() { "unknown" } else { &metadata.actor };
            let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let seconds = since.as_secs_f64();
            write!(
                f,
                ". The command is `{command}` with sequence {sequence}, accepted {seconds:.3} s \
                 after 1970 for actor `{actor}`"
            )?;
            return match evidence {
                Evidence::Refused(_) if at - after > 1 => {
                    let first = after + 1;
                    write!(f, "; the cause may be a command before it, from sequence {first} on")
                }
                _ => Ok(()),
            };
        }
        let commands: Vec<String> =
            commands.iter().map(|(name, count)| format!("{count} of `{name}`")).collect();
        write!(f, ". The commands between them are {}", commands.join(", "))
    }
}
