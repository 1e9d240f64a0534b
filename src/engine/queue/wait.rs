//! Owns how the writer's thread waits for a command or a signal, and the bell that wakes it. Knows
//! nothing of how commands are taken.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::super::sync::atomic::Ordering;
use super::super::sync::{Instant, MutexGuard, hint};
use super::{Queue, State};
use crate::model::Model;

/// How long the writer spins before sleeping. A caller that was just answered often sends its next
/// command within this time, and waking a thread takes longer.
const SPIN: Duration = Duration::from_micros(10);

/// How long the writer waits for a command or a signal.
#[derive(Clone, Copy)]
pub(crate) enum Patience {
    None,
    Until(Instant),
    Endless,
}

/// What the writer does while the state has nothing for it.
pub(super) enum Idle {
    /// Look again and again for a short while, without the lock.
    Spin,
    /// Sleep until somebody wakes the writer, or until its deadline.
    Sleep,
    /// Answer `Nothing`.
    GiveUp,
}

impl Idle {
    /// Returns how to idle first. Spinning pays only if something is expected soon.
    pub(super) fn first(patience: Patience, expects: bool) -> Self {
        match patience {
            Patience::None => Self::GiveUp,
            Patience::Until(_) | Patience::Endless if expects => Self::Spin,
            Patience::Until(_) | Patience::Endless => Self::Sleep,
        }
    }
}

/// The place where the writer's thread waits while it is not the writer.
pub(crate) struct QueueWatch<M: Model> {
    pub(super) queue: Arc<Queue<M>>,
}

/// Wakes the writer.
pub(crate) struct QueueBell<M: Model> {
    pub(super) queue: Arc<Queue<M>>,
}

impl<M: Model> QueueWatch<M> {
    /// Waits until `QueueReceiver::next` has an answer other than `Nothing`, or until the end of
    /// the patience. Returns whether it has. Takes nothing. It spins first if it `expects`
    /// something soon.
    pub(crate) fn wait(&self, patience: Patience, expects: bool) -> bool {
        let queue = &*self.queue;
        let mut state = queue.lock();
        let mut idle = Idle::first(patience, expects);
        loop {
            if !state.waiting.is_empty() || state.stopped || state.rung {
                return true;
            }
            queue.signalled.store(false, Ordering::SeqCst);
            let Some(later) = queue.idle(state, idle, patience) else { return false };
            (state, idle) = later;
        }
    }
}

impl<M: Model> QueueBell<M> {
    pub(crate) fn ring(&self) {
        self.queue.signal(|state| state.rung = true);
    }
}

impl<M: Model> Queue<M> {
    /// Idles once, and says how to idle next if the state still has nothing for the writer. `None`
    /// if its patience is at its end.
    pub(super) fn idle<'a>(
        &'a self,
        state: MutexGuard<'a, State<M>>,
        idle: Idle,
        patience: Patience,
    ) -> Option<(MutexGuard<'a, State<M>>, Idle)> {
        match idle {
            Idle::Spin => {
                drop(state);
                self.spin();
                Some((self.lock(), Idle::Sleep))
            }
            Idle::Sleep => Some(self.sleep(state, patience)),
            Idle::GiveUp => None,
        }
    }

    /// Waits for [`SPIN`] at most, until there is a command or a signal.
    fn spin(&self) {
        let began = Instant::now();
        while !self.has_commands()
            && !self.signalled.load(Ordering::Relaxed)
            && began.elapsed() < SPIN
        {
            hint::spin_loop();
        }
    }

    /// Sleeps until somebody wakes the writer, or until its deadline. Says what the writer does if
    /// the state still has nothing for it.
    fn sleep<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<M>>,
        patience: Patience,
    ) -> (MutexGuard<'a, State<M>>, Idle) {
        state.writer_sleeps = true;
        let (mut state, late) = match patience {
            Patience::Until(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                let (state, waited) =
                    self.arrived.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
                (state, waited.timed_out())
            }
            Patience::None | Patience::Endless => {
                (self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner), false)
            }
        };
        state.writer_sleeps = false;
        (state, if late { Idle::GiveUp } else { Idle::Sleep })
    }
}
