//! Tests with files of other databases in a database directory.

mod foreign;
