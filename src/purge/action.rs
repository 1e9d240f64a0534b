//! Owns what a caller may want to become of a stored command. Knows nothing of files.

use std::fmt;
use std::marker::PhantomData;

use crate::codec::{EncodeFailure, LARGEST_COMMAND_BYTES, encode_onto};
use crate::model::{Model, Registered};

/// What becomes of a stored command; see [`purge`](crate::purge()).
#[derive(Debug)]
#[non_exhaustive]
pub enum PurgeAction<M: Model> {
    /// It stays as it is.
    Keep,
    /// Another command takes its place, with its sequence and its time; see
    /// [`replace`](Self::replace).
    Replace(Replacement<M>),
    /// The command stays, but who asked for it is forgotten: its metadata goes, with its request id.
    DropMetadata,
    /// Nothing stays of it but its place and its time: no name, no bytes, no metadata. On replay it
    /// does nothing.
    Redact,
}

impl<M: Model> PurgeAction<M> {
    /// Another command takes its place and keeps its metadata. To drop the metadata too, give
    /// [`Replace`](Self::Replace) a [`Replacement`].
    pub fn replace<C: Registered<M>>(command: C) -> Self {
        Self::Replace(Replacement::of(command))
    }
}

/// A command that takes the place of a stored one.
pub struct Replacement<M: Model> {
    pub(super) tag: u16,
    /// Why it could not be encoded is told by the purge.
    pub(super) command: Result<Vec<u8>, String>,
    pub(super) without_metadata: bool,
    model: PhantomData<fn() -> M>,
}

impl<M: Model> Replacement<M> {
    /// Any command that `commands!` lists.
    #[expect(clippy::needless_pass_by_value, reason = "as `execute` takes one")]
    pub fn of<C: Registered<M>>(command: C) -> Self {
        let mut bytes = Vec::new();
        let encoded = encode_onto(&command, &mut bytes, LARGEST_COMMAND_BYTES);
        let command = encoded.map(|()| bytes).map_err(|failure| match failure {
            EncodeFailure::TooLarge { bytes } => {
                format!("it takes {bytes} bytes or more, the limit is {LARGEST_COMMAND_BYTES}")
            }
            EncodeFailure::Failed(reason) => reason,
        });
        Self { tag: C::TAG, command, without_metadata: false, model: PhantomData }
    }

    /// The same, and the metadata of the command that was there goes: names may stand in it.
    #[must_use]
    pub fn without_metadata(self) -> Self {
        Self { without_metadata: true, ..self }
    }
}

impl<M: Model> fmt::Debug for Replacement<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replacement")
            .field("tag", &self.tag)
            .field("without_metadata", &self.without_metadata)
            .finish_non_exhaustive()
    }
}
