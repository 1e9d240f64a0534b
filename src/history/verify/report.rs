//! Owns what a verification tells. Knows nothing of how it is found out.

use std::fmt;
use std::time::SystemTime;

use crate::journal::{Record, StreamedFile};
use crate::model::{Metadata, REDACTED_NAME, REDACTED_TAG, system_time};

/// What [`verify_history`](crate::verify_history) or [`verify_against`](crate::verify_against)
/// found.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct HistoryReport {
    /// Sequence of the stored snapshot that replay began with; 0 is the initial model.
    pub begins: u64,
    /// The sequence up to which commands were replayed: the newest, unless there is a divergence.
    pub sequence: u64,
    /// How many commands were replayed.
    pub commands_replayed: u64,
    /// How many of them were erased by [`purge`](crate::purge()), and so did nothing.
    pub commands_redacted: u64,
    /// How many stored snapshots were compared with the replayed model.
    pub snapshots_compared: u64,
    /// How many stored snapshots, older than `begins`, have no commands behind them: archives were
    /// moved away or lost, and snapshots stayed.
    pub snapshots_unreachable: u64,
    /// Where today's code first did otherwise; `None` when it never did.
    pub divergence: Option<Divergence>,
}

/// Where replay parts from what was stored, or from what another program does.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Divergence {
    /// Up to this sequence both agree.
    pub after: u64,
    /// At this sequence they do not.
    pub at: u64,
    /// What shows it.
    pub evidence: Evidence,
    /// The command to blame, where the evidence proves which one it is. Of [`Evidence::Refused`] it
    /// is the one that fails: it, or one of the [`commands`](Self::commands) before it, is to blame.
    pub culprit: Option<Culprit>,
    /// The commands after `after` up to `at`, by name, with their number: one of them is to blame.
    pub commands: Vec<(String, u64)>,
}

/// What shows a divergence, and how much that proves.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Evidence {
    /// The command was accepted once; now it is rejected, panics or cannot be decoded, as this
    /// says. Either its own code changed, or an earlier one's: the model was last known to agree
    /// at [`Divergence::after`].
    Refused(String),
    /// The replayed model has not the digest of the stored snapshot at [`Divergence::at`]. What the
    /// former code did in between is not stored, so only where one command lies in between is it
    /// known to be the culprit. [`verify_against`](crate::verify_against) tells more.
    SnapshotDiffers,
    /// Replayed twice by this program, the same commands came to different models: one of them is
    /// not deterministic (see [`docs::determinism`](crate::docs::determinism)).
    NotDeterministic,
    /// The model at [`Divergence::at`] does not come out of its own encoding as it went in, as this
    /// says: no snapshot of it could be trusted, or compared with another.
    NotStorable(String),
    /// The two models that were replayed side by side are not equal any more.
    ModelsDiffer,
}

/// A command that parts two histories.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Culprit {
    /// Its sequence.
    pub sequence: u64,
    /// Its name when it was journaled.
    pub command: String,
    /// When it was accepted.
    pub time: SystemTime,
    /// Who asked for it.
    pub metadata: Metadata,
}

impl Culprit {
    pub(super) fn of(file: &StreamedFile, sequence: u64, record: &Record<'_>) -> Self {
        Self {
            sequence,
            command: name(file, record.tag).to_owned(),
            time: system_time(record.time_ns),
            metadata: Metadata::decode(record.metadata).unwrap_or_default(),
        }
    }
}

/// What a file calls the command with that tag.
pub(super) fn name(file: &StreamedFile, tag: u16) -> &str {
    if tag == REDACTED_TAG {
        return REDACTED_NAME;
    }
    let named = file.header.commands.iter().find(|(known, _)| *known == tag);
    named.map_or("(not in the file's table)", |(_, name)| name)
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { after, at, evidence, culprit, commands } = self;
        match evidence {
            Evidence::Refused(reason) => write!(f, "replay fails at sequence {at}: {reason}")?,
            Evidence::SnapshotDiffers => {
                write!(f, "the replayed model is not that of the snapshot at sequence {at}")?;
            }
            Evidence::NotDeterministic => {
                write!(f, "replayed twice, the model is not the same at sequence {at}")?;
            }
            Evidence::NotStorable(reason) => {
                return write!(
                    f,
                    "the model at sequence {at}, encoded and decoded, is not what it was: {reason}"
                );
            }
            Evidence::ModelsDiffer => write!(f, "the two models differ at sequence {at}")?,
        }
        write!(f, "; they agree up to sequence {after}")?;
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
                    write!(
                        f,
                        "; it may fail because of what one of the {} before it did",
                        at - after - 1
                    )
                }
                _ => Ok(()),
            };
        }
        let commands: Vec<String> =
            commands.iter().map(|(name, count)| format!("{count} of `{name}`")).collect();
        write!(f, ". In between are {}", commands.join(", "))
    }
}
