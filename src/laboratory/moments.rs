//! Owns the moments at which a test may do something to the process and its surroundings: right
//! before each operation on files, and between the look at the place and the operation. `moment!`
//! in `crate::faults` is how production code names them; in a production build it is nothing.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// What a test does at a moment, given its kind.
type Hook = Arc<dyn Fn(Moment) + Send + Sync>;

/// What is about to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Moment {
    CreateDirectory,
    CreateTemporary,
    Publish,
    Rename,
    Shorten,
    Remove,
    RemoveDirectory,
    SyncDirectory,
    Lock,
    Read,
    Write,
    Sync,
    /// The place was looked at, and is about to be changed.
    Changing,
    /// A change of files that are found by path: a copy's, or before there is a place.
    Elsewhere,
}

impl Moment {
    /// Whether the place is looked at behind this moment, before anything is changed.
    #[must_use]
    pub fn is_before_a_look(self) -> bool {
        use Moment::{
            CreateDirectory, CreateTemporary, Publish, Remove, RemoveDirectory, Rename, Shorten,
        };
        matches!(
            self,
            CreateDirectory
                | CreateTemporary
                | Publish
                | Rename
                | Shorten
                | Remove
                | RemoveDirectory
        )
    }
}

static IS_WATCHED: AtomicBool = AtomicBool::new(false);
static HOOK: RwLock<Option<Hook>> = RwLock::new(None);

thread_local! {
    static IS_INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// From now on `hook` is called at each moment, by the thread that comes to it. What the hook itself
/// does has none.
pub fn watch_moments(hook: impl Fn(Moment) + Send + Sync + 'static) {
    *HOOK.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(hook));
    IS_WATCHED.store(true, Ordering::SeqCst);
}

/// Ends what [`watch_moments`] began. A hook that runs goes on to its end.
pub fn ignore_moments() {
    IS_WATCHED.store(false, Ordering::SeqCst);
    *HOOK.write().unwrap_or_else(PoisonError::into_inner) = None;
}

pub(crate) fn moment(moment: Moment) {
    if !IS_WATCHED.load(Ordering::Relaxed) || IS_INSIDE.get() {
        return;
    }
    let hook = HOOK.read().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(hook) = hook {
        IS_INSIDE.set(true);
        hook(moment);
        IS_INSIDE.set(false);
    }
}
