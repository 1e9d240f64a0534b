//! Owns what is told of an import: the sums of all answers, and how it ended. Lines have their
//! numbers in the file. Knows nothing of services.

use std::io::{self, Write};

use prevalence::ImportReport;
use serde_json::{Value, json};

use crate::arguments::Import;
use crate::output::{count, json as write_json, plain};

/// So much is kept of the reason why a line was refused.
const REASON_CHARS: usize = 1000;

/// What has become of the lines so far.
pub struct Summary {
    /// The first line that was sent.
    first: u64,
    /// The sums.
    report: ImportReport,
    /// Lines that were executed without an answer that says what became of them.
    unreported: u64,
}

/// How an import ended before the end of its lines.
#[derive(Debug)]
pub struct Early {
    /// What has ended it.
    pub reason: String,
    /// What to do before it goes on.
    pub advice: &'static str,
    /// Lines of which nobody knows whether they were executed.
    pub unknown: Option<Unknown>,
}

#[derive(Clone, Copy, Debug)]
pub struct Unknown {
    pub first: u64,
    pub last: u64,
    pub without_request_id: u64,
}

impl Summary {
    pub fn new(first: u64) -> Self {
        Self { first, report: ImportReport::default(), unreported: 0 }
    }

    /// The first line that is not answered.
    pub fn next(&self) -> u64 {
        self.first.saturating_add(self.report.lines)
    }

    pub fn has_refused(&self) -> bool {
        self.report.refused > 0
    }

    /// Adds what became of the next lines.
    pub fn add(&mut self, answer: ImportReport) {
        let before = self.next() - 1;
        let sum = &mut self.report;
        sum.lines += answer.lines;
        sum.accepted += answer.accepted;
        sum.duplicates += answer.duplicates;
        sum.redacted += answer.redacted;
        sum.refused += answer.refused;
        let mut refused_lines = answer.refused_lines;
        refused_lines.sort_by_key(|it| it.line);
        for mut refused in refused_lines {
            if sum.refused_lines.len() >= ImportReport::MAX_REFUSED_LINES {
                break;
            }
            refused.line += before;
            if let Some((end, _)) = refused.reason.char_indices().nth(REASON_CHARS) {
                refused.reason.truncate(end);
                refused.reason.push('…');
            }
            sum.refused_lines.push(refused);
        }
    }

    /// Adds lines that were executed, and of which no more is known.
    pub fn add_unreported(&mut self, lines: u64) {
        self.report.lines += lines;
        self.unreported += lines;
    }

    pub fn print(
        &self,
        wanted: &Import,
        early: Option<&Early>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        match wanted.json {
            true => write_json(out, &self.as_json(wanted, early)),
            false => self.as_text(out),
        }
    }

    fn as_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let sum = &self.report;
        let lines = count(sum.lines, "line", "lines");
        match sum.lines {
            0 => writeln!(out, "{lines} answered")?,
            _ => writeln!(out, "{lines} answered: {} to {}", self.first, self.next() - 1)?,
        }
        writeln!(out, "  accepted    {}", sum.accepted)?;
        writeln!(out, "  duplicates  {}", sum.duplicates)?;
        writeln!(out, "  redacted    {}", sum.redacted)?;
        writeln!(out, "  refused     {}", sum.refused)?;
        if self.unreported > 0 {
            writeln!(
                out,
                "  executed, without a word of what became of them: {}",
                self.unreported
            )?;
        }
        for refused in &sum.refused_lines {
            writeln!(out, "    line {}: {}", refused.line, plain(&refused.reason))?;
        }
        let told = u64::try_from(sum.refused_lines.len()).unwrap_or(u64::MAX);
        if told < sum.refused {
            writeln!(out, "    and {} more", sum.refused - told)?;
        }
        Ok(())
    }

    fn as_json(&self, wanted: &Import, early: Option<&Early>) -> Value {
        let sum = &self.report;
        let unknown = early.and_then(|early| early.unknown).map(|unknown| {
            json!({
                "first": unknown.first,
                "last": unknown.last,
                "without_request_id": unknown.without_request_id,
            })
        });
        json!({
            "file": wanted.file.display().to_string(),
            "url": wanted.url.to_string(),
            "first_line": self.first,
            "lines": sum.lines,
            "accepted": sum.accepted,
            "duplicates": sum.duplicates,
            "redacted": sum.redacted,
            "refused": sum.refused,
            "refused_lines": sum.refused_lines,
            "unreported": self.unreported,
            "next_line": early.map(|_| self.next()),
            "unknown": unknown,
            "error": early.map(|early| early.reason.as_str()),
        })
    }
}

impl Early {
    /// Says why it ended, what is known, and how to go on.
    pub fn told(&self, summary: &Summary) -> String {
        let next = summary.next();
        let answered = match next - summary.first {
            0 => "No line is answered".to_owned(),
            _ => format!("The lines up to {} are answered", next - 1),
        };
        let mut told = format!("{}. {answered}", self.reason);
        match self.unknown {
            None => told += ", and none behind them was executed",
            Some(unknown) => {
                let (first, last) = (unknown.first, unknown.last);
                told +=
                    &format!(". Nobody knows which of the lines {first} to {last} were executed");
            }
        }
        told += &format!(". {}go on with --from-line {next}. ", self.advice);
        told += match self.unknown {
            Some(Unknown { without_request_id: 1.., .. }) => {
                "But some of these lines have no request id, and would be executed twice: look \
                 first into the service's database for the last one that was executed, with \
                 `prevalence log`, and go on behind it"
            }
            _ => {
                "Lines with a request id may also be repeated: a service that remembers it does \
                 not execute them again"
            }
        };
        told
    }
}
