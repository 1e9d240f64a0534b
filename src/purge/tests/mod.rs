//! Tests purges on disks that crash and fail.

mod crash;
mod disk;
