//! Owns how a difference is told. Knows nothing of how it was found.

use std::io::{self, Write};

use crate::json_stream::JsonStream;
use crate::output::word;

/// What differs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Added,
    Removed,
    Changed,
}

/// Writes differences, one after the other, with values of any length.
pub struct Report<W> {
    out: W,
    is_json: bool,
    /// The way to the values that are compared now.
    pub path: Vec<String>,
    differences: u64,
}

impl<W: Write> Report<W> {
    pub fn new(out: W, is_json: bool, path: Vec<String>) -> Self {
        Self { out, is_json, path, differences: 0 }
    }

    /// Tells of a difference at the present place. What is there before and after is copied.
    pub fn tell(
        &mut self,
        kind: Kind,
        before: Option<&mut JsonStream>,
        after: Option<&mut JsonStream>,
    ) -> io::Result<()> {
        self.differences += 1;
        if self.is_json {
            let kind = match kind {
                Kind::Added => "added",
                Kind::Removed => "removed",
                Kind::Changed => "changed",
            };
            let path = serde_json::to_string(&self.path)?;
            write!(self.out, "{{\"path\":{path},\"kind\":\"{kind}\"")?;
            for (name, value) in [("before", before), ("after", after)] {
                let Some(value) = value else { continue };
                write!(self.out, ",\"{name}\":")?;
                value.copy(&mut self.out)?;
            }
            return writeln!(self.out, "}}");
        }
        let path = match self.path.is_empty() {
            true => ".".to_owned(),
            false => self.path.iter().map(|step| word(step)).collect::<Vec<_>>().join("."),
        };
        for (sign, value) in [('-', before), ('+', after)] {
            let Some(value) = value else { continue };
            write!(self.out, "{sign} {path}: ")?;
            value.copy(&mut self.out)?;
            writeln!(self.out)?;
        }
        Ok(())
    }

    /// Returns how many differences there are.
    pub fn end(mut self) -> io::Result<u64> {
        self.out.flush()?;
        Ok(self.differences)
    }
}
