//! Owns how commands come in as JSON: one by one, and as lines of an export. Knows nothing of what
//! becomes of them.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, Read};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Database;
use crate::engine::{JsonOutput, Pending, Refused, untyped_submission};
use crate::error::Error;
use crate::execute_error::ExecuteError;
use crate::import_report::{ImportReport, RefusedLine};
use crate::model::{Entry, Metadata, Model};

/// How many commands are on their way at once.
const MOST_PENDING: usize = 1024;

/// A line, as `prevalence log --json` and `prevalence export` write it. Other fields are ignored.
#[derive(Deserialize)]
struct Line<'a> {
    command: String,
    #[serde(borrow)]
    fields: Option<&'a RawValue>,
    #[serde(default)]
    actor: String,
    #[serde(default)]
    request_id: String,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    #[serde(default)]
    is_redacted: bool,
}

type Submitted = Pending<JsonOutput, Refused>;

impl<M: Model> Database<M> {
    /// Submits the command with this name, as files and `commands!` have it, whose fields are JSON
    /// as `prevalence log` shows them. So a program can take commands from elsewhere without naming
    /// their types. The answer has the output as JSON. The metadata is that of this handle.
    ///
    /// ```
    /// # use prevalence::{Command, Context, Database, Model};
    /// # #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
    /// # struct Bank(u64);
    /// # impl Model for Bank { type Event = (); }
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Deposit { cents: u64 }
    /// # impl Command<Bank> for Deposit {
    /// #     type Output = u64;
    /// #     type Rejection = std::convert::Infallible;
    /// #     fn apply(self, bank: &mut Bank, _: &mut Context<'_, Bank>)
    /// #         -> Result<u64, Self::Rejection> { bank.0 += self.cents; Ok(bank.0) }
    /// # }
    /// # prevalence::commands! { Bank { 1 => Deposit } }
    /// # let bank = Database::<Bank>::in_memory()?;
    /// let balance = bank.submit_json("Deposit", r#"{"cents":250}"#)?.wait()?;
    /// assert_eq!(balance.as_deref(), Some("250"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ExecuteError::NotACommand`] if there is no command of this name, or if the JSON is not one
    /// of its values. Otherwise those of [`submit`](Self::submit). The [`Pending`] gives
    /// [`ExecuteError::Rejected`] with the rejection as a text. An output is not remembered for
    /// later duplicates.
    pub fn submit_json(
        &self,
        command: &str,
        fields: &str,
    ) -> Result<Pending<JsonOutput, Refused>, ExecuteError<Refused>> {
        self.submit_line(command, fields, &self.metadata)
    }

    /// Executes the commands in these lines, each of which is a JSON object as `prevalence log
    /// --json` and `prevalence export` write it: `command` and `fields`, and if they are there,
    /// `actor`, `request_id` and `attributes`. Sequences and times are given anew. A line with a
    /// request id that was accepted before is not applied again, so an import that was interrupted
    /// may be repeated if its lines have request ids.
    ///
    /// It goes on behind commands that are refused, and reports them.
    ///
    /// # Errors
    /// [`Error::ImportLine`] if a line is no such object or cannot be read. The commands before it
    /// were executed, and the error has their report. [`Error::Poisoned`], [`Error::Stopped`],
    /// [`Error::Forked`] and [`Error::Reentrant`] if the database accepts nothing more.
    pub fn import(&self, mut lines: impl BufRead) -> Result<ImportReport, Error> {
        self.engine.check_caller()?;
        let (mut report, mut pending) = (ImportReport::default(), VecDeque::new());
        let wrong = self.submit_lines(&mut lines, &mut report, &mut pending)?;
        for (number, submitted) in pending {
            report.answer(number, submitted)?;
        }
        match wrong {
            None => Ok(report),
            Some(reason) => {
                let line = report.lines.saturating_add(1);
                Err(Error::ImportLine { line, reason, before: Box::new(report) })
            }
        }
    }

    /// Submits the commands in these lines. Ends before a line that is none, and returns what is
    /// wrong with it.
    fn submit_lines(
        &self,
        lines: &mut impl BufRead,
        report: &mut ImportReport,
        pending: &mut VecDeque<(u64, Submitted)>,
    ) -> Result<Option<String>, Error> {
        let mut text = Vec::new();
        loop {
            text.clear();
            let number = report.lines.saturating_add(1);
            let read = lines.take(ImportReport::MAX_LINE_BYTES).read_until(b'\n', &mut text);
            match read {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) => return Ok(Some(error.to_string())),
            }
            if text.trim_ascii().is_empty() {
                report.lines = number;
                continue;
            }
            let line: Line<'_> = match serde_json::from_slice(&text) {
                Ok(line) => line,
                Err(error) => return Ok(Some(error.to_string())),
            };
            report.lines = number;
            if line.is_redacted {
                report.redacted += 1;
                continue;
            }
            let fields = line.fields.map_or("null", RawValue::get);
            let (actor, request_id, attributes) = (line.actor, line.request_id, line.attributes);
            let metadata = Metadata { actor, request_id, attributes };
            let metadata = self.encoded(&metadata);
            let submitted =
                metadata.and_then(|metadata| self.submit_line(&line.command, fields, &metadata));
            match submitted {
                Ok(submitted) => pending.push_back((number, submitted)),
                Err(error) => report.note(number, error)?,
            }
            if pending.len() >= MOST_PENDING
                && let Some((number, submitted)) = pending.pop_front()
            {
                report.answer(number, submitted)?;
            }
        }
    }

    fn submit_line(
        &self,
        command: &str,
        fields: &str,
        metadata: &[u8],
    ) -> Result<Submitted, ExecuteError<Refused>> {
        self.check_submission()?;
        let unknown = |reason: String| ExecuteError::NotACommand { reason };
        let engine = &self.engine;
        let schemas = engine.schemas.decoded().map_err(unknown)?;
        let entry = entry_named::<M>(command).ok_or_else(|| {
            unknown(format!("`{command}` is no command of this program's `commands!`"))
        })?;
        let described = schemas
            .command(entry.tag())
            .ok_or_else(|| unknown(format!("nothing is known of the type of `{command}`")))?;
        let encoded = described.schema.encode_json(fields);
        let encoded = encoded.map_err(|error| unknown(format!("`{command}`: {error}")))?;
        let (requests, limit) = (&engine.shared.requests, engine.max_command_bytes);
        let (submission, pending) =
            untyped_submission(engine.process, requests, *entry, &encoded, metadata, limit)?;
        match engine.queue.send(submission) {
            Ok(()) => Ok(pending),
            Err(_) => Err(self.refused()),
        }
    }
}

/// Finds a command by its name. Of several with that name, it is the one that is journaled today.
fn entry_named<M: Model>(name: &str) -> Option<&'static Entry<M>> {
    let entries = M::entries().iter();
    let mut called = entries.filter(|entry| entry.is_called(name));
    let first = called.next()?;
    let is_current = |entry: &&'static Entry<M>| entry.stored() == entry.applied();
    Some(std::iter::once(first).chain(called).find(is_current).unwrap_or(first))
}

impl ImportReport {
    fn answer(&mut self, line: u64, submitted: Submitted) -> Result<(), Error> {
        match submitted.wait() {
            Ok(_) => {
                self.accepted += 1;
                Ok(())
            }
            Err(error) => self.note(line, error),
        }
    }

    /// Notes why a command was not accepted. Fails if none will be.
    fn note(&mut self, line: u64, error: ExecuteError<Refused>) -> Result<(), Error> {
        match error {
            ExecuteError::Duplicate { .. } => self.duplicates += 1,
            ExecuteError::Poisoned(poisoned) => return Err(Error::Poisoned(poisoned)),
            ExecuteError::Stopped => return Err(Error::Stopped),
            ExecuteError::Forked => return Err(Error::Forked),
            ExecuteError::Reentrant => return Err(Error::Reentrant),
            refused => {
                self.refused += 1;
                if self.refused_lines.len() < Self::MAX_REFUSED_LINES {
                    let reason = refused.to_string();
                    self.refused_lines.push(RefusedLine { line, reason });
                }
            }
        }
        Ok(())
    }
}
