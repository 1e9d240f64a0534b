//! Owns which stored commands are wanted, and the way through them. Knows nothing of what is done
//! with each.

use std::time::{Duration, SystemTime};

use prevalence::inspect::{Inspection, StoredRecord, StoredTypes};
use serde_json::value::RawValue;

use crate::arguments::Chosen;
use crate::condition::Condition;
use crate::failure::{Failure, note};

/// How long is waited before it is looked again whether there are further commands.
const PAUSE: Duration = Duration::from_millis(100);

/// What is done with each command.
pub trait Take {
    fn take(&mut self, record: &StoredRecord, decoded: &Decoded) -> Result<(), Failure>;

    /// Is called before further commands are waited for.
    fn pause(&mut self) -> Result<(), Failure> {
        Ok(())
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
    let mut taken = 0;
    let has_all = |taken| chosen.limit.is_some_and(|limit| taken >= limit);
    if has_all(taken) {
        return Ok(taken);
    }
    let mut records = match from {
        Some(from) => look.records(from..=last)?,
        None => look.records(..=last)?,
    };
    let mut types = look.types();
    let mut has_unknown = false;
    loop {
        for record in &mut records {
            let record = record?;
            if chosen.until.is_some_and(|until| record.time >= until) {
                return Ok(taken); // no later command is earlier
            }
            if !chosen.fits(&record) {
                continue;
            }
            let decoded = Decoded::of(&mut types, &record);
            if let (Some(_), Err(reason)) = (&chosen.condition, &decoded.fields) {
                if !has_unknown {
                    let first = record.sequence;
                    note(&format!(
                        "--where leaves out commands that cannot be decoded; the first is {first}: \
                         {reason}"
                    ));
                }
                has_unknown = true;
            }
            if !decoded.meets(chosen.condition.as_ref()) {
                continue;
            }
            take.take(&record, &decoded)?;
            taken += 1;
            if has_all(taken) {
                return Ok(taken);
            }
        }
        take.pause()?;
        let next = records.next_sequence();
        if next > last {
            return Ok(taken);
        }
        if !follow {
            return whole_end(look).map(|()| taken);
        }
        while records.go_on()? < next {
            if chosen.until.is_some_and(|until| SystemTime::now() >= until) {
                return Ok(taken);
            }
            std::thread::sleep(PAUSE);
        }
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
