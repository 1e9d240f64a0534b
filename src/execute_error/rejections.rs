//! Owns how rejections are shown. A command's rejection may have a `Display`, and be an error, but
//! nothing requires that. Knows nothing of commands.
//!
//! Where a type is known, the compiler can choose by what the type implements, and where it is
//! generic it cannot. `commands!` knows the types, so it chooses there. An open database notes what
//! was chosen, and an error looks it up when it is shown.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use arc_swap::ArcSwapOption;

/// How rejections of one type are shown.
#[derive(Clone, Copy)]
pub struct Shown {
    of: TypeId,
    /// Its `Display`, or else its `Debug`.
    text: Option<DisplayFn>,
    error: Option<ErrorFn>,
}

type DisplayFn = fn(&dyn Any, &mut fmt::Formatter<'_>) -> fmt::Result;
type ErrorFn = fn(&dyn Any) -> Option<&(dyn Error + 'static)>;

/// The types of the commands of all databases that were opened in this process. It grows with the
/// program's types and not with its data. Reading takes no lock, which in the child of a fork could
/// stay locked for ever.
static KNOWN: ArcSwapOption<HashMap<TypeId, Shown>> = ArcSwapOption::const_empty();

/// Notes how rejections are shown.
pub(crate) fn note(all: impl Iterator<Item = Shown> + Clone) {
    let is_known = |known: &HashMap<_, _>| all.clone().all(|shown| known.contains_key(&shown.of));
    if KNOWN.load().as_deref().is_some_and(is_known) {
        return;
    }
    KNOWN.rcu(|known| {
        let mut known = known.as_deref().cloned().unwrap_or_default();
        known.extend(all.clone().map(|shown| (shown.of, shown)));
        Some(Arc::new(known))
    });
}

fn known<R: 'static>() -> Option<Shown> {
    KNOWN.load().as_deref()?.get(&TypeId::of::<R>()).copied()
}

/// Shows a rejection with its `Display`, or else with its `Debug`.
pub(super) fn show<R: fmt::Debug + 'static>(
    rejection: &R,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    match known::<R>().and_then(|shown| shown.text) {
        Some(text) => text(rejection, f),
        None => write!(f, "{rejection:?}"),
    }
}

/// Shows a rejection of any type.
pub(super) fn show_any<R: 'static>(rejection: &R, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match known::<R>().and_then(|shown| shown.text) {
        Some(text) => text(rejection, f),
        None => write!(f, "a {}, which has neither Display nor Debug", std::any::type_name::<R>()),
    }
}

/// Returns a rejection of any type as a text.
pub(crate) fn shown<R: 'static>(rejection: &R) -> String {
    struct Any<'a, R>(&'a R);
    impl<R: 'static> fmt::Display for Any<'_, R> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            show_any(self.0, f)
        }
    }
    Any(rejection).to_string()
}

/// Returns a rejection as an error, if it is one.
pub(super) fn as_error<R: 'static>(rejection: &R) -> Option<&(dyn Error + 'static)> {
    known::<R>().and_then(|shown| shown.error)?(rejection)
}

/// Stands for a type of rejections. `(&&&&OfRejection::<R>::new()).rejection_shown()` calls the
/// method of the first of these traits that applies, because the compiler tries the type with most
/// references first: [`WithError`], [`WithDisplay`], [`WithDebug`], [`WithNothing`].
pub struct OfRejection<R>(PhantomData<fn() -> R>);

impl<R> OfRejection<R> {
    /// Makes one. It has no content.
    #[must_use]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<R> Default for OfRejection<R> {
    fn default() -> Self {
        Self::new()
    }
}

/// Chosen for a rejection that is an error.
pub trait WithError {
    /// Returns how it is shown.
    fn rejection_shown(&self) -> Shown;
}

impl<R: Error + 'static> WithError for &&&OfRejection<R> {
    fn rejection_shown(&self) -> Shown {
        let error: ErrorFn = |it| it.downcast_ref::<R>().map(|it| it as &(dyn Error + 'static));
        Shown { error: Some(error), ..WithDisplay::rejection_shown(&&&OfRejection::<R>::new()) }
    }
}

/// Chosen for a rejection that has a `Display`, and is no error.
pub trait WithDisplay {
    /// Returns how it is shown.
    fn rejection_shown(&self) -> Shown;
}

impl<R: fmt::Display + 'static> WithDisplay for &&OfRejection<R> {
    fn rejection_shown(&self) -> Shown {
        let text: DisplayFn = |it, f| it.downcast_ref::<R>().map_or(Ok(()), |it| it.fmt(f));
        Shown { of: TypeId::of::<R>(), text: Some(text), error: None }
    }
}

/// Chosen for a rejection that has a `Debug` alone.
pub trait WithDebug {
    /// Returns how it is shown.
    fn rejection_shown(&self) -> Shown;
}

impl<R: fmt::Debug + 'static> WithDebug for &OfRejection<R> {
    fn rejection_shown(&self) -> Shown {
        let text: DisplayFn = |it, f| it.downcast_ref::<R>().map_or(Ok(()), |it| it.fmt(f));
        Shown { of: TypeId::of::<R>(), text: Some(text), error: None }
    }
}

/// Chosen for every other rejection.
pub trait WithNothing {
    /// Returns how it is shown.
    fn rejection_shown(&self) -> Shown;
}

impl<R: 'static> WithNothing for OfRejection<R> {
    fn rejection_shown(&self) -> Shown {
        Shown { of: TypeId::of::<R>(), text: None, error: None }
    }
}
