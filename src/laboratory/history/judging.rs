//! Owns the comparison of answers with the reference's outcomes while a history runs. Knows nothing
//! of how commands are chosen.

use super::{History, InFlight};
use crate::execute_error::ExecuteError;
use crate::laboratory::answering::Answer;
use crate::laboratory::model::{Outcome, Refused};

impl History {
    /// Compares the answers of commands that were submitted one after the other. If a command could
    /// not be written, the commands that depend on it are refused too. Later commands are applied
    /// as if the refused ones had never been submitted.
    pub(super) fn judge_all(&mut self, flight: Vec<InFlight>) {
        let mut is_refused = false;
        for InFlight { order, number, before, expected, answering } in flight {
            let answer = answering.wait();
            if let Some(Err(ExecuteError::NotWritten { .. })) = answer {
                let fired = self.disk().faults_fired();
                if !is_refused && fired == self.faults_at_refusal {
                    self.violated(format!("{expected:?} was refused without a fault"));
                }
                if !is_refused {
                    self.reference.cut(before);
                }
                (is_refused, self.faults_at_refusal) = (true, fired);
                number.into_iter().for_each(|number| self.journalist.withdraw(number));
                continue;
            }
            let expected = if is_refused { self.reference.submit(&order) } else { expected };
            self.judge(expected, answer);
        }
    }

    /// Compares an answer with the reference's outcome.
    pub(super) fn judge(&mut self, expected: Outcome, answer: Option<Answer>) {
        let right = match (&expected, &answer) {
            (Outcome::Accepted { sequence, hash }, Some(Ok(found))) => {
                self.required.kill = self.required.kill.max(*sequence);
                if !self.setup.buffered {
                    self.required.cut = self.required.kill;
                }
                *found == (*sequence, *hash)
            }
            (Outcome::Rejected { hash }, Some(Err(ExecuteError::Rejected(Refused(found))))) => {
                hash == found
            }
            (
                Outcome::Duplicate { sequence },
                Some(Err(ExecuteError::Duplicate { sequence: found, .. })),
            ) => sequence == found,
            (Outcome::Panicked, Some(Err(ExecuteError::Panicked { .. }))) => true,
            (_, Some(Err(ExecuteError::Poisoned(_) | ExecuteError::Stopped))) => {
                self.faulty && self.disk().faults_fired() > 0
            }
            _ => false,
        };
        if !right {
            self.violated(format!("answered {answer:?} instead of {expected:?}"));
        }
    }

    pub(super) fn withdraw_refused(&mut self, flight: &[InFlight]) {
        for InFlight { number, answering, .. } in flight {
            if answering.is_refused() {
                number.iter().for_each(|&number| self.journalist.withdraw(number));
            }
        }
    }
}
