//! Owns the moments at which a test may change the process and its surroundings: directly before
//! each operation on files, and between the check of the place and the operation. Production code
//! names them with `moment!` in `crate::faults`, which is empty in a production build.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// The function that a test calls at each moment.
type Hook = Arc<dyn Fn(Moment) + Send + Sync>;

/// The operation that follows.
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
    /// A change of the place, which was checked just before.
    Changing,
    /// A change of files that are found by path: those of a copy, or before the place is held.
    Elsewhere,
}

impl Moment {
    /// Whether the place is checked after this moment and before anything is changed.
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

/// Begins to call `hook` at each moment, on the thread that reaches it. Operations of the hook
/// itself have no moments.
pub fn watch_moments(hook: impl Fn(Moment) + Send + Sync + 'static) {
    *HOOK.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(hook));
    IS_WATCHED.store(true, Ordering::SeqCst);
}

/// Ends the calls that [`watch_moments`] began. A hook that is running goes on to its end.
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
