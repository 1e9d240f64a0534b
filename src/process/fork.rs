//! Owns whether this is still the process that opened a database. In the child of a fork there are
//! none of the engine's threads, locks may be held by nobody, and the files belong to the parent.
//! Knows nothing of the engine.

use arc_swap::ArcSwapOption;

use crate::storage::ForkMark;

/// The process that opened a database; costs one load of memory to compare with the present one.
#[derive(Clone, Copy)]
pub(crate) struct OpeningProcess {
    id: u32,
    /// `None` where the system offers no such thing: then the system is asked each time.
    mark: Option<&'static ForkMark>,
}

/// The newest mark that was made. One for each process, and never freed.
static MARK: ArcSwapOption<&'static ForkMark> = ArcSwapOption::const_empty();

impl OpeningProcess {
    pub(crate) fn this() -> Self {
        let known = MARK.load().as_deref().copied().filter(|mark| !mark.is_forked());
        let mark = known.or_else(|| {
            let made: &'static ForkMark = Box::leak(Box::new(ForkMark::new()?));
            MARK.store(Some(std::sync::Arc::new(made)));
            Some(made)
        });
        Self { id: std::process::id(), mark }
    }

    /// Whether the present process was forked from that one.
    pub(crate) fn is_forked(self) -> bool {
        match self.mark {
            _ if planted!(ForkNotNoticed) => false,
            Some(mark) => mark.is_forked(),
            None => std::process::id() != self.id,
        }
    }
}
