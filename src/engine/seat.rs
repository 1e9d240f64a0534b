//! Owns the writer between its turns: whoever holds the seat is the writer. Knows nothing of what a
//! turn does.
//!
//! The writer's thread takes the seat whenever the queue has something for it. A caller who finds
//! the seat free, and nothing in the queue, takes it to serve its own command: its thread applies,
//! writes and syncs, and then has the answer. To hand the command over to another thread, and to be
//! woken by it, would cost two wake-ups, 5 to 20 microseconds beside a sync of 50.
//!
//! Whoever holds the seat may sync meanwhile. Callers who come then use the queue, and their
//! commands become the next batch of the writer's thread: that is the group commit.

use std::time::Duration;

use super::batch::Batch;
use super::pending::{EngineThread, Failure};
use super::queue::{Patience, QueueBell, QueueWatch, Submission};
use super::sync::atomic::{AtomicU64, Ordering};
use super::sync::{Instant, Mutex, lock, try_lock};
use super::writer::{Turn, Writer};
use crate::execute_error::Poisoned;
use crate::model::Model;

/// How long nothing must happen before the writer's thread writes a commit marker. It is so long
/// that a caller that executes one command after the other never pays for a marker. It is short,
/// because without a marker, damage to the last batch of a killed process looks like a torn write.
const IDLE_BEFORE_MARKER: Duration = Duration::from_micros(500);

/// The writer, and who may be it.
pub(crate) struct Seat<M: Model> {
    seated: Mutex<Option<Seated<M>>>,
    /// How many commands were served on their callers' threads.
    served: AtomicU64,
    watch: QueueWatch<M>,
    bell: QueueBell<M>,
}

struct Seated<M: Model> {
    writer: Writer<M>,
    /// The batch of the turn. It stays here if a user's code panics, so that its callers get the
    /// panic as their error.
    batch: Batch<M>,
    /// A panic on a caller's thread. The writer's thread refuses everything from then on.
    failed: Option<Poisoned>,
}

/// Why the writer's thread no longer waits.
enum Waited {
    Work,
    /// Nothing happened for a while. It holds how many commands were served until then.
    Idle(u64),
}

impl<M: Model> Seat<M> {
    pub(crate) fn new(writer: Writer<M>) -> Self {
        let (watch, bell) = (writer.queue.watch(), writer.queue.bell());
        let seated = Seated { writer, batch: Batch::new(), failed: None };
        Self { seated: Mutex::new(Some(seated)), served: AtomicU64::new(0), watch, bell }
    }

    /// Serves a command on the calling thread if its caller is alone. Otherwise returns the
    /// command, which then belongs into the queue. A command that is not returned has its answer,
    /// or gets it from the committer's thread.
    pub(crate) fn serve(&self, submission: Submission<M>) -> Option<Submission<M>> {
        let Some(mut guard) = try_lock(&self.seated) else { return Some(submission) };
        let Some(Seated { writer, batch, failed: None }) = &mut *guard else {
            return Some(submission);
        };
        let shared = writer.shared.clone();
        let needed_marker = writer.needs_commit_marker;
        let on_engine = EngineThread::enter();
        let mut refused = None;
        let turn = shared.guarded("writer", || refused = writer.serve(submission, batch));
        let needs_marker = writer.needs_commit_marker;
        if let Err(poisoned) = &turn {
            batch.fail(&Failure::Poisoned(poisoned.clone()));
        }
        drop(on_engine);
        // The thread that waits for a marker looks at this, to know that there was a command.
        self.served.store(self.served.load(Ordering::Relaxed).wrapping_add(1), Ordering::SeqCst);
        let rings = turn.is_err() || (needs_marker && !needed_marker);
        if let (Err(poisoned), Some(seated)) = (turn, &mut *guard) {
            seated.failed = Some(poisoned);
        }
        drop(guard);
        if rings {
            self.bell.ring();
        }
        refused
    }

    /// The life of the writer's thread: until it is told to stop, or until every handle is gone.
    pub(crate) fn run(&self) {
        let poisoned = self.work();
        // From now on callers find nobody, and use the queue, which is stopped or refuses.
        let seated = lock(&self.seated).take();
        // Users' values in the batch are freed last, and without the lock.
        let Some(Seated { mut writer, batch: _batch, .. }) = seated else { return };
        if let Some(poisoned) = poisoned {
            writer.refuse_all(&Failure::Poisoned(poisoned));
        }
        writer.working.free();
    }

    /// Takes turns until it is told to stop, or until a user's code panics.
    fn work(&self) -> Option<Poisoned> {
        loop {
            let mut guard = lock(&self.seated);
            let Some(Seated { writer, batch, failed }) = &mut *guard else { return None };
            if let Some(poisoned) = failed.take() {
                return Some(poisoned);
            }
            let shared = writer.shared.clone();
            match shared.guarded("writer", || writer.work(batch)) {
                Ok(Turn::Wait) => {}
                Ok(Turn::Stop) => return None,
                Err(poisoned) => {
                    batch.fail(&Failure::Poisoned(poisoned.clone()));
                    return Some(poisoned);
                }
            }
            let needs_marker = writer.needs_commit_marker;
            drop(guard);
            // A caller whose turn takes longer than the wait had the seat meanwhile. Then it was
            // not idle, and the count has changed once this thread has the lock.
            if let Waited::Idle(served) = self.wait(needs_marker)
                && let Some(Seated { writer, .. }) = &mut *lock(&self.seated)
                && served == self.served.load(Ordering::SeqCst)
                && let Err(poisoned) = shared.guarded("writer", || writer.write_due_marker())
            {
                return Some(poisoned);
            }
        }
    }

    /// Waits until the queue has something for the writer. If a commit marker is due meanwhile, it
    /// also waits no longer than until nobody was served for [`IDLE_BEFORE_MARKER`].
    fn wait(&self, needs_marker: bool) -> Waited {
        let mut after_work = true;
        loop {
            let served = self.served.load(Ordering::SeqCst);
            let patience = match needs_marker {
                true => Patience::Until(Instant::now() + IDLE_BEFORE_MARKER),
                false => Patience::Endless,
            };
            if self.watch.wait(patience, std::mem::take(&mut after_work)) {
                return Waited::Work;
            }
            if served == self.served.load(Ordering::SeqCst) {
                return Waited::Idle(served);
            }
        }
    }
}
