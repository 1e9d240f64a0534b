//! Owns the actions that a caller can ask for a stored command. Knows nothing of files.

use std::fmt;
use std::marker::PhantomData;

use crate::codec::{EncodeFailure, LARGEST_COMMAND_BYTES, encode_onto};
use crate::model::{Listed, Model};

/// What a purge does with a stored command; see [`purge`](crate::purge()).
#[derive(Debug)]
#[non_exhaustive]
pub enum PurgeAction<M: Model> {
    /// The command does not change.
    Keep,
    /// Another command takes its place, with the same sequence and time; see
    /// [`replace`](Self::replace).
    Replace(Replacement<M>),
    /// The command stays, but its metadata is erased, including who asked for it and its request
    /// id.
    DropMetadata,
    /// The command is erased: its name, its bytes and its metadata. Its sequence and its time stay.
    /// On replay it does nothing.
    Redact,
}

impl<M: Model> PurgeAction<M> {
    /// Makes the action that replaces the stored command by `command` and keeps the metadata. To
    /// drop the metadata too, use [`Replace`](Self::Replace) with
    /// [`Replacement::without_metadata`].
    pub fn replace<C: Listed<M>>(command: C) -> Self {
        Self::Replace(Replacement::of(command))
    }
}

/// A command that takes the place of a stored one.
pub struct Replacement<M: Model> {
    pub(super) tag: u16,
    /// The encoded command. If it cannot be encoded, the purge returns the reason as an error.
    pub(super) command: Result<Vec<u8>, String>,
    pub(super) without_metadata: bool,
    model: PhantomData<fn() -> M>,
}

impl<M: Model> Replacement<M> {
    /// Makes a replacement from any command that `commands!` lists.
    #[expect(clippy::needless_pass_by_value, reason = "as `execute` takes one")]
    pub fn of<C: Listed<M>>(command: C) -> Self {
        let mut bytes = Vec::new();
        let encoded = encode_onto(&command, &mut bytes, LARGEST_COMMAND_BYTES);
        let command = encoded.map(|()| bytes).map_err(|failure| match failure {
            EncodeFailure::TooLarge { bytes } => {
                format!("it takes at least {bytes} bytes; the limit is {LARGEST_COMMAND_BYTES}")
            }
            EncodeFailure::Failed(reason) => reason,
        });
        Self { tag: C::TAG, command, without_metadata: false, model: PhantomData }
    }

    /// Also erases the metadata of the replaced command. It may contain names.
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
