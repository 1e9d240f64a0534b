//! Owns the check that this is still the process that opened a database. The child of a fork has
//! none of the engine's threads, its locks may stay locked for ever, and the files belong to the
//! parent. Knows nothing of the engine.

use arc_swap::ArcSwapOption;

use crate::storage::ForkMark;

/// The process that opened a database. Comparing it with the present process costs one load from
/// memory.
#[derive(Clone, Copy)]
pub(crate) struct OpeningProcess {
    id: u32,
    /// `None` if the system offers no such mark. Then the process id is compared each time.
    mark: Option<&'static ForkMark>,
}

/// The newest mark. Each process makes one and never frees it.
static MARK: ArcSwapOption<&'static ForkMark> = ArcSwapOption::const_empty();

impl OpeningProcess {
    /// Returns the present process.
    pub(crate) fn this() -> Self {
        let known = MARK.load().as_deref().copied().filter(|mark| !mark.is_forked());
        let mark = known.or_else(|| {
            let made: &'static ForkMark = Box::leak(Box::new(ForkMark::new()?));
            MARK.store(Some(std::sync::Arc::new(made)));
            Some(made)
        });
        Self { id: std::process::id(), mark }
    }

    /// Whether the present process was forked from this one.
    pub(crate) fn is_forked(self) -> bool {
        match self.mark {
            _ if fault!(ForkNotNoticed) => false,
            Some(mark) => mark.is_forked(),
            None => std::process::id() != self.id,
        }
    }
}
