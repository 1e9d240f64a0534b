//! Owns the check that this is still the process that opened a database, or made a map. The child
//! of a fork has none of the parent's other threads, its locks may stay locked for ever, and the
//! files belong to the parent. Knows nothing of the engine and of maps.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::storage::ForkMark;

/// The process that opened a database, or made a map.
#[derive(Clone, Copy)]
pub(crate) enum OpeningProcess {
    /// Comparing it with the present process costs one load from memory.
    Marked(&'static ForkMark),
    /// The system offers no such mark. Comparing costs a system call. In a long chain of forks an
    /// id may come again, and then the fork is not noticed.
    Numbered(u32),
}

/// The present process, or one from which it was forked. Each process makes its own when it first
/// needs it.
static NEWEST: ArcSwapOption<OpeningProcess> = ArcSwapOption::const_empty();

impl OpeningProcess {
    /// Returns the present process.
    pub(crate) fn this() -> Self {
        let known = NEWEST.load().as_deref().copied().filter(|process| !process.is_forked());
        known.unwrap_or_else(|| {
            let made = ForkMark::new().map_or_else(
                || Self::Numbered(std::process::id()),
                |mark| Self::Marked(Box::leak(Box::new(mark))),
            );
            NEWEST.store(Some(Arc::new(made)));
            made
        })
    }

    /// Whether the present process was forked from this one.
    #[inline]
    pub(crate) fn is_forked(self) -> bool {
        match self {
            _ if fault!(ForkNotNoticed) => false,
            Self::Marked(mark) => mark.is_forked(),
            Self::Numbered(id) => std::process::id() != id,
        }
    }
}
