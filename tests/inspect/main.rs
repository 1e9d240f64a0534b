//! A look at a database without its program's types: figures against what the program did, places
//! that are no database, damage, and a program that writes meanwhile. Nothing that looks may change
//! anything.

#[path = "../common/mod.rs"]
mod common;

mod damage;
mod figures;
mod live;
mod reading;
mod strange;

use std::path::Path;

use prevalence::inspect::{Depth, Inspection, Verification, verify};

use common::content;

/// Calls `look`, and checks that it has changed nothing in the directory, and has made no LOCK.
fn unchanged<R>(path: &Path, look: impl FnOnce() -> R) -> R {
    let names = || {
        let mut names: Vec<_> =
            std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = (names(), content(path));
    let result = look();
    assert!((names(), content(path)) == before, "a look has changed {}", path.display());
    result
}

/// Looks at a database that nobody changes.
fn look(path: &Path) -> Inspection {
    unchanged(path, || Inspection::open(path).unwrap())
}

fn deep(path: &Path) -> Verification {
    unchanged(path, || verify(path, Depth::Deep, |_| {}).unwrap())
}

fn quick(path: &Path) -> Verification {
    unchanged(path, || verify(path, Depth::Quick, |_| {}).unwrap())
}
