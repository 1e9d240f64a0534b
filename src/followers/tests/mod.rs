//! Tests of what a crash, damage and deliberate faults do to durable followers.

mod crash;
mod failures;
mod model;
