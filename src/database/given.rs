//! Owns what a user gives to an open besides options: the initial model of a new database, and the
//! answer of the progress callback. Knows nothing of the open.

use std::ops::ControlFlow;

/// The source of a new database's model. [`FromDefault`] and [`Given`] implement it.
pub trait InitialModel<M>: sealed::Sealed + Send + 'static {
    /// Returns the model of a new database.
    #[doc(hidden)]
    fn initial(self) -> M;
}

/// What a [progress callback](crate::Builder::on_progress) returns: nothing, or whether the open
/// goes on.
pub trait ProgressAnswer: sealed::Sealed {
    /// Returns whether the open goes on.
    #[doc(hidden)]
    fn answer(self) -> ControlFlow<()>;
}

impl ProgressAnswer for () {
    fn answer(self) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

impl ProgressAnswer for ControlFlow<()> {
    fn answer(self) -> ControlFlow<()> {
        self
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for () {}
    impl Sealed for std::ops::ControlFlow<()> {}
    impl Sealed for super::FromDefault {}
    impl<M> Sealed for super::Given<M> {}
}

/// Starts a new database from `M::default()`.
#[derive(Clone, Copy, Debug)]
pub struct FromDefault;

/// Starts a new database from the model given to [`Builder::initial`](crate::Builder::initial).
#[derive(Clone, Debug)]
pub struct Given<M>(pub(super) M);

impl<M: Default> InitialModel<M> for FromDefault {
    fn initial(self) -> M {
        M::default()
    }
}

impl<M: Send + 'static> InitialModel<M> for Given<M> {
    fn initial(self) -> M {
        self.0
    }
}
