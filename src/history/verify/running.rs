//! Owns the verification of the history of an open database. Knows nothing of how it is done.

use super::report::HistoryReport;
use super::verification::Verification;
use super::verify_alone;
use crate::error::Error;
use crate::history::History;
use crate::model::Model;
use crate::process::stack;

impl<M: Model> History<M> {
    /// Replays this history with today's code, and compares the model with every stored snapshot on
    /// the way, as [`verify_history`](crate::verify_history) does with a closed directory. Commands
    /// and reads go on meanwhile, and it takes the memory of a second model. A snapshot that is
    /// superseded and removed meanwhile is not compared.
    ///
    /// # Errors
    /// The errors of [`verify_history`](crate::verify_history) except `Locked`.
    /// [`Error::HistoryTruncated`] if commands were removed before they were read: without
    /// [`Retention::Archive`](crate::Retention::Archive) that happens behind each snapshot.
    /// [`Error::Forked`] in the child of a fork.
    pub fn verify(&self) -> Result<HistoryReport, Error> {
        self.check_process()?;
        let root = &self.files.directory.root;
        let verify = || verify_alone::<M>(&Verification::beside_writer(&self.files)?);
        stack::run(verify).map_err(Error::io("start a thread to read", root))?
    }
}
