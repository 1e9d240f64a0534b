//! What the model holds while its snapshots are measured: accounts of a few bytes each, or values
//! of 100 bytes that do not pack.

// Each bench uses only a part of this module.
#![allow(dead_code)]

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;

use prevalence::__private::Listed;
use prevalence::collections::Map;
use prevalence::{Command, Context, Database, Model, Pending};
use serde::{Deserialize, Serialize};

use crate::ledger::{Add, Ledger, random_key};
use crate::support::value::Value;

/// A model, and the command that is executed on it again and again.
pub trait Contents: Model {
    const NAME: &'static str;
    type Command: Listed<Self, Output: fmt::Debug, Rejection: fmt::Debug>;

    fn of(entries: u64) -> Self;

    /// Makes command number `index`.
    fn command(index: u64, entries: u64) -> Self::Command;
}

impl Contents for Ledger {
    const NAME: &'static str = "ledger";
    type Command = Add;

    fn of(entries: u64) -> Self {
        Self::of(entries)
    }

    fn command(index: u64, entries: u64) -> Add {
        Add(random_key(index, entries), 1)
    }
}

#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Fat(pub Map<u64, Value>);

impl Model for Fat {
    type Event = ();
}

#[derive(Serialize, Deserialize)]
pub struct Put(u64, Value);

impl Command<Fat> for Put {
    type Output = ();
    type Rejection = std::convert::Infallible;

    fn apply(self, fat: &mut Fat, _: &mut Context<'_, Fat>) -> Result<(), Self::Rejection> {
        fat.0.insert(self.0, self.1);
        Ok(())
    }
}

prevalence::commands! { Fat { 1 => Put } }

impl Contents for Fat {
    const NAME: &'static str = "fat values";
    type Command = Put;

    fn of(entries: u64) -> Self {
        Self((0..entries).map(|key| (key, Value::random(key))).collect())
    }

    fn command(index: u64, entries: u64) -> Put {
        Put(random_key(index, entries), Value::random(entries + index))
    }
}

/// Executes the commands with these numbers, with 4,096 in flight.
pub fn put<M: Contents>(database: &Database<M>, numbers: Range<u64>, entries: u64) {
    let mut in_flight = VecDeque::new();
    for index in numbers {
        if in_flight.len() == 4096 {
            let oldest: Pending<_, _> = in_flight.pop_front().expect("not empty");
            oldest.wait().expect("accepted");
        }
        in_flight.push_back(database.submit(M::command(index, entries)).expect("queued"));
    }
    in_flight.into_iter().for_each(|pending| drop(pending.wait().expect("accepted")));
}
