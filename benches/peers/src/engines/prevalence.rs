//! prevalence with its defaults.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::path::Path;

use arrayvec::ArrayString;
use imbl::OrdMap;
use prevalence::{Command, Context, Database, Model, Pending};
use serde::{Deserialize, Serialize};

use crate::engine::{Caller, Engine, Outcome, Readable, Workload, sum};
use crate::load::{LONGEST_VALUE_BYTES, Put, digest};

pub const ORDERED: &str = "defaults (`Durability::Sync`), model \
    `collections::Map<u64, ArrayString<100>>`; in `values` 4,096 in flight by `submit`, each acknowledged by itself";
pub const IMBL: &str = "the same with `imbl::OrdMap`";
pub const BATCHED: &str =
    "the same as `prevalence`, one command of 4,096 (`thousands`: 1,000) puts, one at a time";

/// Text of at most 100 bytes, inline in the model, like the fields of a plain struct. Changing 1 M
/// such entries is a tenth faster than with `Arc<[u8]>`, whose reference counts are far apart.
pub type Value = ArrayString<LONGEST_VALUE_BYTES>;

/// Converts a value into an entry of a model.
pub fn entry(put: Put) -> Outcome<(u64, Value)> {
    Ok((put.key, Value::from(std::str::from_utf8(put.value)?)?))
}

/// A model of keys and values.
pub trait Map: Model + Default {
    fn insert(&mut self, key: u64, value: Value);
    fn get(&self, key: u64) -> Option<&Value>;
}

/// An engine for each model: commands are registered with one model each.
macro_rules! map_model {
    ($name:ident, $map:ty, $open:ident) => {
        #[derive(Clone, Default, Serialize, Deserialize)]
        pub struct $name($map);

        impl Model for $name {
            type Event = ();
        }

        impl Map for $name {
            fn insert(&mut self, key: u64, value: Value) {
                self.0.insert(key, value);
            }

            fn get(&self, key: u64) -> Option<&Value> {
                self.0.get(&key)
            }
        }

        pub fn $open(path: &Path, _: Workload) -> Outcome<Box<dyn Engine>> {
            Ok(Box::new(Database::<$name>::open(path)?))
        }

        impl Engine for Database<$name> {
            fn caller(&self) -> Outcome<Box<dyn Caller + '_>> {
                Ok(Box::new(self))
            }

            fn put_stream(&self, puts: &mut dyn Iterator<Item = Put>, window: usize) -> Outcome {
                pipeline(puts, window, |insert| Ok(self.submit(insert)?))
            }

            fn readable(&self) -> Option<&dyn Readable> {
                Some(self)
            }
        }

        impl Caller for &Database<$name> {
            fn put(&mut self, put: Put) -> Outcome {
                Ok(self.execute(insert(put)?)?)
            }
        }
    };
}

map_model!(Ordered, prevalence::collections::Map<u64, Value>, ordered);
map_model!(OfImbl, OrdMap<u64, Value>, of_imbl);

prevalence::commands! { Ordered { 1 => Insert, 2 => InsertAll } }
prevalence::commands! { OfImbl { 1 => Insert } }

#[derive(Serialize, Deserialize)]
pub struct Insert(u64, Value);

impl<M: Map> Command<M> for Insert {
    type Output = ();
    type Rejection = Infallible;

    fn apply(self, model: &mut M, _: &mut Context<'_, M>) -> Result<(), Infallible> {
        model.insert(self.0, self.1);
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct InsertAll(Vec<(u64, Value)>);

impl Command<Ordered> for InsertAll {
    type Output = ();
    type Rejection = Infallible;

    fn apply(self, model: &mut Ordered, _: &mut Context<'_, Ordered>) -> Result<(), Infallible> {
        self.0.into_iter().for_each(|(key, value)| model.insert(key, value));
        Ok(())
    }
}

fn insert(put: Put) -> Outcome<Insert> {
    let (key, value) = entry(put)?;
    Ok(Insert(key, value))
}

/// Keeps a window of commands in flight, and waits for each of them.
fn pipeline(
    puts: &mut dyn Iterator<Item = Put>,
    window: usize,
    submit: impl Fn(Insert) -> Outcome<Pending<(), Infallible>>,
) -> Outcome {
    let mut in_flight = VecDeque::with_capacity(window);
    for put in puts {
        if in_flight.len() == window
            && let Some(oldest) = in_flight.pop_front()
        {
            Pending::wait(oldest)?;
        }
        in_flight.push_back(submit(insert(put)?)?);
    }
    Ok(in_flight.into_iter().try_for_each(Pending::wait)?)
}

impl<M: Map> Readable for Database<M> {
    fn read_each(&self, keys: &[u64]) -> Outcome<u64> {
        sum(
            keys,
            |key| Ok(self.query(|model| model.get(key).map(|value| digest(value.as_bytes())))),
        )
    }

    fn read_pinned(&self, keys: &[u64]) -> Outcome<Option<u64>> {
        let view = self.view();
        sum(keys, |key| Ok(view.get(key).map(|value| digest(value.as_bytes())))).map(Some)
    }
}

/// Sends a window of puts as one command, one command at a time.
struct Batched(Database<Ordered>);

pub fn batched(path: &Path, _: Workload) -> Outcome<Box<dyn Engine>> {
    Ok(Box::new(Batched(Database::open(path)?)))
}

impl Engine for Batched {
    fn caller(&self) -> Outcome<Box<dyn Caller + '_>> {
        Err("a batch is no single put".into())
    }

    fn put_stream(&self, puts: &mut dyn Iterator<Item = Put>, window: usize) -> Outcome {
        let mut puts = puts.peekable();
        while puts.peek().is_some() {
            let entries = puts.by_ref().take(window).map(entry);
            self.0.execute(InsertAll(entries.collect::<Outcome<_>>()?))?;
        }
        Ok(())
    }

    fn readable(&self) -> Option<&dyn Readable> {
        Some(&self.0)
    }
}
