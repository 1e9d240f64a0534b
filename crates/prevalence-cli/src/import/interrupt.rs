//! Owns how a user ends an import: the first Ctrl-C lets the request that is on its way be
//! answered, the second one ends the process. Knows nothing of imports.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// What a shell returns for a process that Ctrl-C has ended.
const INTERRUPTED: i32 = 130;

/// Whether the user wants it to end.
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Notes Ctrl-C and a request to terminate from now on, as long as the process lives.
    pub fn watch() -> io::Result<Self> {
        let is_wanted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal does not see the flag that it sets itself.
            flag::register_conditional_shutdown(signal, INTERRUPTED, Arc::clone(&is_wanted))?;
            flag::register(signal, Arc::clone(&is_wanted))?;
        }
        Ok(Self(is_wanted))
    }

    pub fn is_wanted(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
