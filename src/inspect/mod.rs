//! A look at a database without its program's types: what is in the directory, which commands are
//! stored, and what is damaged. Everything here works on a closed directory, on a backup, and
//! beside a program that has the database open.
//!
//! Nothing here takes a lock, creates a file or writes one, and no file is mapped. So a look cannot
//! disturb the program that has the database open. That program may meanwhile append, archive and
//! remove files: then the look is repeated, a bounded number of times. [`Inspection::looked_at`]
//! says how current the result is.
//!
//! ```
//! # use prevalence::{Command, Context, Database, Model};
//! # #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
//! # struct Counter(u64);
//! # impl Model for Counter { type Event = (); }
//! # #[derive(serde::Serialize, serde::Deserialize)]
//! # struct Add(u64);
//! # impl Command<Counter> for Add {
//! #     type Output = u64;
//! #     type Rejection = std::convert::Infallible;
//! #     fn apply(self, counter: &mut Counter, _: &mut Context<'_, Counter>)
//! #         -> Result<u64, Self::Rejection> { counter.0 += self.0; Ok(counter.0) }
//! # }
//! # prevalence::commands! { Counter { 1 => Add } }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("counter.db");
//! let database = Database::<Counter>::open(&path)?;
//! database.execute(Add(5))?;
//!
//! use prevalence::inspect::Inspection;
//! let look = Inspection::open(&path)?; // while the database is open
//! assert_eq!(look.newest_sequence(), 1);
//! for record in look.records(..)? {
//!     assert_eq!(&*record?.command_name, "Add");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Which part owns what
//!
//! - `inspection`: one look, and what the whole directory is
//! - `opener`: who has the database open
//! - `found`: what is told of each file
//! - `survey`: finds the files and describes them; `followers` those of durable followers
//! - `strangers`: finds what does not belong to the current state
//! - `journal_end`: where the journal ends now
//! - `known`: reads what changes while a program has the database open
//! - `open_plan`: what an open would do; `open_time`: how long it takes at least
//! - `records`: the stored commands, one by one
//! - `types`: what the stored commands and events are
//! - `content`: the model of a snapshot as JSON
//! - `verify`: reads all files and says what is wrong with each

mod content;
mod followers;
mod found;
mod inspection;
mod journal_end;
mod known;
mod open_plan;
mod open_time;
mod opener;
mod records;
mod strangers;
mod survey;
#[cfg(test)]
mod tests;
mod types;
mod verify;

pub use found::{
    ArchiveFile, FollowerFiles, OtherFile, OtherKind, PurgeFile, SchemasFile, SegmentFile,
    SnapshotFile, SnapshotPlace,
};
pub use inspection::{DatabaseState, Inspection};
pub use journal_end::JournalEnd;
pub use open_plan::OpenPlan;
pub use opener::Opener;
pub(crate) use opener::of as opener_of;
pub(crate) use records::Origin as RecordOrigin;
pub use records::{StoredRecord, StoredRecords};
pub use types::StoredTypes;
pub use verify::{Depth, Finding, Severity, Verification, VerifyProgress, verify};
pub(crate) use verify::{check_requests, verify_with};
