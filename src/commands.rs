//! Owns the journal's vocabulary: which tag means which command, for ever. Knows nothing of how
//! records are stored.

use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::codec;
use crate::context::Context;
use crate::model::{Command, Model};

/// The commands of a model. Implemented by [`commands!`](crate::commands!), never by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no vocabulary of commands",
    note = "write `prevalence::commands! {{ {Self} {{ 1 => SomeCommand }} }}` next to the model"
)]
pub trait Vocabulary: Sized {
    /// The model's name in every file.
    const MODEL_NAME: &'static str;

    /// Every command, in the order written.
    fn entries() -> &'static [Entry<Self>]
    where
        Self: Model;
}

/// A command that [`commands!`](crate::commands!) lists. Implemented by it, never by hand.
#[diagnostic::on_unimplemented(
    message = "command `{Self}` is not listed in `commands!` of model `{M}`",
    label = "has no tag in the journal of `{M}`",
    note = "add a line `N => {Self}` with a tag N that was never used before to \
            `prevalence::commands! {{ {M} {{ … }} }}`"
)]
pub trait Registered<M: Model>: Command<M> {
    /// The command's tag in the journal.
    const TAG: u16;
}

/// One line of [`commands!`](crate::commands!).
pub struct Entry<M: Model> {
    tag: u16,
    /// What the journal calls the command; the first is what new segments say.
    names: [&'static str; 3],
    replay: ReplayFn<M>,
}

/// Decodes and applies a command that was accepted once.
type ReplayFn<M> = fn(&[u8], &mut M, &mut Context<'_, M>) -> Result<(), String>;

impl<M: Model> Entry<M> {
    /// A line `tag => Command`.
    #[must_use]
    pub const fn new<C: Command<M>>(
        tag: u16,
        journaled: &'static str,
        current: &'static str,
    ) -> Self {
        Self { tag, names: [journaled, current, current], replay: replay::<M, C, C> }
    }

    /// A line `tag => Old as Current`. The tag may have been journaled under either name: old
    /// types are often renamed when their successor takes the name over. New segments say the
    /// current name.
    #[must_use]
    pub const fn upcast<Old, Current>(
        tag: u16,
        journaled: &'static str,
        old: &'static str,
        current: &'static str,
    ) -> Self
    where
        Old: serde::de::DeserializeOwned + Into<Current>,
        Current: Command<M>,
    {
        Self { tag, names: [journaled, old, current], replay: replay::<M, Old, Current> }
    }

    pub(crate) fn tag(&self) -> u16 {
        self.tag
    }

    /// What new segments call the command.
    pub(crate) fn name(&self) -> &'static str {
        short_name(self.names[0])
    }

    pub(crate) fn is_called(&self, name: &str) -> bool {
        // How a compiler spaces the name of a generic type is its own affair.
        let letters = |name: &str| name.split_whitespace().collect::<String>();
        self.names.iter().any(|known| letters(short_name(known)) == letters(name))
    }
}

fn replay<M, Old, C>(bytes: &[u8], model: &mut M, cx: &mut Context<'_, M>) -> Result<(), String>
where
    M: Model,
    Old: serde::de::DeserializeOwned + Into<C>,
    C: Command<M>,
{
    let command: C = codec::decode_exact::<Old>(bytes)
        .map_err(|reason| format!("its bytes are not those of this type: {reason}"))?
        .into();
    match command.apply(model, cx) {
        Ok(_) => Ok(()),
        Err(_) => Err("it is rejected now".to_owned()),
    }
}

/// A type's name without the path in front of it: where a type lives may change.
fn short_name(name: &'static str) -> &'static str {
    if name.contains('<') { name } else { name.rsplit("::").next().unwrap_or(name).trim() }
}

/// The vocabulary, ready for looking up tags.
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
        self.by_tag.get(usize::from(tag)).copied().flatten()
    }

    /// Tag and name of every command, as segment headers hold them.
    pub(crate) fn names() -> Vec<(u16, String)> {
        M::entries().iter().map(|entry| (entry.tag(), entry.name().to_owned())).collect()
    }

    /// Applies a command that was accepted once; any other outcome is an `Err` that says which.
    pub(crate) fn replay(
        entry: &Entry<M>,
        bytes: &[u8],
        model: &mut M,
        cx: &mut Context<'_, M>,
    ) -> Result<(), String> {
        catch_unwind(AssertUnwindSafe(|| (entry.replay)(bytes, model, cx)))
            .unwrap_or_else(|panic| Err(format!("it panics now: {}", panic_message(&*panic))))
    }
}

/// What a panic said, as far as it was text.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}

/// Stops compilation when two lines of [`commands!`](crate::commands!) share a tag.
#[doc(hidden)]
#[expect(clippy::indexing_slicing, reason = "runs in the compiler, where iterators cannot")]
pub const fn assert_tags_differ(tags: &[u16]) {
    let mut later = 1;
    while later < tags.len() {
        let mut earlier = 0;
        while earlier < later {
            assert!(
                tags[earlier] != tags[later],
                "commands!: two commands share one tag; give each a tag of its own, for ever"
            );
            earlier += 1;
        }
        later += 1;
    }
}

/// Lists the commands of a model, each under a stable tag: the journal's vocabulary, in one place.
///
/// ```
/// # use prevalence::{Command, Context, Model};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Default, Serialize, Deserialize)] struct Bank(u64);
/// # impl Model for Bank { type Event = (); }
/// # #[derive(Serialize, Deserialize)] struct Deposit(u64);
/// # #[derive(Serialize, Deserialize)] struct WithdrawV1(u32);
/// # #[derive(Serialize, Deserialize)] struct Withdraw(u64);
/// # #[derive(Serialize, Deserialize)] struct Pay(u64);
/// # impl From<WithdrawV1> for Withdraw { fn from(old: WithdrawV1) -> Self { Self(old.0.into()) } }
/// # macro_rules! command { ($c:ty) => { impl Command<Bank> for $c {
/// #     type Output = (); type Rejection = ();
/// #     fn apply(self, _: &mut Bank, _: &mut Context<'_, Bank>) -> Result<(), ()> { Ok(()) }
/// # } } }
/// # command!(Deposit); command!(Withdraw); command!(Pay);
/// prevalence::commands! {
///     Bank {
///         1 => Deposit,
///         // Records written as WithdrawV1 are decoded as that and converted with `From`:
///         2 => WithdrawV1 as Withdraw,
///         3 => Withdraw,
///         // The type was called Transfer when the first journal was written:
///         4 => Pay = "Transfer",
///     }
/// }
/// ```
///
/// A tag is a `u16` that keeps its meaning for as long as a journal exists: never give it to
/// another type, and never reuse that of a removed one. Tags and names stand in every journal
/// segment, so a renumbered tag is an error at open
/// ([`Error::RenumberedTag`](crate::Error::RenumberedTag)) and never a misread. Two lines with one
/// tag, or one type on two lines, do not compile, nor does executing a command that is not listed.
///
/// A model that was renamed keeps its name in the files: `Bank = "OldName" { … }`.
#[macro_export]
macro_rules! commands {
    ($model:ty $(= $model_name:literal)? {
        $($tag:literal => $command:ty $(as $current:ty)? $(= $name:literal)?),* $(,)?
    }) => {
        const _: () = {
            $crate::__private::assert_tags_differ(&[$($tag),*]);
            $($crate::commands!(@registered $model, $tag, $command $(, $current)?);)*
            impl $crate::__private::Vocabulary for $model {
                const MODEL_NAME: &'static str =
                    $crate::commands!(@name $model $(, $model_name)?);
                fn entries() -> &'static [$crate::__private::Entry<Self>] {
                    const ENTRIES: &[$crate::__private::Entry<$model>] = &[$(
                        $crate::commands!(@entry $tag, $command $(as $current)? $(= $name)?)
                    ),*];
                    ENTRIES
                }
            }
        };
    };
    (@registered $model:ty, $tag:literal, $command:ty) => {
        impl $crate::__private::Registered<$model> for $command {
            const TAG: u16 = $tag;
        }
    };
    (@registered $model:ty, $tag:literal, $command:ty, $current:ty) => {};
    (@entry $tag:literal, $command:ty) => {
        $crate::commands!(@named $tag, $command, stringify!($command))
    };
    (@entry $tag:literal, $command:ty = $name:literal) => {
        $crate::commands!(@named $tag, $command, $name)
    };
    (@entry $tag:literal, $command:ty as $current:ty) => {
        $crate::commands!(@upcast $tag, $command, $current, stringify!($current))
    };
    (@entry $tag:literal, $command:ty as $current:ty = $name:literal) => {
        $crate::commands!(@upcast $tag, $command, $current, $name)
    };
    (@named $tag:literal, $command:ty, $name:expr) => {
        $crate::__private::Entry::new::<$command>($tag, $name, stringify!($command))
    };
    (@upcast $tag:literal, $old:ty, $current:ty, $name:expr) => {
        $crate::__private::Entry::upcast::<$old, $current>(
            $tag, $name, stringify!($old), stringify!($current),
        )
    };
    (@name $model:ty) => { stringify!($model) };
    (@name $model:ty, $name:literal) => { $name };
}

/// The model's name in every file.
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
    #[should_panic(expected = "share one tag")]
    fn shared_tags_are_noticed() {
        assert_tags_differ(&[1, 2, 3, 2]);
    }
}
