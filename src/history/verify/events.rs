//! Owns the comparison of the events that a command emits on replay with those that were stored
//! when it was accepted. Knows nothing of models.

use crate::error::Error;
use crate::history::stored_commands::StoredCommand;
use crate::model::{Model, decode_events, encode_events, split_events};
use crate::options::Events;
use crate::panics::told_of_panics;

/// Returns what is different about the events that a command emits now; `None` if they are those
/// that are stored, or none are stored of commands in this file.
pub(super) fn difference<M: Model>(
    command: &StoredCommand<'_>,
    emitted: &[M::Event],
) -> Result<Option<String>, Error> {
    if command.file.header.events != Events::Stored.code() {
        return Ok(None);
    }
    let stored = command.record.events.unwrap_or(&[]);
    let now = match encoded::<M>(emitted) {
        Ok(now) => now,
        Err(reason) => return Ok(Some(reason)),
    };
    if now == stored {
        return Ok(None);
    }
    if !stored.is_empty() && split_events(stored).is_none() {
        return Err(undecodable(command, "the record of its events is not whole".to_owned()));
    }
    let count = |bytes: &[u8]| split_events(bytes).map_or(0, |(_, events)| events.len());
    let (before, after) = (count(stored), emitted.len());
    if before != after {
        return Ok(Some(format!("it emitted {before} events, and emits {after} now")));
    }
    let is_outdated = split_events(stored).is_some_and(|(it, _)| it != M::EVENT_VERSION);
    let stored = match is_outdated {
        true => renewed::<M>(command, stored)?,
        false => stored.to_vec(),
    };
    let events = |bytes| split_events(bytes).map(|(_, events)| events).unwrap_or_default();
    let pairs = events(&stored).into_iter().zip(events(&now));
    let other = { pairs }.position(|(before, after)| before != after);
    Ok(other.map(|index| format!("its event {} of {after} is another one now", index + 1)))
}

/// Encodes events as they are stored; no events are no bytes.
fn encoded<M: Model>(events: &[M::Event]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    if !events.is_empty() {
        told_of_panics("event's Serialize", || encode_events::<M>(events, &mut bytes))??;
    }
    Ok(bytes)
}

/// Encodes events again that another version of the program has stored.
fn renewed<M: Model>(command: &StoredCommand<'_>, stored: &[u8]) -> Result<Vec<u8>, Error> {
    let events = told_of_panics("event's Deserialize", || decode_events::<M>(stored));
    let renewed = events.and_then(|events| encoded::<M>(&events?));
    renewed.map_err(|reason| undecodable(command, reason))
}

fn undecodable(command: &StoredCommand<'_>, reason: String) -> Error {
    Error::EventsUndecodable {
        path: command.file.path.clone(),
        sequence: command.sequence,
        command: command.name().to_owned(),
        reason,
    }
}
