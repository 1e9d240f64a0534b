//! Sends what the crate does to `tracing`, if the feature of that name is on. Without it, nothing
//! of this is left in the program. Knows nothing of what is told.

/// Tells of one event: `trace_event!(LEVEL, "message", field = value, …)`. Fields are told by their
/// `Display`.
#[cfg(feature = "tracing")]
macro_rules! trace_event {
    ($level:ident, $message:literal $(, $field:ident = $value:expr)* $(,)?) => {
        $crate::trace::guarded(|| {
            ::tracing::event!(
                target: "prevalence",
                ::tracing::Level::$level,
                $($field = ::tracing::field::display(&$value),)*
                $message
            );
        })
        .unwrap_or(())
    };
}

/// Enters a span until what this returns is dropped: `trace_span!(LEVEL, "name", field = value,
/// …)`.
#[cfg(feature = "tracing")]
macro_rules! trace_span {
    ($level:ident, $name:literal $(, $field:ident = $value:expr)* $(,)?) => {
        $crate::trace::guarded(|| {
            let span = ::tracing::span!(
                target: "prevalence",
                ::tracing::Level::$level,
                $name,
                $($field = ::tracing::field::display(&$value),)*
            );
            $crate::trace::Entered(Some(span.entered()))
        })
    };
}

/// Runs what calls the program's subscriber. A panic there must change nothing that the engine
/// does, and some events come from a `Drop`; the panic hook has told of it. `None` then.
#[cfg(feature = "tracing")]
pub(crate) fn guarded<R>(tell: impl FnOnce() -> R) -> Option<R> {
    crate::panics::unless_it_panics(tell)
}

/// A span until it is dropped.
#[cfg(feature = "tracing")]
pub(crate) struct Entered(pub(crate) Option<tracing::span::EnteredSpan>);

#[cfg(feature = "tracing")]
impl Drop for Entered {
    fn drop(&mut self) {
        guarded(|| drop(self.0.take()));
    }
}

// The values are named and never computed, so that a variable that only they need is not unused.
#[cfg(not(feature = "tracing"))]
macro_rules! trace_event {
    ($level:ident, $message:literal $(, $field:ident = $value:expr)* $(,)?) => {{
        $(let _ = || { let _ = &$value; };)*
    }};
}

#[cfg(not(feature = "tracing"))]
macro_rules! trace_span {
    ($level:ident, $name:literal $(, $field:ident = $value:expr)* $(,)?) => {{
        $(let _ = || { let _ = &$value; };)*
        $crate::trace::NoSpan
    }};
}

/// Stands for a span where there are none.
#[cfg(not(feature = "tracing"))]
pub(crate) struct NoSpan;
