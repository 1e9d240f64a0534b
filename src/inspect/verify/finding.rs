//! Owns what a verification tells of one damage. Knows nothing of how it was found.

use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// The most findings that are kept. The others are counted.
const MOST_FINDINGS: usize = 4096;

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Severity {
    /// Nothing is lost. For example, a crash has left a half-written batch that nobody was told to
    /// be accepted.
    Note,
    /// Bytes are not what was written, or a file is missing.
    Damage,
}

/// Something that is wrong in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// How serious it is.
    pub severity: Severity,
    /// The file.
    pub path: PathBuf,
    /// Where the damaged bytes are in the file. It is empty if the file is missing, and where it
    /// ends if it is cut. If a checksum covers the bytes, any of them may be the wrong one.
    pub bytes: Range<u64>,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub found: String,
    /// The sequences of the commands that cannot be read because of it.
    pub sequences: Option<RangeInclusive<u64>>,
    /// What it means: what is lost, and what still works.
    pub meaning: String,
    /// What to do.
    pub advice: String,
}

impl Finding {
    pub(super) fn new(path: &Path, bytes: Range<u64>, expected: &str, found: &str) -> Self {
        Self {
            severity: Severity::Damage,
            path: path.to_path_buf(),
            bytes,
            expected: expected.to_owned(),
            found: found.to_owned(),
            sequences: None,
            meaning: String::new(),
            advice: String::new(),
        }
    }

    /// Makes a finding of an error. It is about `path`, unless the error names another file.
    /// `region` returns the damaged bytes of a file from the position that the error names.
    pub(super) fn of(
        error: &Error,
        path: &Path,
        region: impl Fn(&Path, u64) -> Range<u64>,
    ) -> Self {
        match error {
            Error::Corrupt { path, position, expected, found } => {
                Self::new(path, region(path, *position), expected, found)
            }
            Error::Missing { path, reason } => Self::new(path, 0..0, reason, "no file"),
            Error::ForeignFile { path, expected, found } => {
                let expected = format!("database id {expected}");
                Self::new(path, 16..32, &expected, &found.to_string())
            }
            Error::UnsupportedFormat { path, found, supported } => {
                let expected = format!("format version {supported}");
                Self::new(path, 8..12, &expected, &found.to_string())
            }
            Error::UnsupportedCodec { path, found, supported } => {
                Self::new(path, 32..36, &format!("codec {supported}"), &found.to_string())
            }
            Error::Undecodable { path, reason } => {
                Self::new(path, region(path, 0), "content that can be unpacked", reason)
            }
            Error::Io { action, path, source } => {
                let found = format!("cannot {action} it: {source}");
                Self::new(path, region(path, 0), "a file that can be read", &found)
            }
            other => Self::new(path, 0..0, "files that go together", &other.to_string()),
        }
    }

    pub(super) fn noted(self) -> Self {
        Self { severity: Severity::Note, ..self }
    }

    /// Sets the sequences that are lost; none if the first is behind the last.
    pub(super) fn losing(self, first: u64, last: u64) -> Self {
        Self { sequences: (first <= last).then_some(first..=last), ..self }
    }

    pub(super) fn meaning(self, meaning: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { meaning: meaning.into(), advice: advice.into(), ..self }
    }
}

/// Says which commands cannot be read; nothing if the first sequence is behind the last.
pub(super) fn told_lost(first: u64, last: u64) -> Option<String> {
    match first.cmp(&last) {
        std::cmp::Ordering::Less => {
            Some(format!("The commands with sequences {first} to {last} cannot be read."))
        }
        std::cmp::Ordering::Equal => {
            Some(format!("The command with sequence {first} cannot be read."))
        }
        std::cmp::Ordering::Greater => None,
    }
}

/// The findings so far.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) list: Vec<Finding>,
    /// How many more there were.
    pub(super) more: u64,
}

impl Findings {
    pub(super) fn push(&mut self, finding: Finding) {
        if self.list.len() < MOST_FINDINGS {
            self.list.push(finding);
        } else {
            self.more += 1;
        }
    }

    /// Returns how many there were so far.
    pub(super) fn count(&self) -> u64 {
        u64::try_from(self.list.len()).unwrap_or(u64::MAX).saturating_add(self.more)
    }

    pub(super) fn has_damage(&self) -> bool {
        self.more > 0 || self.list.iter().any(|it| it.severity == Severity::Damage)
    }
}
