//! Files of others in a database directory.

mod foreign;
