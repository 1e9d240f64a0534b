//! Owns the way through the lines of an import: their numbers, and which of them go into one
//! request. Knows nothing of services.

use std::borrow::Cow;
use std::io::{self, BufRead, Read};

use prevalence::ImportReport;
use serde::Deserialize;

/// How much goes into one request. A longer line goes alone.
#[derive(Clone, Copy)]
pub struct Limits {
    /// The library keeps so many refused lines, so none of them is lost in an answer.
    pub lines: u64,
    /// Less than what web frameworks take by default.
    pub bytes: usize,
    /// The longest line, with its end.
    pub line_bytes: u64,
}

impl Limits {
    pub const REQUEST: Self =
        Self { lines: 1000, bytes: 1 << 20, line_bytes: ImportReport::MAX_LINE_BYTES };
}

/// The lines of one request.
#[derive(Debug, Default)]
pub struct Batch {
    /// The number of its first line in the file, counted from 1.
    pub first: u64,
    pub lines: u64,
    /// How many lines are not empty.
    pub commands: u64,
    /// How many commands would be executed again if they were sent again.
    pub without_request_id: u64,
    pub bytes: Vec<u8>,
}

impl Batch {
    /// The number of its last line in the file.
    pub fn last(&self) -> u64 {
        (self.first + self.lines).saturating_sub(1)
    }

    fn push(&mut self, line: &Checked) {
        self.lines += 1;
        self.commands += u64::from(line.is_command);
        self.without_request_id += u64::from(line.is_command && !line.may_be_repeated);
        self.bytes.extend_from_slice(&line.bytes);
    }
}

/// Why a line cannot be sent.
#[derive(Debug)]
pub struct WrongLine {
    pub line: u64,
    pub reason: String,
}

/// A line that may be sent.
struct Checked {
    bytes: Vec<u8>,
    is_command: bool,
    may_be_repeated: bool,
}

/// What of a line must be known here. The service reads the rest.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, rename = "command")]
    _command: Cow<'a, str>,
    #[serde(borrow, default)]
    request_id: Cow<'a, str>,
    #[serde(default)]
    is_redacted: bool,
}

/// The lines of a file, from some line on.
pub struct Lines<R> {
    reader: R,
    limits: Limits,
    /// The number of the line that is read next.
    next: u64,
    /// A line that was read, and did not fit into the batch before.
    held: Option<Checked>,
    /// A line that was read behind commands which are sent first.
    wrong: Option<WrongLine>,
}

impl<R: BufRead> Lines<R> {
    pub fn new(reader: R, limits: Limits) -> Self {
        Self { reader, limits, next: 1, held: None, wrong: None }
    }

    /// Goes to this line without a look at those before it. Returns how many bytes they have, or
    /// `None` if there are fewer lines.
    pub fn skip_to(&mut self, line: u64) -> io::Result<Option<u64>> {
        let mut skipped_bytes = 0;
        while self.next < line {
            match self.reader.skip_until(b'\n')? {
                0 => return Ok(None),
                bytes => skipped_bytes += u64::try_from(bytes).unwrap_or(u64::MAX),
            }
            self.next += 1;
        }
        Ok(Some(skipped_bytes))
    }

    /// Returns the lines of the next request; `None` at the end.
    pub fn next_batch(&mut self) -> Result<Option<Batch>, WrongLine> {
        if let Some(wrong) = self.wrong.take() {
            return Err(wrong);
        }
        let first = self.next - u64::from(self.held.is_some());
        let mut batch = Batch { first, ..Batch::default() };
        while batch.lines < self.limits.lines {
            let line = match self.held.take() {
                Some(line) => line,
                None => match self.read() {
                    Ok(Some(line)) => line,
                    Ok(None) => break,
                    Err(wrong) if batch.lines == 0 => return Err(wrong),
                    Err(wrong) => {
                        self.wrong = Some(wrong);
                        break;
                    }
                },
            };
            if batch.lines > 0 && batch.bytes.len() + line.bytes.len() > self.limits.bytes {
                self.held = Some(line);
                break;
            }
            batch.push(&line);
        }
        Ok((batch.lines > 0).then_some(batch))
    }

    /// Reads a line. Its number is the next one, also if it is wrong.
    fn read(&mut self) -> Result<Option<Checked>, WrongLine> {
        let line = self.next;
        let wrong = |reason: String| WrongLine { line, reason };
        let mut bytes = Vec::new();
        let most = self.limits.line_bytes;
        // One byte more tells a line of the greatest length from a longer one.
        let read = (&mut self.reader).take(most.saturating_add(1)).read_until(b'\n', &mut bytes);
        if read.map_err(|error| wrong(format!("cannot be read: {error}")))? == 0 {
            return Ok(None);
        }
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > most {
            return Err(wrong(format!("is longer than {most} bytes, which no import takes")));
        }
        let checked = check(bytes).map_err(|reason| wrong(format!("is no command: {reason}")))?;
        self.next += 1;
        Ok(Some(checked))
    }
}

fn check(bytes: Vec<u8>) -> Result<Checked, String> {
    if bytes.trim_ascii().is_empty() {
        return Ok(Checked { bytes, is_command: false, may_be_repeated: true });
    }
    let text = std::str::from_utf8(&bytes);
    let text = text.map_err(|error| format!("its byte {} is no UTF-8", error.valid_up_to() + 1))?;
    // Serde would also take an array of the fields.
    if !text.trim_start().starts_with('{') {
        return Err("it does not begin with {, as a JSON object does".to_owned());
    }
    let line: Line<'_> = serde_json::from_str(text).map_err(|error| told(&error))?;
    let may_be_repeated = line.is_redacted || !line.request_id.is_empty();
    Ok(Checked { bytes, is_command: true, may_be_repeated })
}

/// Returns what is wrong, and where in the line. The error's own text calls each line the first.
fn told(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    match text.strip_suffix(&place) {
        Some(reason) => format!("{reason} at its byte {}", error.column()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { lines: 3, bytes: 100, line_bytes: 200 };

    fn command(name: &str) -> String {
        format!("{{\"command\":\"{name}\",\"request_id\":\"{name}\"}}\n")
    }

    /// Returns the first line, the lines and the bytes of each batch, and how the text ends.
    fn batches(text: &[u8]) -> (Vec<(u64, u64, usize)>, Option<WrongLine>) {
        let (mut lines, mut found) = (Lines::new(text, LIMITS), Vec::new());
        loop {
            match lines.next_batch() {
                Ok(Some(batch)) => found.push((batch.first, batch.lines, batch.bytes.len())),
                Ok(None) => return (found, None),
                Err(wrong) => return (found, Some(wrong)),
            }
        }
    }

    #[test]
    fn a_request_has_bounded_lines_and_bytes_and_a_longer_line_goes_alone() {
        let short = command("a").repeat(4) + "\n" + &command("b");
        let bytes = command("a").len();
        let (found, wrong) = batches(short.as_bytes());
        assert_eq!(found, [(1, 3, 3 * bytes), (4, 3, 2 * bytes + 1)]);
        assert!(wrong.is_none());
        let long = command(&"l".repeat(70));
        let text = format!("{}{long}{}", command("a"), command("b"));
        let (found, wrong) = batches(text.as_bytes());
        assert_eq!(found, [(1, 1, bytes), (2, 1, long.len()), (3, 1, bytes)]);
        assert!(wrong.is_none());
        assert_eq!(batches(b"").0, []);
        assert_eq!(batches(b"\n \r\n").0, [(1, 2, 4)], "empty lines count");
    }

    #[test]
    fn a_wrong_line_is_told_with_its_number_behind_those_before_it() {
        let longest = |bytes: usize| {
            let around = command("").len();
            command(&"x".repeat((bytes - around) / 2))
        };
        let fits = longest(200);
        assert!([199, 200].contains(&fits.len()), "{}", fits.len());
        assert!(batches(fits.as_bytes()).1.is_none());
        let too_long = longest(202);
        let cut = b"{\"command\":\"a";
        for (wrong, part) in [
            (too_long.as_bytes(), "is longer than 200 bytes"),
            (b"[]\n", "is no command: it does not begin with {"),
            (b"{\"command\":\"a\xff\"}\n", "is no command: its byte 14 is no UTF-8"),
            (b"{\"command\":7}\n", "expected a string at its byte 12"),
            (b"{\"command\":\"a\"} x\n", "is no command: trailing characters at its byte 17"),
            (cut, "is no command: EOF while parsing a string at its byte 13"),
        ] {
            let text = [command("a").repeat(4).as_bytes(), wrong].concat();
            let (found, told) = batches(&text);
            assert_eq!(found.iter().map(|it| it.1).collect::<Vec<_>>(), [3, 1], "{part}");
            let told = told.unwrap();
            assert!(told.line == 5 && told.reason.contains(part), "{told:?} has no {part}");
        }
    }

    #[test]
    fn an_import_may_begin_behind_lines_that_are_not_looked_at() {
        let text = format!("no command\n\n{}{}", command("a"), command("b"));
        let mut lines = Lines::new(text.as_bytes(), LIMITS);
        assert_eq!(lines.skip_to(3).unwrap(), Some(12));
        let batch = lines.next_batch().unwrap().unwrap();
        assert_eq!((batch.first, batch.last(), batch.without_request_id), (3, 4, 0));
        assert!(lines.next_batch().unwrap().is_none());
        assert!(Lines::new(text.as_bytes(), LIMITS).skip_to(5).unwrap().is_some());
        assert!(Lines::new(text.as_bytes(), LIMITS).skip_to(6).unwrap().is_none());
    }

    #[test]
    fn it_is_known_how_many_commands_may_not_be_repeated() {
        let text = format!(
            "{}{{\"command\":\"b\"}}\n{{\"command\":\"c\",\"request_id\":\"\"}}\n",
            command("a")
        );
        let batch = Lines::new(text.as_bytes(), LIMITS).next_batch().unwrap().unwrap();
        assert_eq!((batch.commands, batch.without_request_id), (3, 2));
        let erased = b"{\"command\":\"(redacted)\",\"request_id\":\"\",\"is_redacted\":true}\n\n";
        let batch = Lines::new(&erased[..], LIMITS).next_batch().unwrap().unwrap();
        assert_eq!((batch.lines, batch.commands, batch.without_request_id), (2, 1, 0));
    }
}
