//! The snapshot thread on a disk that fails, and its predictions.

mod failure;
mod worker;
