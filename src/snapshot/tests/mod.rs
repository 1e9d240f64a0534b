//! Tests of snapshot files, and of the snapshot thread: on a failing disk, and its predictions.

mod changes;
mod failing_changes;
mod failure;
mod hostile;
mod hostile_changes;
mod late;
mod parts;
mod worker;
