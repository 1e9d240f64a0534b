//! Owns how the events of one command are encoded, and the limits on them. Knows nothing of records
//! and files.
//!
//! Each number takes one byte for seven bits: most are small.
//!
//! ```text
//! version                  `Model::EVENT_VERSION` of the program that stored them
//! count
//! for each event:
//!     length
//!     the event
//! ```

use std::fmt;

use serde::de::DeserializeOwned;

use super::{MigrationError, Model};
use crate::codec::{self, EncodeFailure, varint};
use crate::files::position;

/// The tag of the record behind a command's record that holds the command's events. No command may
/// have this tag.
pub(crate) const EVENTS_TAG: u16 = u16::MAX - 1;

/// The most events of one command.
pub(crate) const MOST_EVENTS: usize = 1 << 16;
/// The largest encoding of one command's events. A frame has room for it behind the largest
/// command.
pub(crate) const LARGEST_EVENTS_BYTES: usize = 16 << 20;

/// One stored event, as another version of the program encoded it; see
/// [`Model::read_event`](crate::Model::read_event).
#[derive(Clone, Copy)]
pub struct StoredEvent<'a>(&'a [u8]);

impl<'a> StoredEvent<'a> {
    /// Returns the encoding.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.0
    }

    /// Decodes the event as a `T`, the type with which it was stored.
    ///
    /// # Errors
    /// [`MigrationError::Failed`] if the bytes cannot be decoded as a `T`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, MigrationError> {
        codec::decode_exact(self.0).map_err(MigrationError::Failed)
    }
}

impl fmt::Debug for StoredEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredEvent").field("bytes", &self.0.len()).finish()
    }
}

/// Returns an error if one command has emitted too many events.
pub(crate) fn check_count(count: usize) -> Result<(), String> {
    match count > MOST_EVENTS {
        true => Err(format!("it emitted {count} events, but the limit is {MOST_EVENTS}")),
        false => Ok(()),
    }
}

/// Appends the encoding of one command's events to `target`. The error says what is wrong with
/// them; `target` may then have a part of them.
pub(crate) fn encode<M: Model>(events: &[M::Event], target: &mut Vec<u8>) -> Result<(), String> {
    check_count(events.len())?;
    let limit = target.len() + LARGEST_EVENTS_BYTES;
    let too_large = || {
        let most = LARGEST_EVENTS_BYTES >> 20;
        format!("its events take more than {most} MiB, which is the limit")
    };
    varint::push(target, M::EVENT_VERSION.into());
    varint::push(target, position(events.len()));
    for event in events {
        let begin = target.len();
        target.push(0); // the length, if it is small
        codec::encode_onto(event, target, limit).map_err(|failure| match failure {
            EncodeFailure::TooLarge { .. } => too_large(),
            EncodeFailure::Failed(reason) => format!("an event cannot be encoded: {reason}"),
        })?;
        put_length(target, begin);
    }
    if target.len() > limit { Err(too_large()) } else { Ok(()) }
}

/// Puts the length of what stands behind the byte at `begin` there. A length of more than one byte
/// moves it.
fn put_length(target: &mut Vec<u8>, begin: usize) {
    let length = target.len() - begin - 1;
    match (u8::try_from(length), target.get_mut(begin)) {
        (Ok(small), Some(place)) if small < 0x80 => *place = small,
        _ => {
            let mut bytes = Vec::new();
            varint::push(&mut bytes, position(length));
            target.splice(begin..=begin, bytes);
        }
    }
}

/// The encodings of one command's events, one after the other.
struct Encodings<'a> {
    version: u32,
    count: usize,
    rest: &'a [u8],
}

impl<'a> Encodings<'a> {
    #[inline]
    fn begin(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes;
        let version = u32::try_from(varint::take(&mut rest)?).ok()?;
        let count = usize::try_from(varint::take(&mut rest)?).ok()?;
        // Each has a length, so nothing that is allocated for them is larger than what was read.
        let fits = count <= MOST_EVENTS && count <= rest.len();
        fits.then_some(Self { version, count, rest })
    }

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(varint::take(&mut self.rest)?).ok()?;
        let (event, behind) = self.rest.split_at_checked(length)?;
        self.rest = behind;
        Some(event)
    }
}

/// Splits the encoding of one command's events into the version and each event's encoding; `None`
/// if it is not one.
pub(crate) fn split(bytes: &[u8]) -> Option<(u32, Vec<&[u8]>)> {
    let mut encodings = Encodings::begin(bytes)?;
    let all = (0..encodings.count).map(|_| encodings.next()).collect::<Option<Vec<_>>>()?;
    encodings.rest.is_empty().then_some((encodings.version, all))
}

/// Decodes the events of one command. The error says why they cannot be decoded.
pub(crate) fn decode<M: Model>(bytes: &[u8]) -> Result<Vec<M::Event>, String> {
    let whole = || "the record of its events is not whole".to_owned();
    let mut encodings = Encodings::begin(bytes).ok_or_else(whole)?;
    let (version, count) = (encodings.version, encodings.count);
    let decode = |bytes: &[u8]| match version == M::EVENT_VERSION {
        true => codec::decode_exact(bytes),
        false => M::read_event(version, StoredEvent(bytes)).map_err(|error| match error {
            MigrationError::Unsupported => format!(
                "it was stored with event version {version}, and this program has version {}: read \
                 it in Model::read_event",
                M::EVENT_VERSION
            ),
            failed @ MigrationError::Failed(_) => failed.to_string(),
        }),
    };
    let mut events = Vec::with_capacity(count);
    for number in 1..=count {
        let event = decode(encodings.next().ok_or_else(whole)?);
        events.push(event.map_err(|reason| format!("event {number} of {count}: {reason}"))?);
    }
    if encodings.rest.is_empty() { Ok(events) } else { Err(whole()) }
}

#[cfg(test)]
#[path = "tests/events.rs"]
mod tests;
