//! The models and commands that are measured.

use std::fmt;

use prevalence::__private::Listed;
use prevalence::collections::Map;
use prevalence::{Command, Context, Model};
use serde::{Deserialize, Serialize};

use crate::ledger::{Add, Ledger, random_key};
use crate::support::value::Value;

/// A model, and the command that is executed on it again and again.
pub trait Workload: 'static {
    const NAME: &'static str;
    type Model: Model;
    type Command: Listed<Self::Model, Output: fmt::Debug, Rejection: fmt::Debug>;

    fn model(entries: u64) -> Self::Model;

    /// Makes command number `index`.
    fn command(index: u64, entries: u64) -> Self::Command;

    /// Does the work of that command, without engine, encoding or context.
    fn update(model: &mut Self::Model, index: u64, entries: u64);
}

#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Counter(u64);

impl Model for Counter {
    type Event = ();
}

#[derive(Serialize, Deserialize)]
pub struct Increment(u64);

impl Command<Counter> for Increment {
    type Output = u64;
    type Rejection = std::convert::Infallible;

    fn apply(
        self,
        counter: &mut Counter,
        _: &mut Context<'_, Counter>,
    ) -> Result<u64, Self::Rejection> {
        counter.0 = counter.0.wrapping_add(self.0);
        Ok(counter.0)
    }
}

prevalence::commands! { Counter { 1 => Increment } }

impl Workload for Counter {
    const NAME: &'static str = "counter";
    type Model = Self;
    type Command = Increment;

    fn model(_: u64) -> Self {
        Self(0)
    }

    fn command(index: u64, _: u64) -> Increment {
        Increment(index % 100)
    }

    fn update(model: &mut Self, index: u64, _: u64) {
        model.0 = model.0.wrapping_add(index % 100);
    }
}

impl Workload for Ledger {
    const NAME: &'static str = "ledger";
    type Model = Self;
    type Command = Add;

    fn model(entries: u64) -> Self {
        Self::of(entries)
    }

    fn command(index: u64, entries: u64) -> Add {
        Add(random_key(index, entries), 1)
    }

    fn update(model: &mut Self, index: u64, entries: u64) {
        model.add(random_key(index, entries), 1);
    }
}

#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Values(Map<u64, Value>);

impl Model for Values {
    type Event = ();
}

#[derive(Serialize, Deserialize)]
pub struct Put(u64, Value);

impl Command<Values> for Put {
    type Output = ();
    type Rejection = std::convert::Infallible;

    fn apply(
        self,
        values: &mut Values,
        _: &mut Context<'_, Values>,
    ) -> Result<(), Self::Rejection> {
        values.0.insert(self.0, self.1);
        Ok(())
    }
}

prevalence::commands! { Values { 1 => Put } }

impl Workload for Values {
    const NAME: &'static str = "values";
    type Model = Self;
    type Command = Put;

    fn model(entries: u64) -> Self {
        Self((0..entries).map(|key| (key, Value::of(key))).collect())
    }

    fn command(index: u64, entries: u64) -> Put {
        Put(random_key(index, entries), Value::of(index))
    }

    fn update(model: &mut Self, index: u64, entries: u64) {
        model.0.insert(random_key(index, entries), Value::of(index));
    }
}
