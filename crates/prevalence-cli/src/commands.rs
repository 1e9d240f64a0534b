//! Owns which stored commands are wanted, and the way through them. Knows nothing of what is done
//! with each.

use std::ops::ControlFlow;
use std::time::{Duration, SystemTime};

use prevalence::inspect::{Inspection, StoredRecord, StoredRecords, StoredTypes};
use prevalence::rescue::{Salvaged, salvage};
use serde_json::value::RawValue;

use crate::arguments::Chosen;
use crate::condition::Condition;
use crate::failure::{Failure, note};

/// How long is waited before it is looked again whether there are further commands.
const PAUSE: Duration = Duration::from_millis(100);

/// So many damaged files are told of.
const MOST_TOLD: usize = 20;

/// What is done with each command.
pub trait Take {
    fn take(&mut self, record: &StoredRecord, decoded: &Decoded) -> Result<(), Failure>;

    /// Is called before further commands are waited for.
    fn pause(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    /// Whether the commands behind damage are wanted, too. Otherwise damage is an error at once.
    fn goes_on_behind_damage(&self) -> bool {
        false
    }
}

impl Chosen {
    /// Opens the database in which they are.
    pub fn look(&self) -> Result<Inspection, Failure> {
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from > to
        {
            let reason = format!("--from {from} is behind --to {to}. Exchange them");
            return Err(Failure::Usage(reason));
        }
        Ok(Inspection::open(&self.path)?)
    }

    fn fits(&self, record: &StoredRecord) -> bool {
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        };
        self.since.is_none_or(|since| record.time >= since)
            && is(&self.actor, &record.metadata.actor)
            && is(&self.request_id, &record.metadata.request_id)
            && (self.command.is_empty()
                || self.command.iter().any(|name| **name == *record.command_name))
    }
}

/// Gives each chosen command to `take`. With `follow` it waits for further ones. Returns how many
/// there were.
pub fn each(
    look: &Inspection,
    chosen: &Chosen,
    follow: bool,
    take: &mut dyn Take,
) -> Result<u64, Failure> {
    let from = match (chosen.from, chosen.since) {
        (Some(from), _) => Some(from),
        (None, Some(since)) => Some(look.sequence_before(since)),
        (None, None) => None,
    };
    let last = chosen.to.unwrap_or(u64::MAX);
    let mut passing = Passing { chosen, take, types: look.types(), has_unknown: false, taken: 0 };
    let mut damage = Damage::default();
    if passing.has_all() {
        return Ok(0);
    }
    let first = from.or_else(|| look.oldest_sequence()).unwrap_or(1);
    let mut opened = match from {
        Some(from) => look.records(from..=last),
        None => look.records(..=last),
    };
    let mut next = first;
    loop {
        let read = match opened {
            Ok(records) => passing.read(look, records, last, follow)?,
            Err(error) => Read::damaged(error)?,
        };
        let reason = match read {
            Read::All => return damage.end(passing.taken),
            Read::UpTo(sequence, reason) => {
                next = sequence.unwrap_or(next);
                reason
            }
        };
        if !passing.take.goes_on_behind_damage() {
            return Err(reason);
        }
        match damage.pass(look, &mut passing, (next, last), reason)? {
            // Without progress, it would be the same damage again.
            Some(behind) if follow && behind > next => next = behind,
            _ => return damage.end(passing.taken),
        }
        let look = look.again()?;
        whole_end(&look)?;
        opened = look.records(next..=last);
    }
}

/// How reading the commands has ended.
enum Read {
    /// No further one is wanted.
    All,
    /// There is damage, at this sequence or at the first that is wanted.
    UpTo(Option<u64>, Failure),
}

impl Read {
    /// Makes it of an error; behind some errors there is nothing to go on with.
    fn damaged(error: prevalence::Error) -> Result<Self, Failure> {
        match error {
            error @ prevalence::Error::HistoryTruncated { .. } => Err(error.into()),
            error => Ok(Self::UpTo(None, error.into())),
        }
    }
}

/// The commands on their way to `take`.
struct Passing<'a> {
    chosen: &'a Chosen,
    take: &'a mut dyn Take,
    types: StoredTypes,
    has_unknown: bool,
    taken: u64,
}

impl Passing<'_> {
    fn has_all(&self) -> bool {
        self.chosen.limit.is_some_and(|limit| self.taken >= limit)
    }

    /// Reads commands until no further one is wanted, or there is damage. With `follow` it waits
    /// for further ones.
    fn read(
        &mut self,
        look: &Inspection,
        mut records: StoredRecords,
        last: u64,
        follow: bool,
    ) -> Result<Read, Failure> {
        loop {
            while let Some(record) = records.next() {
                match record {
                    Ok(record) if self.offer(&record)?.is_break() => return Ok(Read::All),
                    Ok(_) => {}
                    Err(error) => {
                        return Ok(match Read::damaged(error)? {
                            Read::UpTo(_, reason) => {
                                Read::UpTo(Some(records.next_sequence()), reason)
                            }
                            all @ Read::All => all,
                        });
                    }
                }
            }
            self.take.pause()?;
            let next = records.next_sequence();
            if next > last {
                return Ok(Read::All);
            }
            if !follow {
                return Ok(match whole_end(look) {
                    Ok(()) => Read::All,
                    Err(reason) => Read::UpTo(Some(next), reason),
                });
            }
            while records.go_on()? < next {
                if self.chosen.until.is_some_and(|until| SystemTime::now() >= until) {
                    return Ok(Read::All);
                }
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// Takes a command if it is one of those that are wanted. Breaks if no further one is.
    fn offer(&mut self, record: &StoredRecord) -> Result<ControlFlow<()>, Failure> {
        let chosen = self.chosen;
        if chosen.until.is_some_and(|until| record.time >= until) {
            return Ok(ControlFlow::Break(())); // no later command is earlier
        }
        if !chosen.fits(record) {
            return Ok(ControlFlow::Continue(()));
        }
        let decoded = Decoded::of(&mut self.types, record);
        if let (Some(_), Err(reason)) = (&chosen.condition, &decoded.fields) {
            if !self.has_unknown {
                let first = record.sequence;
                note(&format!(
                    "--where leaves out commands that cannot be decoded; the first is {first}: \
                     {reason}"
                ));
            }
            self.has_unknown = true;
        }
        if !decoded.meets(chosen.condition.as_ref()) {
            return Ok(ControlFlow::Continue(()));
        }
        self.take.take(record, &decoded)?;
        self.taken += 1;
        Ok(match self.has_all() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
    }
}

/// What of the wanted commands could not be read.
#[derive(Default)]
struct Damage {
    was_found: bool,
    missing: u64,
}

impl Damage {
    /// Goes on behind damage, and says what is missing. Returns the sequence behind the newest
    /// command; `None` if all that are wanted were found.
    fn pass(
        &mut self,
        look: &Inspection,
        passing: &mut Passing<'_>,
        (from, last): (u64, u64),
        reason: Failure,
    ) -> Result<Option<u64>, Failure> {
        passing.take.pause()?; // what is before the damage comes first
        self.was_found = true;
        note(&format!("damage: {}", reason.told()));
        let mut salvage = salvage(look, from)?;
        for it in salvage.unreadable().iter().take(MOST_TOLD) {
            note(&format!("damage: {}: {}", it.path.display(), it.reason));
        }
        let more = salvage.unreadable().len().saturating_sub(MOST_TOLD);
        if more > 0 {
            note(&format!("damage: and {more} more: see `prevalence verify`"));
        }
        let mut next = from;
        for found in &mut salvage {
            match found? {
                Salvaged::Command(record) if record.sequence > last => return Ok(None),
                Salvaged::Command(record) => {
                    next = record.sequence.saturating_add(1);
                    if passing.offer(&record)?.is_break() {
                        return Ok(None);
                    }
                }
                Salvaged::Missing(gap) if *gap.start() > last => return Ok(None),
                Salvaged::Missing(gap) => {
                    let (first, end) = (*gap.start(), (*gap.end()).min(last));
                    self.missing += (end - first).saturating_add(1);
                    next = end.saturating_add(1);
                    passing.take.pause()?;
                    note(&format!(
                        "missing: {}",
                        match first == end {
                            true => format!("the command with sequence {first} cannot be read"),
                            false => format!("commands {first} to {end} cannot be read"),
                        }
                    ));
                }
                _ => {}
            }
        }
        passing.take.pause()?;
        Ok(Some(next))
    }

    /// Returns how many commands were taken, or the error that not all could be read.
    fn end(&self, taken: u64) -> Result<u64, Failure> {
        if !self.was_found {
            return Ok(taken);
        }
        let missing = match self.missing {
            0 => "files are damaged, but all commands in them could be read".to_owned(),
            1 => "one of the commands cannot be read".to_owned(),
            missing => format!("{missing} of the commands cannot be read"),
        };
        Err(Failure::Incomplete(format!(
            "{missing}. Restore the damaged files from a backup, or see `prevalence verify` for \
             what they mean and `prevalence repair` for what can be saved"
        )))
    }
}

/// Returns an error if the journal does not end as it should: then commands may be missing behind
/// those that were read.
fn whole_end(look: &Inspection) -> Result<(), Failure> {
    let problem = match look.journal_end() {
        Some(end) => end.problem.clone(),
        None => Some("its newest segment cannot be read".to_owned()),
    };
    problem.map_or(Ok(()), |problem| {
        let reason = format!(
            "the journal cannot be read to its end: {problem}. See `prevalence verify` for what is \
             lost"
        );
        Err(Failure::Incomplete(reason))
    })
}

/// What is known of the types of a command.
pub struct Decoded {
    pub fields: Result<Box<RawValue>, String>,
    pub events: Result<Option<Vec<Box<RawValue>>>, String>,
}

impl Decoded {
    fn of(types: &mut StoredTypes, record: &StoredRecord) -> Self {
        let raw = |json: String| RawValue::from_string(json).map_err(|error| error.to_string());
        let events = types
            .events_json(record)
            .and_then(|events| events.map(|all| all.into_iter().map(raw).collect()).transpose());
        Self { fields: types.command_json(record).and_then(raw), events }
    }

    fn meets(&self, condition: Option<&Condition>) -> bool {
        let Some(condition) = condition else { return true };
        let Ok(fields) = &self.fields else { return false };
        condition.holds(fields)
    }
}
