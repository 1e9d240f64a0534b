//! Owns the command `import`: it sends lines to a service, one request after the other, and sums up
//! the answers. Knows nothing of the program's types, and opens no database.
//!
//! - `source`: where the lines come from
//! - `lines`: which of them go into one request, and their numbers
//! - `service`: one request and its answer, over HTTP
//! - `answer`: what an answer says
//! - `summary`: what the user is told
//! - `interrupt`: how the user ends it

mod answer;
mod interrupt;
mod lines;
pub mod service;
mod source;
mod summary;

use std::io::{BufRead, Write};

use crate::arguments::Import;
use crate::failure::{FINE, FOUND, Failure};
use crate::progress::watched;
use answer::Answer;
use interrupt::Interrupt;
use lines::{Batch, Limits, Lines};
use service::Service;
use source::Source;
use summary::{Early, Summary, Unknown};

/// Runs the command.
pub fn run(wanted: &Import, out: &mut dyn Write) -> Result<u8, Failure> {
    let source = Source::open(&wanted.file)?;
    let name = source.name.clone();
    let mut lines = Lines::new(source.reader, Limits::REQUEST);
    let skipped_bytes = lines.skip_to(wanted.from_line).map_err(|error| {
        let line = wanted.from_line;
        Failure::Incomplete(format!("cannot read {name} up to line {line}: {error}"))
    })?;
    let Some(skipped_bytes) = skipped_bytes else {
        let line = wanted.from_line;
        return Err(Failure::Usage(format!("--from-line {line} is behind the end of {name}")));
    };
    let interrupt = Interrupt::watch().map_err(|error| {
        let reason = format!("cannot listen for Ctrl-C: {error}. Nothing was sent. Try again");
        Failure::Incomplete(reason)
    })?;
    let mut import = Importing {
        name,
        service: Service::new(&wanted.url, &wanted.header, wanted.timeout),
        summary: Summary::new(wanted.from_line),
        interrupt,
    };
    let early = watched(|bar| {
        let mut done_bytes = skipped_bytes;
        import.send_all(&mut lines, &mut |bytes| {
            done_bytes += bytes;
            bar(done_bytes, source.total_bytes);
        })
    });
    let summary = import.summary;
    summary.print(wanted, early.as_ref(), out)?;
    match early {
        Some(early) => {
            out.flush()?; // what was done comes before why it ended
            Err(Failure::Incomplete(early.told(&summary)))
        }
        None if summary.has_refused() => Ok(FOUND),
        None => Ok(FINE),
    }
}

/// An import on its way.
struct Importing<'a> {
    /// What the source of the lines is called.
    name: String,
    service: Service<'a>,
    summary: Summary,
    interrupt: Interrupt,
}

impl Importing<'_> {
    /// Sends all lines, and tells `done` how many bytes are answered. Returns why it ended early,
    /// if it did.
    fn send_all(
        &mut self,
        lines: &mut Lines<impl BufRead>,
        done: &mut dyn FnMut(u64),
    ) -> Option<Early> {
        loop {
            let batch = match lines.next_batch() {
                Ok(Some(batch)) => batch,
                Ok(None) => return None,
                Err(wrong) => {
                    let reason = format!("line {} of {} {}", wrong.line, self.name, wrong.reason);
                    return Some(Early { reason, advice: "Correct it, and ", unknown: None });
                }
            };
            if self.interrupt.is_wanted() {
                let reason = "interrupted".to_owned();
                return Some(Early { reason, advice: "To finish it, ", unknown: None });
            }
            if let Err(early) = self.send(&batch) {
                return Some(early);
            }
            done(u64::try_from(batch.bytes.len()).unwrap_or(u64::MAX));
        }
    }

    /// Sends the lines of one request. They are never sent again: if the answer is lost, the
    /// service may have executed them.
    fn send(&mut self, batch: &Batch) -> Result<(), Early> {
        let unanswered = match self.service.send(batch) {
            Ok(Answer::Done(report)) => {
                self.summary.add(report);
                return Ok(());
            }
            Ok(Answer::Wrong { line, reason, before }) => {
                match before {
                    Some(before) => self.summary.add(before),
                    None => self.summary.add_unreported(line - 1),
                }
                let (line, name) = (self.summary.next(), &self.name);
                let reason = format!("the service does not take line {line} of {name}: {reason}");
                return Err(Early { reason, advice: "Correct it, and ", unknown: None });
            }
            Err(unanswered) => unanswered,
        };
        let (first, last, name) = (batch.first, batch.last(), &self.name);
        let without_request_id = batch.without_request_id;
        let unknown = Unknown { first, last, without_request_id };
        let lines = match first == last {
            true => format!("line {first}"),
            false => format!("lines {first} to {last}"),
        };
        let reason = format!("{lines} of {name}: {}", unanswered.reason);
        Err(Early {
            reason,
            advice: "When the cause is gone, ",
            unknown: unanswered.is_unknown.then_some(unknown),
        })
    }
}
