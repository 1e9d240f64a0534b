//! Owns what [`commands!`](crate::commands!) expands to. Knows nothing of how commands are decoded.

/// Lists the commands of a model, each with a stable tag. The list is the journal's vocabulary, in
/// one place.
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
///         // Records of a WithdrawV1 are decoded as a WithdrawV1 and converted with `From`:
///         2 => WithdrawV1 as Withdraw,
///         3 => Withdraw,
///         // The type had the name Transfer when the first journal was written:
///         4 => Pay = "Transfer",
///     }
/// }
/// ```
///
/// A tag is a `u16` up to 65,533. It keeps its meaning for as long as a journal exists: never give
/// it to another type, and never reuse the tag of a removed type. Every journal segment stores tags
/// and names, so a renumbered tag is an error at open
/// ([`Error::RenumberedTag`](crate::Error::RenumberedTag)) and is never misread. Two lines with the
/// same tag or the same name do not compile, and neither does the same type on two lines. A call
/// that executes a command that is not listed does not compile either.
///
/// A line `2 => WithdrawV1 as Withdraw` accepts either name for tag 2, and new segments store
/// `WithdrawV1`. A name in the line replaces the names of the types. If segments with several names
/// exist, list all the names, and put the one for new segments first: `2 => Small as TakeOut =
/// "WithdrawV1" | "Withdraw"`.
///
/// After a model is renamed, give the name that the files hold: `Bank = "OldName" { … }`.
///
/// # Lists of several modules
///
/// A large application gives each module a list of its own, and puts the lists together where the
/// model is. What the lists share does not compile, and the message names both lines.
///
/// ```
/// # use prevalence::{Command, Context, Model};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Default, Serialize, Deserialize)] struct Bank(u64);
/// # impl Model for Bank { type Event = (); }
/// # macro_rules! command { ($c:ident) => { #[derive(Serialize, Deserialize)] pub struct $c;
/// # impl Command<Bank> for $c {
/// #     type Output = (); type Rejection = ();
/// #     fn apply(self, _: &mut Bank, _: &mut Context<'_, Bank>) -> Result<(), ()> { Ok(()) }
/// # } } }
/// # command!(Deposit); command!(Withdraw); command!(Lend); command!(Close);
/// mod accounts {
///     # use super::{Bank, Deposit, Withdraw};
///     prevalence::commands! { pub list Accounts for Bank { 1 => Deposit, 2 => Withdraw } }
/// }
/// mod loans {
///     # use super::{Bank, Lend};
///     prevalence::commands! { pub list Loans for Bank { 100 => Lend } }
/// }
/// prevalence::commands! {
///     Bank { ..accounts::Accounts, ..loans::Loans, 9 => Close }
/// }
/// # fn main() {} // so that the modules are those of a crate
/// ```
///
/// # All commands as one type
///
/// With `enum` behind the lines, it also makes an enum with a variant for each line: its name is
/// that of the type on the left, and it holds the type that is applied. So a history can be
/// matched; see [`HistoryRecord::decode`](crate::HistoryRecord::decode). In such a list each type
/// is a name without a path: import it. It cannot have lists of other modules. The enum may have
/// attributes and a visibility.
///
/// ```
/// # use prevalence::{Command, Context, Database, Model};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Default, Serialize, Deserialize)] struct Bank(u64);
/// # impl Model for Bank { type Event = (); }
/// # #[derive(Debug, Serialize, Deserialize)] struct Deposit(u64);
/// # #[derive(Debug, Serialize, Deserialize)] struct Withdraw(u64);
/// # macro_rules! command { ($c:ty) => { impl Command<Bank> for $c {
/// #     type Output = (); type Rejection = ();
/// #     fn apply(self, _: &mut Bank, _: &mut Context<'_, Bank>) -> Result<(), ()> { Ok(()) }
/// # } } }
/// # command!(Deposit); command!(Withdraw);
/// prevalence::commands! {
///     Bank { 1 => Deposit, 2 => Withdraw }
///     #[derive(Debug)]
///     enum BankCommand;
/// }
///
/// # let bank = Database::<Bank>::in_memory()?;
/// # bank.execute(Deposit(5)).unwrap();
/// # bank.execute(Withdraw(2)).unwrap();
/// let mut balance = 0;
/// for record in bank.history().records(..)? {
///     match record?.decode()? {
///         BankCommand::Deposit(Deposit(cents)) => balance += cents,
///         BankCommand::Withdraw(Withdraw(cents)) => balance -= cents,
///     }
/// }
/// assert_eq!(balance, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A model with type parameters has a vocabulary for each of its types: `Store<u32> { … }`. Its
/// files must say which types they hold, so there is none for all of them.
#[macro_export]
macro_rules! commands {
    (impl $($rest:tt)*) => {
        ::core::compile_error!(
            "commands!: a model with type parameters cannot have one vocabulary, because its files \
             would not say which types they hold; write `commands!` for each of its types, as in \
             `commands! { Store<u32> { 1 => Put<u32> } }`"
        );
    };
    ($(#[$meta:meta])* $vis:vis list $list:ident for $model:ty {
        $(
            $tag:literal => $command:ty $(as $current:ty)?
            $(= $name:literal $(| $known:literal)*)?
        ),*
        $(,)?
    }) => {
        $(#[$meta])*
        $vis enum $list {}
        const _: () = $crate::__private::assert_included::<$model, $list>();
        const _: () = {
            $($crate::commands!(@registered $model, $tag, $command $(, $current)?);)*
            impl $crate::__private::CommandList<$model> for $list {
                const ENTRIES: &'static [$crate::__private::Entry<$model>] = &[$($crate::commands!(
                    @entry $model, $tag, $command $(as $current)? $(= $name $(| $known)*)?
                )),*];
                const LINES: &'static [$crate::__private::Line] = &[$($crate::commands!(
                    @line (" (in ", ::core::module_path!(), ")")
                    $tag, $command $(as $current)? $(= $name $(| $known)*)?
                )),*];
            }
        };
    };
    (
        $model:ty $(= $model_name:literal)? {
            $(
                $tag:literal => $command:ident $(as $current:ty)?
                $(= $name:literal $(| $known:literal)*)?
            ),*
            $(,)?
        }
        $(#[$meta:meta])* $vis:vis enum $any:ident;
    ) => {
        $crate::commands! {
            $model $(= $model_name)? {
                $($tag => $command $(as $current)? $(= $name $(| $known)*)?),*
            }
        }
        $(#[$meta])*
        $vis enum $any {
            $(
                #[doc = ::core::concat!("What is stored with tag ", ::core::stringify!($tag), ".")]
                $command($crate::commands!(@applied $command $(, $current)?)),
            )*
        }
        impl $crate::AnyCommand<$model> for $any {
            fn of(
                tag: u16,
                bytes: &[u8],
            ) -> ::core::option::Option<::core::result::Result<Self, ::std::string::String>> {
                match tag {
                    $($tag => ::core::option::Option::Some(
                        $crate::__private::decode_as::<
                            $command,
                            $crate::commands!(@applied $command $(, $current)?),
                        >(bytes)
                        .map(Self::$command),
                    ),)*
                    _ => ::core::option::Option::None,
                }
            }
        }
    };
    ($model:ty $(= $model_name:literal)? {
        $(..$list:ty,)*
        $($tag:literal => $command:ty $(as $current:ty)? $(= $name:literal $(| $known:literal)*)?),*
        $(,)?
    }) => {
        const _: () = {
            const LINES: &[&[$crate::__private::Line]] = &[
                $(<$list as $crate::__private::CommandList<$model>>::LINES,)*
                &[$($crate::commands!(
                    @line () $tag, $command $(as $current)? $(= $name $(| $known)*)?
                )),*],
            ];
            $crate::__private::assert_lines_differ(
                &$crate::__private::join::<_, { $crate::__private::count(LINES) }>(
                    LINES,
                    $crate::__private::Line::FILLER,
                ),
            );
            $($crate::commands!(@registered $model, $tag, $command $(, $current)?);)*
            $(impl $crate::__private::Includes<$list> for $model {})*
            impl $crate::__private::Vocabulary for $model {
                const MODEL_NAME: &'static str =
                    $crate::commands!(@name $model $(, $model_name)?);
                fn entries() -> &'static [$crate::__private::Entry<Self>] {
                    const LISTS: &[&[$crate::__private::Entry<$model>]] = &[
                        $(<$list as $crate::__private::CommandList<$model>>::ENTRIES,)*
                        &[$($crate::commands!(
                            @entry $model, $tag, $command $(as $current)? $(= $name $(| $known)*)?
                        )),*],
                    ];
                    const ENTRIES: &[$crate::__private::Entry<$model>] =
                        &$crate::__private::join::<_, { $crate::__private::count(LISTS) }>(
                            LISTS,
                            $crate::__private::Entry::<$model>::FILLER,
                        );
                    ENTRIES
                }
            }
        };
    };
    // Lists alone, without a comma behind the last one.
    ($model:ty $(= $model_name:literal)? { $(..$list:ty),+ }) => {
        $crate::commands! { $model $(= $model_name)? { $(..$list,)+ } }
    };
    (
        @line ($($place:tt)*) $tag:literal,
        $command:ty $(as $current:ty)? $(= $name:literal $(| $known:literal)*)?
    ) => {
        $crate::__private::Line {
            tag: $tag,
            name: $crate::commands!(@journaled $command $(= $name)?),
            text: ::core::concat!(
                ::core::stringify!($tag), " => ", ::core::stringify!($command),
                $(" as ", ::core::stringify!($current),)?
                $(" = ", ::core::stringify!($name), $(" | ", ::core::stringify!($known),)*)?
                $($place)*
            ),
        }
    };
    (@applied $command:ty) => { $command };
    (@applied $command:ty, $current:ty) => { $current };
    (@registered $model:ty, $tag:literal, $command:ty) => {
        impl $crate::__private::Listed<$model> for $command {
            const TAG: u16 = $tag;
        }
    };
    (@registered $model:ty, $tag:literal, $command:ty, $current:ty) => {};
    (@journaled $command:ty) => { ::core::stringify!($command) };
    (@journaled $command:ty = $name:literal) => { $name };
    (@entry $model:ty, $tag:literal, $command:ty) => {
        $crate::__private::Entry::new::<$command>(
            $tag, ::core::stringify!($command), &[::core::stringify!($command)],
            $crate::commands!(@answers $model, $command),
        )
    };
    (@entry $model:ty, $tag:literal, $command:ty = $name:literal $(| $known:literal)*) => {
        $crate::__private::Entry::new::<$command>(
            $tag, $name, &[$name $(, $known)*], $crate::commands!(@answers $model, $command),
        )
    };
    (@entry $model:ty, $tag:literal, $command:ty as $current:ty) => {
        $crate::__private::Entry::upcast::<$command, $current>(
            $tag, ::core::stringify!($command),
            &[::core::stringify!($command), ::core::stringify!($current)],
            $crate::commands!(@answers $model, $current),
        )
    };
    (
        @entry $model:ty, $tag:literal,
        $command:ty as $current:ty = $name:literal $(| $known:literal)*
    ) => {
        $crate::__private::Entry::upcast::<$command, $current>(
            $tag, $name, &[$name $(, $known)*], $crate::commands!(@answers $model, $current),
        )
    };
    // No type gets a name here: it could be that of a user's type.
    (@answers $model:ty, $command:ty) => {
        (
            || {
                #[allow(unused_imports)] // which of them is used depends on the type
                use $crate::__private::{
                    WithDebug as _, WithDisplay as _, WithError as _, WithNothing as _,
                };
                (&&&&$crate::__private::OfRejection::<
                    <$command as $crate::Command<$model>>::Rejection,
                >::new()).rejection_shown()
            },
            || {
                #[allow(unused_imports)] // which of them is used depends on the type
                use $crate::__private::{WithSerialize as _, WithoutSerialize as _};
                (&&$crate::__private::OfOutput::<
                    <$command as $crate::Command<$model>>::Output,
                >::new()).output_to_json()
            },
        )
    };
    (@name $model:ty) => { ::core::stringify!($model) };
    (@name $model:ty, $name:literal) => { $name };
}
