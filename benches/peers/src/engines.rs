//! Owns the list of all engines. Each has a module that uses it in the way that its authors intend.

pub mod airomem;
pub mod fjall;
pub mod floor;
pub mod lmdb;
pub mod okaywal;
pub mod prevalence;
pub mod redb;
pub mod redis;
pub mod sqlite;

use std::path::Path;

use crate::engine::{Engine, Outcome, Workload};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Floor,
    Prevalence,
    /// Keeps no data that can be read: a log without a store.
    Log,
    Store,
}

pub struct Entry {
    pub name: &'static str,
    pub kind: Kind,
    pub workloads: &'static [Workload],
    /// How the engine is used, for the notes below the tables.
    pub setting: &'static str,
    pub open: fn(&Path, Workload) -> Outcome<Box<dyn Engine>>,
}

const ALL: &[Workload] = &Workload::ALL;
const WRITES: &[Workload] =
    &[Workload::Lone, Workload::Blocked, Workload::Values, Workload::Thousands];
const ON_A_MILLION: &[Workload] = &[Workload::Values, Workload::Reads];
const IN_BATCHES: &[Workload] = &[Workload::Values, Workload::Thousands];
/// What an engine is for that has another entry for its batches.
const ALL_BUT_BATCHES: &[Workload] =
    &[Workload::Lone, Workload::Blocked, Workload::Values, Workload::Reads];

/// Every engine, in the order in which the first round runs them.
pub const ENTRIES: &[Entry] = &[
    Entry {
        name: "prevalence",
        kind: Kind::Prevalence,
        workloads: ALL_BUT_BATCHES,
        setting: prevalence::ORDERED,
        open: prevalence::ordered,
    },
    Entry {
        name: "prevalence-imbl",
        kind: Kind::Prevalence,
        workloads: ON_A_MILLION,
        setting: prevalence::IMBL,
        open: prevalence::of_imbl,
    },
    Entry {
        name: "prevalence-batch",
        kind: Kind::Prevalence,
        workloads: IN_BATCHES,
        setting: prevalence::BATCHED,
        open: prevalence::batched,
    },
    Entry {
        name: "floor-write",
        kind: Kind::Floor,
        workloads: &[Workload::Lone, Workload::Values, Workload::Thousands],
        setting: floor::WRITE,
        open: floor::write,
    },
    Entry {
        name: "floor-group",
        kind: Kind::Floor,
        workloads: &[Workload::Lone, Workload::Blocked],
        setting: floor::GROUP,
        open: floor::group,
    },
    Entry {
        name: "floor-map",
        kind: Kind::Floor,
        workloads: ON_A_MILLION,
        setting: floor::MAP,
        open: floor::map,
    },
    Entry {
        name: "okaywal",
        kind: Kind::Log,
        workloads: WRITES,
        setting: okaywal::SETTING,
        open: okaywal::open,
    },
    Entry {
        name: "fjall",
        kind: Kind::Store,
        workloads: ALL,
        setting: fjall::SETTING,
        open: fjall::open,
    },
    Entry {
        name: "redb",
        kind: Kind::Store,
        workloads: ALL,
        setting: redb::SETTING,
        open: redb::open,
    },
    Entry {
        name: "sqlite",
        kind: Kind::Store,
        workloads: ALL,
        setting: sqlite::SETTING,
        open: sqlite::open,
    },
    Entry {
        name: "lmdb",
        kind: Kind::Store,
        workloads: ALL,
        setting: lmdb::SETTING,
        open: lmdb::open,
    },
    Entry {
        name: "airomem",
        kind: Kind::Store,
        workloads: ALL_BUT_BATCHES,
        setting: airomem::SETTING,
        open: airomem::each,
    },
    Entry {
        name: "airomem-batch",
        kind: Kind::Store,
        workloads: IN_BATCHES,
        setting: airomem::BATCH_SETTING,
        open: airomem::batched,
    },
    Entry {
        name: "redis",
        kind: Kind::Store,
        workloads: ALL,
        setting: redis::SETTING,
        open: redis::open,
    },
];
