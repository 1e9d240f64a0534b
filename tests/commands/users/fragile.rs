//! A model that panics where a test tells it to.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use prevalence::{Command, Context, Database, ExecuteError, Model, RecentVersions, SnapshotPolicy};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::common::quiet_panics;

/// The places where the model panics. Each panics once, except those that always panic.
pub static CLONE: AtomicU32 = AtomicU32::new(0);
pub static DROP: AtomicU32 = AtomicU32::new(0);
pub static SERIALIZE: AtomicU32 = AtomicU32::new(0);
pub static DESERIALIZE: AtomicU32 = AtomicU32::new(0);
pub static MIGRATE: AtomicU32 = AtomicU32::new(0);
/// `Serialize` waits while this is set.
pub static HELD: AtomicBool = AtomicBool::new(false);
pub static HOLDS: AtomicBool = AtomicBool::new(false);

pub const ALWAYS: u32 = u32::MAX;

pub fn panic_if(armed: &AtomicU32) {
    let left = armed.load(Ordering::SeqCst);
    if left > 0 && !std::thread::panicking() {
        if left != ALWAYS {
            armed.store(left - 1, Ordering::SeqCst);
        }
        panic!("on purpose");
    }
}

/// One test at a time, with nothing armed before and after.
pub struct Turn(#[expect(dead_code)] MutexGuard<'static, ()>);

impl Turn {
    pub fn take() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        quiet_panics();
        let turn = Self(TURN.lock().unwrap_or_else(PoisonError::into_inner));
        disarm();
        turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        disarm();
    }
}

pub fn disarm() {
    for armed in [&CLONE, &DROP, &SERIALIZE, &DESERIALIZE, &MIGRATE] {
        armed.store(0, Ordering::SeqCst);
    }
    HELD.store(false, Ordering::SeqCst);
}

#[derive(Default, PartialEq, Debug)]
pub struct Count(pub u64);

impl Clone for Count {
    fn clone(&self) -> Self {
        panic_if(&CLONE);
        Self(self.0)
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        panic_if(&DROP);
    }
}

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        panic_if(&SERIALIZE);
        HOLDS.store(true, Ordering::SeqCst);
        while HELD.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        panic_if(&DESERIALIZE);
        u64::deserialize(deserializer).map(Self)
    }
}

impl Model for Count {
    type Event = ();
}

#[derive(Serialize, Deserialize)]
pub enum Step {
    Go,
    Refuse,
}

impl Command<Count> for Step {
    type Output = u64;
    type Rejection = ();

    fn apply(self, count: &mut Count, _: &mut Context<'_, Count>) -> Result<u64, ()> {
        count.0 += 1;
        if matches!(self, Self::Refuse) { Err(()) } else { Ok(count.0) }
    }
}

prevalence::commands! { Count { 1 => Step } }

pub fn open(path: &std::path::Path) -> Database<Count> {
    Database::<Count>::builder()
        .snapshots(SnapshotPolicy::manual())
        .recent_versions(RecentVersions { count: 0, ..RecentVersions::default() })
        .open(path)
        .unwrap()
}

pub fn assert_told<T: std::fmt::Debug>(result: Result<T, ExecuteError<()>>) {
    match result {
        Err(ExecuteError::Poisoned(poisoned)) => assert!(poisoned.reason().contains("on purpose")),
        other => panic!("{other:?}"),
    }
}
