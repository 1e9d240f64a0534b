//! Owns the journal's vocabulary: the command that each tag stands for, for ever. Knows nothing of
//! how records are stored.

mod conflicts;
mod lists;
mod macros;
mod outputs;

use std::any::{Any, TypeId};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::context::Context;
use super::{Command, Model};
use crate::execute_error::{OfRejection, Shown, WithDebug, shown};
use crate::panics::{panic_message, told_of_panics};
use crate::schema::{Described, described};
use crate::{codec, json};

#[doc(hidden)]
pub use conflicts::{Line, assert_lines_differ};
#[doc(hidden)]
pub use lists::{CommandList, Includes, assert_included, count, join};
#[doc(hidden)]
pub use outputs::{OfOutput, OutputToJson, WithSerialize, WithoutSerialize};

/// The tag of a placeholder for a command that [`purge`](crate::purge()) erased. The placeholder
/// keeps the sequences of later commands from shifting. No command may have this tag.
pub(crate) const REDACTED_TAG: u16 = u16::MAX;
/// The placeholder's command name in files and histories.
pub(crate) const REDACTED_NAME: &str = "(redacted)";

/// The commands of a model. Implemented by [`commands!`](crate::commands!), never by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no vocabulary of commands",
    note = "write `prevalence::commands! {{ {Self} {{ 1 => SomeCommand }} }}` next to the model"
)]
pub trait Vocabulary: Sized {
    /// The model's name, as every file stores it.
    const MODEL_NAME: &'static str;

    /// Returns every command, in the order of the lines.
    fn entries() -> &'static [Entry<Self>]
    where
        Self: Model;
}

/// A command that [`commands!`](crate::commands!) lists. Implemented by it, never by hand.
///
/// Use it as the bound in code that is generic over the command:
///
/// ```
/// use prevalence::{Database, ExecuteError, Model, Listed};
///
/// /// Executes a command, and returns its output and the length of the journal.
/// fn run<M: Model, C: Listed<M>>(
///     database: &Database<M>,
///     command: C,
/// ) -> Result<(C::Output, u64), ExecuteError<C::Rejection>> {
///     let output = database.execute(command)?;
///     Ok((output, database.stats().journal_bytes))
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "command `{Self}` is not listed in `commands!` of model `{M}`",
    label = "has no tag in the journal of `{M}`",
    note = "add a line `N => {Self}` with a tag N that was never used before to \
            `prevalence::commands! {{ {M} {{ … }} }}`",
    note = "or, where `{Self}` is a type parameter, bound it by `prevalence::Listed<{M}>`"
)]
pub trait Listed<M: Model>: Command<M> {
    /// The command's tag in the journal.
    const TAG: u16;
}

/// All commands of a model as one type, so that what was stored can be matched. Implemented by
/// [`commands!`](crate::commands!), never by hand.
pub trait AnyCommand<M: Model>: Sized {
    /// Decodes the command with this tag; `None` if there is no such command.
    #[doc(hidden)]
    fn of(tag: u16, bytes: &[u8]) -> Option<Result<Self, String>>;
}

/// Decodes a command as the type with which it was stored, and converts it to the one that is
/// applied.
#[doc(hidden)]
pub fn decode_as<Old, C>(bytes: &[u8]) -> Result<C, String>
where
    Old: serde::de::DeserializeOwned + Into<C>,
{
    decode::<Old, C>(bytes)
}

/// One line of [`commands!`](crate::commands!).
pub struct Entry<M: Model> {
    tag: u16,
    /// The command's name in new segments.
    name: &'static str,
    /// The names that older segments may have for it.
    known_as: &'static [&'static str],
    replay: ReplayFn<M>,
    decode: DecodeFn,
    applied: fn() -> TypeId,
    /// The type with which it is stored, and what is known of it.
    stored: fn() -> TypeId,
    described: fn() -> Arc<Described>,
    to_json: ToJsonFn,
    rejection: fn() -> Shown,
    output: fn() -> Option<OutputToJson>,
}

/// How a rejection is shown, and how an output becomes JSON.
pub type OfAnswers = (fn() -> Shown, fn() -> Option<OutputToJson>);

/// Decodes a command into the type that is applied.
type DecodeFn = fn(&[u8]) -> Result<Box<dyn Any>, String>;

/// Decodes a command and writes it as JSON.
type ToJsonFn = fn(&[u8]) -> Result<String, NoJson>;

/// Why a stored command has no JSON text.
pub(crate) enum NoJson {
    /// Its bytes cannot be decoded as its type.
    Undecodable(String),
    /// JSON has no form for it.
    NoForm(String),
}

/// Decodes and applies a command, and shows its output to whom it concerns.
type ReplayFn<M> =
    fn(&[u8], &mut M, &mut Context<'_, M>, Option<ShowOutput<'_>>) -> Result<(), NotApplied>;

/// Why a command has changed nothing that may stay.
pub(crate) enum NotApplied {
    /// Its bytes cannot be decoded.
    Undecodable(String),
    /// It refused, for this reason.
    Rejected(String),
}

/// Is shown a command's output.
pub(crate) type ShowOutput<'a> = &'a mut dyn FnMut(&dyn Any);

impl<M: Model> Clone for Entry<M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M: Model> Copy for Entry<M> {}

impl<M: Model> Entry<M> {
    /// Any entry; see [`join`].
    pub const FILLER: Self = *CommandTable::<M>::REDACTED;

    /// Makes the entry of a line `tag => Command`.
    #[must_use]
    pub const fn new<C: Command<M>>(
        tag: u16,
        name: &'static str,
        known_as: &'static [&'static str],
        (rejection, output): OfAnswers,
    ) -> Self {
        Self {
            tag,
            name,
            known_as,
            replay: replay::<M, C, C>,
            decode: decode_any::<C, C>,
            applied: TypeId::of::<C>,
            stored: TypeId::of::<C>,
            described: described::<C>,
            to_json: to_json::<C, C>,
            rejection,
            output,
        }
    }

    /// Makes the entry of a line `tag => Old as Current`. The journal may hold the tag under either
    /// name, because an old type is often renamed when its successor takes over its name.
    #[must_use]
    pub const fn upcast<Old, Current>(
        tag: u16,
        name: &'static str,
        known_as: &'static [&'static str],
        (rejection, output): OfAnswers,
    ) -> Self
    where
        Old: serde::de::DeserializeOwned + Into<Current> + 'static,
        Current: Command<M>,
    {
        Self {
            tag,
            name,
            known_as,
            replay: replay::<M, Old, Current>,
            decode: decode_any::<Old, Current>,
            applied: TypeId::of::<Current>,
            stored: TypeId::of::<Old>,
            described: described::<Old>,
            to_json: to_json::<Old, Current>,
            rejection,
            output,
        }
    }

    pub(crate) fn tag(&self) -> u16 {
        self.tag
    }

    /// The type that is applied.
    pub(crate) fn applied(&self) -> TypeId {
        (self.applied)()
    }

    /// The type with which it is stored.
    pub(crate) fn stored(&self) -> TypeId {
        (self.stored)()
    }

    /// What is known of the type with which it is stored.
    pub(crate) fn described(&self) -> Arc<Described> {
        (self.described)()
    }

    /// How the rejections of the applied type are shown.
    pub(crate) fn rejection(&self) -> Shown {
        (self.rejection)()
    }

    /// Writes an output of the applied type as JSON; `None` if its type is not `Serialize`, or if
    /// this value has no JSON of at most so many bytes. Its `Serialize` is a user's code.
    pub(crate) fn output_to_json(&self, output: &dyn Any, most_bytes: usize) -> Option<String> {
        let to_json = (self.output)()?;
        let json = told_of_panics("output's Serialize", || to_json(output, most_bytes));
        json.and_then(|json| json).ok()
    }

    pub(crate) fn name(&self) -> &'static str {
        short_name(self.name)
    }

    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.known_as.iter().any(|known| same_name(known, name))
    }

    /// Decodes the command. Returns `None` if the applied type is not `C`.
    pub(crate) fn decode<C: Command<M>>(&self, bytes: &[u8]) -> Option<Result<C, String>> {
        match (self.decode)(bytes) {
            Ok(command) => command.downcast().ok().map(|command| Ok(*command)),
            Err(reason) => Some(Err(reason)),
        }
    }

    /// Decodes and applies the command, and shows its output. It may panic, as the command may.
    pub(crate) fn apply(
        &self,
        bytes: &[u8],
        model: &mut M,
        cx: &mut Context<'_, M>,
        show: ShowOutput<'_>,
    ) -> Result<(), NotApplied> {
        (self.replay)(bytes, model, cx, Some(show))
    }

    pub(crate) fn json(&self, bytes: &[u8]) -> Result<String, NoJson> {
        (self.to_json)(bytes)
    }
}

fn replay<M, Old, C>(
    bytes: &[u8],
    model: &mut M,
    cx: &mut Context<'_, M>,
    show: Option<ShowOutput<'_>>,
) -> Result<(), NotApplied>
where
    M: Model,
    Old: serde::de::DeserializeOwned + Into<C>,
    C: Command<M>,
{
    let command: C = decode::<Old, C>(bytes).map_err(NotApplied::Undecodable)?;
    match command.apply(model, cx) {
        Ok(output) => {
            if let Some(show) = show {
                show(&output);
            }
            Ok(())
        }
        Err(rejection) => {
            // It is refused, whatever its text does.
            let reason = told_of_panics("rejection's Display", || shown(&rejection));
            Err(NotApplied::Rejected(reason.unwrap_or_else(|reason| reason)))
        }
    }
}

fn decode<Old, C>(bytes: &[u8]) -> Result<C, String>
where
    Old: serde::de::DeserializeOwned + Into<C>,
{
    codec::decode_exact::<Old>(bytes)
        .map(Into::into)
        .map_err(|reason| format!("its bytes cannot be decoded as this type: {reason}"))
}

fn decode_any<Old, C>(bytes: &[u8]) -> Result<Box<dyn Any>, String>
where
    Old: serde::de::DeserializeOwned + Into<C>,
    C: 'static,
{
    decode::<Old, C>(bytes).map(|command| Box::new(command) as Box<dyn Any>)
}

fn to_json<Old, C>(bytes: &[u8]) -> Result<String, NoJson>
where
    Old: serde::de::DeserializeOwned + Into<C>,
    C: serde::Serialize,
{
    let command = decode::<Old, C>(bytes).map_err(NoJson::Undecodable)?;
    json::text(&command).map_err(NoJson::NoForm)
}

/// Returns a type's name without the path in front of it, because the module of a type may change.
fn short_name(name: &'static str) -> &'static str {
    name.get(short_name_begins(name)..).unwrap_or(name).trim()
}

/// Returns where the path in front of a type's name ends. A generic type keeps its path, because
/// the paths of its arguments matter. Also runs in the compiler.
#[expect(clippy::indexing_slicing, reason = "runs in the compiler, where iterators cannot")]
const fn short_name_begins(name: &str) -> usize {
    let bytes = name.as_bytes();
    let (mut at, mut begins) = (0, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'<' => return 0,
            b':' => begins = at + 1,
            _ => {}
        }
        at += 1;
    }
    begins
}

/// Returns whether two type names are equal apart from their paths and white space. The compiler
/// decides on the white space. Also runs in the compiler.
#[expect(clippy::indexing_slicing, reason = "runs in the compiler, where iterators cannot")]
pub(crate) const fn same_name(left: &str, right: &str) -> bool {
    let (mut at, mut other) = (short_name_begins(left), short_name_begins(right));
    let (left, right) = (left.as_bytes(), right.as_bytes());
    loop {
        while at < left.len() && left[at].is_ascii_whitespace() {
            at += 1;
        }
        while other < right.len() && right[other].is_ascii_whitespace() {
            other += 1;
        }
        if at == left.len() || other == right.len() {
            return at == left.len() && other == right.len();
        }
        if left[at] != right[other] {
            return false;
        }
        at += 1;
        other += 1;
    }
}

/// The vocabulary as a table in which tags are looked up.
pub(crate) struct CommandTable<M: Model> {
    by_tag: Vec<Option<&'static Entry<M>>>,
    model: PhantomData<M>,
}

impl<M: Model> CommandTable<M> {
    pub(crate) fn new() -> Self {
        let entries = M::entries();
        let length = entries.iter().map(|entry| usize::from(entry.tag) + 1).max().unwrap_or(0);
        let mut by_tag = vec![None; length];
        for entry in entries {
            if let Some(place) = by_tag.get_mut(usize::from(entry.tag)) {
                *place = Some(entry);
            }
        }
        Self { by_tag, model: PhantomData }
    }

    pub(crate) fn get(&self, tag: u16) -> Option<&'static Entry<M>> {
        match self.by_tag.get(usize::from(tag)).copied().flatten() {
            None if tag == REDACTED_TAG => Some(Self::REDACTED),
            entry => entry,
        }
    }

    /// The entry of the placeholder. Every model has it, and it does nothing on replay.
    const REDACTED: &'static Entry<M> = &Entry {
        tag: REDACTED_TAG,
        name: REDACTED_NAME,
        known_as: &[REDACTED_NAME],
        replay: |_, _, _, _| Ok(()),
        decode: |_| Ok(Box::new(())),
        applied: TypeId::of::<()>,
        stored: TypeId::of::<()>,
        described: described::<()>,
        to_json: |_| Ok("null".to_owned()),
        rejection: || (&OfRejection::<std::convert::Infallible>::new()).rejection_shown(),
        output: || None,
    };

    /// Returns the tag and the name of every command, as segment headers hold them.
    pub(crate) fn names() -> Vec<(u16, String)> {
        M::entries().iter().map(|entry| (entry.tag(), entry.name().to_owned())).collect()
    }

    /// Applies a command that was accepted before, and shows its output. Any other outcome is an
    /// `Err` that describes it.
    pub(crate) fn replay(
        entry: &Entry<M>,
        bytes: &[u8],
        model: &mut M,
        cx: &mut Context<'_, M>,
        show: Option<ShowOutput<'_>>,
    ) -> Result<(), String> {
        match catch_unwind(AssertUnwindSafe(|| (entry.replay)(bytes, model, cx, show))) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(NotApplied::Undecodable(reason))) => Err(reason),
            Ok(Err(NotApplied::Rejected(_))) => Err("it is rejected now".to_owned()),
            Err(panic) => Err(format!("it panics now: {}", panic_message(panic))),
        }
    }
}

/// Returns the model's name, as every file stores it.
pub(crate) fn model_name<M: Model>() -> &'static str {
    short_name(M::MODEL_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_types_wherever_they_live() {
        assert_eq!(short_name("Deposit"), "Deposit");
        assert_eq!(short_name("crate :: bank :: Deposit"), "Deposit");
        assert_eq!(short_name("bank::Put<a::Key>"), "bank::Put<a::Key>");
    }

    #[test]
    fn white_space_and_paths_do_not_count() {
        assert!(same_name("Put<a::Key>", "Put < a :: Key >"));
        assert!(same_name("crate::bank::Put", "Put"));
        assert!(!same_name("Put", "Puts") && !same_name("Puts", "Put"));
        assert!(!same_name("Put<a::Key>", "Put<b::Key>"));
    }
}
