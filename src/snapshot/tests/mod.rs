//! Tests of snapshot files, and of the snapshot thread: on a failing disk, and its predictions.

mod failure;
mod hostile;
mod parts;
mod worker;
