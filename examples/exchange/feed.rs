//! The source of the messages: a file in LOBSTER's format, or the generator.
//!
//! A file is read line by line and never held in memory. Line n is message n. Every problem in it
//! is an error that names the file and the line.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use crate::book::{Order, Side};
use crate::generator::Generator;

/// The longest line in bytes. Messages are much shorter. The limit keeps a file without line ends
/// from filling the memory.
const MAX_LINE: usize = 256;

/// One message of the order flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its place in the feed, counted from 1.
    pub number: u64,
    /// Its time in nanoseconds since midnight.
    pub time: u64,
    pub action: Action,
}

/// The action that a message asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Submit { id: u64, order: Order },
    Reduce { id: u64, shares: u64 },
    Delete { id: u64 },
    ExecuteVisible { id: u64, shares: u64 },
    ExecuteHidden { price: i64, shares: u64 },
}

/// A problem in the input, and its place.
#[derive(Debug)]
pub struct InputError {
    file: String,
    /// 0 if the problem concerns the whole file.
    line: u64,
    problem: String,
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.problem),
            line => write!(f, "{}, line {line}: {}", self.file, self.problem),
        }
    }
}

impl std::error::Error for InputError {}

/// A source of messages.
pub enum Feed {
    Generated(Generator),
    File(MessageFile),
}

impl Feed {
    /// Opens the file, or starts the generator if no file is given.
    pub fn open(messages: Option<&Path>) -> Result<Feed, InputError> {
        match messages {
            Some(path) => Ok(Feed::File(MessageFile::open(path)?)),
            None => Ok(Feed::Generated(Generator::default())),
        }
    }

    /// Returns the next message, or `None` at the end.
    pub fn next_message(&mut self) -> Result<Option<Message>, InputError> {
        match self {
            Feed::Generated(generator) => Ok(generator.next()),
            Feed::File(file) => file.next_message(),
        }
    }

    /// Returns how much was read and how much there is: messages of the generator, or bytes of a
    /// file.
    pub fn progress(&self) -> (u64, u64) {
        match self {
            Feed::Generated(generator) => generator.progress(),
            Feed::File(file) => (file.position, file.length),
        }
    }

    /// Returns the name of the source for a message to the user.
    pub fn name(&self) -> &str {
        match self {
            Feed::Generated(_) => "the generated stream",
            Feed::File(file) => &file.name,
        }
    }
}

/// A file of messages, open for reading.
pub struct MessageFile {
    name: String,
    reader: BufReader<File>,
    length: u64,
    position: u64,
    line: u64,
    buffer: Vec<u8>,
}

impl MessageFile {
    fn open(path: &Path) -> Result<MessageFile, InputError> {
        let name = path.display().to_string();
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (length, file) = opened.map_err(|error| InputError {
            file: name.clone(),
            line: 0,
            problem: format!("cannot be opened: {error}"),
        })?;
        let reader = BufReader::new(file);
        Ok(MessageFile { name, reader, length, position: 0, line: 0, buffer: Vec::new() })
    }

    fn next_message(&mut self) -> Result<Option<Message>, InputError> {
        if !self.read_line()? {
            return Ok(None);
        }
        if self.buffer.is_empty() {
            return self.end_with_empty_lines();
        }
        let parsed = match std::str::from_utf8(&self.buffer) {
            Ok(text) => parse(text),
            Err(_) => Err("the line is not valid UTF-8".to_string()),
        };
        let (time, action) = parsed.map_err(|problem| self.error(problem))?;
        Ok(Some(Message { number: self.line, time, action }))
    }

    /// Checks that no message follows an empty line. Empty lines may only end a file.
    fn end_with_empty_lines(&mut self) -> Result<Option<Message>, InputError> {
        let at = self.line;
        while self.read_line()? {
            if !self.buffer.is_empty() {
                self.line = at;
                return Err(self.error("an empty line between messages".to_string()));
            }
        }
        Ok(None)
    }

    /// Reads one line into the buffer, without its line end. Returns `false` at the end of the
    /// file.
    fn read_line(&mut self) -> Result<bool, InputError> {
        self.line += 1;
        self.buffer.clear();
        let mut bounded = self.reader.by_ref().take(MAX_LINE as u64 + 1);
        let read = match bounded.read_until(b'\n', &mut self.buffer) {
            Ok(read) => read,
            Err(error) => return Err(self.error(format!("cannot be read: {error}"))),
        };
        if read > MAX_LINE {
            return Err(self.error(format!("the line is longer than {MAX_LINE} bytes")));
        }
        self.position += read as u64;
        for end in [b'\n', b'\r'] {
            if self.buffer.last() == Some(&end) {
                self.buffer.pop();
            }
        }
        Ok(read > 0)
    }

    fn error(&self, problem: String) -> InputError {
        InputError { file: self.name.clone(), line: self.line, problem }
    }
}

/// Parses `time,type,order id,size,price,direction`.
fn parse(line: &str) -> Result<(u64, Action), String> {
    let mut fields = line.split(',');
    let mut field = |what: &str| fields.next().ok_or_else(|| format!("the {what} is missing"));
    let time = time(field("time")?)?;
    let kind = field("type")?;
    let id = number("order id", field("order id")?)?;
    let shares = number("size", field("size")?)?;
    let price = number("price", field("price")?)?;
    let side = match field("direction")? {
        "1" => Side::Buy,
        "-1" => Side::Sell,
        other => {
            return Err(format!("the direction {other:?} is neither 1 (buy) nor -1 (sell)"));
        }
    };
    if fields.next().is_some() {
        return Err("there are more than six fields".to_string());
    }
    let action = match kind {
        "1" => Action::Submit { id, order: Order { side, price, remaining: shares } },
        "2" => Action::Reduce { id, shares },
        "3" => Action::Delete { id },
        "4" => Action::ExecuteVisible { id, shares },
        "5" => Action::ExecuteHidden { price, shares },
        other => return Err(format!("the type {other:?} is not one of 1 to 5")),
    };
    Ok((time, action))
}

fn number<T: std::str::FromStr<Err: fmt::Display>>(what: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("the {what} {text:?} is not a valid number: {error}"))
}

/// Parses seconds with decimals into nanoseconds. Drops decimals after the ninth, which the real
/// file has in one place.
fn time(text: &str) -> Result<u64, String> {
    let (seconds, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let nanos = || {
        let first_nine: String = decimals.chars().chain("000000000".chars()).take(9).collect();
        let seconds = seconds.parse::<u64>().ok()?.checked_mul(1_000_000_000)?;
        seconds.checked_add(first_nine.parse().ok()?)
    };
    if !digits(seconds) || !digits(decimals) {
        return Err(format!("the time {text:?} is not a number of seconds"));
    }
    nanos().ok_or_else(|| format!("the time {text:?} is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &[u8]) -> Result<Vec<Message>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let mut feed = Feed::open(Some(file.path())).unwrap();
        let mut messages = Vec::new();
        loop {
            match feed.next_message() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => return Ok(messages),
                Err(error) => {
                    let text = error.to_string();
                    return Err(text.replace(&file.path().display().to_string(), "FILE"));
                }
            }
        }
    }

    #[test]
    fn each_kind_of_message_is_understood() {
        let messages = read(
            b"34200.004241176,1,7,18,5853300,1\n34200.5,2,7,3,5853300,1\n34201,4,7,5,5853300,1\n\
              34202.25,3,7,10,5853300,1\n35821.088778456004,5,0,100,5851500,-1\n",
        )
        .unwrap();
        let order = Order { side: Side::Buy, price: 5_853_300, remaining: 18 };
        let expected = [
            (34_200_004_241_176, Action::Submit { id: 7, order }),
            (34_200_500_000_000, Action::Reduce { id: 7, shares: 3 }),
            (34_201_000_000_000, Action::ExecuteVisible { id: 7, shares: 5 }),
            (34_202_250_000_000, Action::Delete { id: 7 }),
            (35_821_088_778_456, Action::ExecuteHidden { price: 5_851_500, shares: 100 }),
        ];
        let found: Vec<_> = messages.into_iter().map(|m| (m.time, m.action)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn line_ends_of_every_style_are_tolerated() {
        let count = |content: &[u8]| read(content).map(|messages| messages.len());
        assert_eq!(count(b""), Ok(0));
        assert_eq!(count(b"\n"), Ok(0));
        assert_eq!(count(b"1.5,3,7,1,1,1"), Ok(1));
        assert_eq!(count(b"1.5,3,7,1,1,1\r"), Ok(1));
        assert_eq!(count(b"1.5,3,7,1,1,1\n2.5,3,8,1,1,1\n\n"), Ok(2));
        assert_eq!(count(b"1.5,3,7,1,1,1\r\n2.5,3,8,1,1,1\r\n\r\n"), Ok(2));
    }

    #[test]
    fn bad_lines_are_named() {
        let long = format!("1.5,3,{},1,1,1\n", "7".repeat(MAX_LINE));
        for (content, expected) in [
            ("1.5,3,7,1,1\n", "FILE, line 1: the direction is missing"),
            ("1.5,3,7,1,1,1\n1.5,9,7,1,1,1\n", "FILE, line 2: the type \"9\" is not one of 1 to 5"),
            ("1.5,3,7,1,1,1\n\n1.5,3,7,1,1,1", "FILE, line 2: an empty line between messages"),
            ("1.5,3,7,1,1,2", "FILE, line 1: the direction \"2\" is neither"),
            ("1.5,3,7,1,1,1,", "FILE, line 1: there are more than six fields"),
            ("1.5,3,7,-1,1,1", "FILE, line 1: the size \"-1\" is not a valid number"),
            ("1.5,3,x,1,1,1", "FILE, line 1: the order id \"x\" is not a valid number"),
            ("1.5,3,7,1,1e5,1", "FILE, line 1: the price \"1e5\" is not a valid number"),
            ("1.,3,7,1,1,1", "FILE, line 1: the time \"1.\" is not a number of seconds"),
            ("99999999999,3,7,1,1,1", "FILE, line 1: the time \"99999999999\" is too large"),
            (&long, "FILE, line 1: the line is longer than 256 bytes"),
        ] {
            let error = read(content.as_bytes()).unwrap_err();
            assert!(error.starts_with(expected), "{error:?} for {content:?}");
        }
        assert_eq!(
            read(b"1.5,3,7,1,1,\xff\n").unwrap_err(),
            "FILE, line 1: the line is not valid UTF-8"
        );
    }
}
