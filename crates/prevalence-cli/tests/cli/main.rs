//! The tool against what a program did: figures, formats, exit codes, and places that are no whole
//! database. Nothing that it does may change the directory.

mod common;
mod compact;
mod decoded;
mod diff;
mod export;
mod figures;
mod import;
mod log;
mod manual;
mod memory;
mod mutated;
mod refused;
mod rescue;
mod verify;
