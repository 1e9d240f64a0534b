//! Owns what is known of the first command with a request id, for whoever asks again.

use std::any::TypeId;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use serde::de::DeserializeOwned;

/// What is known of the command that was accepted first under a request id; see
/// [`ExecuteError::Duplicate`](crate::ExecuteError::Duplicate).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FirstAnswer {
    /// The command's name in the journal. `None` if a version of this crate accepted it that did
    /// not note names yet.
    pub command: Option<&'static str>,
    /// Who asked; empty if unknown.
    pub actor: String,
    /// The command's time. For a command of such an earlier version, a later time.
    pub time: SystemTime,
    /// The type that is applied for that command, if it is listed.
    pub(crate) applied: Option<TypeId>,
    pub(crate) output: Option<Arc<str>>,
}

impl FirstAnswer {
    /// Returns whether the command is of the type `C`. If not, the request id was given to two
    /// different requests. For a line `1 => Old as New` the type is `New`.
    #[must_use]
    pub fn is<C: 'static>(&self) -> bool {
        self.applied == Some(TypeId::of::<C>())
    }

    /// Returns the command's output as JSON, if it was kept; see
    /// [`Builder::remembered_outputs`](crate::Builder::remembered_outputs).
    #[must_use]
    pub fn output_json(&self) -> Option<&str> {
        self.output.as_deref()
    }

    /// Returns the command's output, if it was kept; see
    /// [`Builder::remembered_outputs`](crate::Builder::remembered_outputs).
    ///
    /// # Errors
    /// If the output is not one of the type `O`. So it may be if another command had this request
    /// id, or if its type has been changed since.
    pub fn output<O: DeserializeOwned>(&self) -> Result<Option<O>, UnreadableOutput> {
        let Some(json) = &self.output else { return Ok(None) };
        serde_json::from_str(json).map(Some).map_err(|error| UnreadableOutput {
            type_name: std::any::type_name::<O>(),
            reason: error.to_string(),
        })
    }
}

/// Writes the name and the actor behind a sequence.
impl fmt::Display for FirstAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(command) = self.command {
            write!(f, " as `{command}`")?;
        }
        match self.actor.as_str() {
            "" => Ok(()),
            actor => write!(f, " for `{}`", actor.escape_debug()),
        }
    }
}

/// An output that was kept is not one of the wanted type; see [`FirstAnswer::output`].
#[derive(Clone, Debug, thiserror::Error)]
#[error("the remembered output cannot be read as {type_name}: {reason}")]
pub struct UnreadableOutput {
    type_name: &'static str,
    reason: String,
}
