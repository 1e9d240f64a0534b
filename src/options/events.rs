//! Owns whether the events of commands are stored. Knows nothing of how.

use std::any::TypeId;

/// What becomes of the events that accepted commands [`emit`](crate::Context::emit); see
/// [`Builder::events`](crate::Builder::events).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Events {
    /// Events are journaled in the frame of the command that emitted them. They are facts: a later
    /// program, which would emit something else, cannot change them. This is the default if the
    /// model's event type is not `()`.
    Stored,
    /// Events are not journaled. Whoever wants those of an earlier command replays it, and gets
    /// what the present program emits. A [`Subscription`](crate::Subscription) and what lasts beside
    /// the database do that: each has a model of its own then. To begin in the middle, they load a
    /// snapshot and replay what is behind it.
    Derived,
    /// Events are dropped. This is the default if the model's event type is `()`.
    Off,
}

impl Events {
    /// Returns the default for an event type.
    pub(crate) fn default_for<E: 'static>() -> Self {
        if TypeId::of::<E>() == TypeId::of::<()>() { Self::Off } else { Self::Stored }
    }

    /// Returns the number with which the header of a segment names it. Files from before events
    /// were stored have a zero there.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Off => 0,
            Self::Stored => 1,
            Self::Derived => 2,
        }
    }
}
