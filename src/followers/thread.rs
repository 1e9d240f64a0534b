//! Owns the loop in which the thread of a follower works and obeys. Knows nothing of what it does
//! with a command.
//!
//! | state      | the thread                                   | an order                         |
//! |------------|----------------------------------------------|----------------------------------|
//! | `Running`  | works, or waits for a command                | is obeyed between two commands   |
//! | `Retrying` | waits for the pause to pass, then works      | is obeyed at once                |
//! | `Stopped`  | waits for an order                           | any                              |
//! | `Lost`     | waits for an order                           | `Rebuild`, `Retry`               |
//! | `Ended`    | is gone                                      | is refused                       |

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use super::follower::Follower;
use crate::engine::{FollowerSeat, FollowerState, LONG_WAIT, Order, Told};
use crate::error::Error;
use crate::files::{FollowerKind, Standing};
use crate::model::Model;
use crate::panics::panic_message;
use crate::process::stack;

/// Why a follower does not go on.
pub(super) enum Failure {
    /// It could not work on the command with this sequence.
    At(u64, String),
    /// Commands are missing; this is the oldest that is stored.
    Lost(u64),
    /// It is to try again later.
    Again(u64, String, u32),
}

/// Whether there is more to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    GoesOn,
    /// The database was closed, and everything was worked on.
    Ended,
}

/// What a kind of follower does.
pub(super) trait Works<M: Model>: Send + 'static {
    fn follower(&mut self) -> &mut Follower<M>;
    /// Works on the commands that are there. If there are none, it waits for the next one, or until
    /// an order comes.
    fn step(&mut self) -> Result<Step, Failure>;
    fn obey(&mut self, order: Order) -> Result<(), Error>;
    /// Makes its position durable before it ends.
    fn finish(&mut self);
}

/// Starts the thread of a follower.
pub(super) fn start<M: Model>(works: impl Works<M>, kind: FollowerKind) -> Result<(), Error> {
    let mut works = works;
    let path = works.follower().own.root.clone();
    stack::spawn(format!("prevalence-{kind}"), move || run(works))
        .map(drop)
        .map_err(Error::io("start a thread for", &path))
}

fn run<M: Model>(mut works: impl Works<M>) {
    let seat = works.follower().seat.clone();
    seat.begin();
    let mut waits_until = Some(Instant::now());
    loop {
        let pause =
            waits_until.map_or(LONG_WAIT, |at| at.saturating_duration_since(Instant::now()));
        let before = seat.status().state;
        let told = seat.told(pause);
        let is_order = matches!(told, Told::Do(..));
        match told {
            Told::Stop => break,
            Told::Do(order, reply) => {
                let obeyed = guarded(|| works.obey(order));
                let obeyed = obeyed.unwrap_or_else(|reason| Err(works.follower().refuses(reason)));
                reply.send(obeyed).ok(); // whoever asked may have gone
            }
            // What it has worked on holds the journal until it is saved.
            Told::Nothing if !is_at_work(&before) => finish(&mut works, &seat),
            Told::Nothing => match step(&mut works, &seat) {
                Ok(Step::GoesOn) => seat.tell(|status| {
                    if matches!(status.state, FollowerState::Retrying { .. }) {
                        status.state = FollowerState::Running;
                    }
                }),
                Ok(Step::Ended) => break,
                Err(failure) => {
                    note_failure(&mut works, failure);
                    // It may stop for days, and what it has worked on must not be done again.
                    if !is_at_work(&seat.status().state) {
                        finish(&mut works, &seat);
                    }
                }
            },
        }
        waits_until = match seat.status().state {
            FollowerState::Running => Some(Instant::now()),
            // An order does not make the pause longer.
            state @ FollowerState::Retrying { .. } if is_order && state == before => waits_until,
            FollowerState::Retrying { attempts, .. } => {
                Instant::now().checked_add(works.follower().options.pause(attempts))
            }
            _ if works.follower().has_failed_to_save() => {
                Instant::now().checked_add(works.follower().until_save())
            }
            _ => None,
        };
    }
    finish(&mut works, &seat);
    // A user's `Drop` may panic. The seat is left behind it.
    guarded(move || drop(works)).ok();
    seat.end();
}

/// Makes the position durable. The status says whether that failed.
fn finish<M: Model>(works: &mut impl Works<M>, seat: &FollowerSeat) {
    if let Err(reason) = guarded(|| works.finish()) {
        seat.tell(|status| status.checkpoint_failure = Some(reason.into()));
    }
}

fn step<M: Model>(works: &mut impl Works<M>, seat: &FollowerSeat) -> Result<Step, Failure> {
    guarded(|| works.step()).unwrap_or_else(|reason| {
        // Nobody knows how far it has come.
        works.follower().subscription = None;
        Err(Failure::At(seat.status().position + 1, reason))
    })
}

fn note_failure<M: Model>(works: &mut impl Works<M>, failure: Failure) {
    let follower = works.follower();
    let state = match failure {
        Failure::At(sequence, reason) => FollowerState::Stopped { sequence, reason: reason.into() },
        Failure::Lost(oldest) => {
            // The next start finds it out again, if this cannot be written.
            let standing = Standing { lost: Some(oldest), ..follower.standing.clone() };
            let saved = follower.save(standing);
            if saved.is_err() {
                follower.note_save(&saved);
            }
            FollowerState::Lost { oldest }
        }
        Failure::Again(sequence, reason, attempts) => {
            FollowerState::Retrying { sequence, attempts, reason: reason.into() }
        }
    };
    follower.enter(state);
}

fn is_at_work(state: &FollowerState) -> bool {
    matches!(state, FollowerState::Running | FollowerState::Retrying { .. })
}

fn guarded<R>(run: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(run))
        .map_err(|panic| format!("it panicked: {}", panic_message(panic)))
}
