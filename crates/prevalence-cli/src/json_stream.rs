//! Owns reading a JSON text piece by piece, however long it is. The text is one that the library
//! wrote: compact, and well-formed as far as it goes. Knows nothing of what it says.

use std::io::{self, Read, Write};

/// How much is read at once.
const WINDOW_BYTES: usize = 64 << 10;

/// A JSON text at some place of it.
pub struct JsonStream {
    reader: Box<dyn Read + Send>,
    window: Vec<u8>,
    /// The place of the next byte in the window.
    at: usize,
}

impl JsonStream {
    pub fn new(reader: impl Read + Send + 'static) -> Self {
        Self { reader: Box::new(reader), window: Vec::new(), at: 0 }
    }

    /// Makes one of a text in memory.
    pub fn of(text: Vec<u8>) -> Self {
        Self { window: text, ..Self::new(io::empty()) }
    }

    /// Returns the next byte; `None` at the end of the text.
    pub fn peek(&mut self) -> io::Result<Option<u8>> {
        if self.at >= self.window.len() {
            self.window.resize(WINDOW_BYTES, 0);
            self.at = 0;
            let read = self.reader.read(&mut self.window);
            self.window.truncate(read.as_ref().map_or(0, |read| *read));
            read?;
        }
        Ok(self.window.get(self.at).copied())
    }

    /// Returns the next byte, which must be there.
    pub fn expect(&mut self) -> io::Result<u8> {
        self.peek()?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn take(&mut self) -> io::Result<u8> {
        let byte = self.expect()?;
        self.at += 1;
        Ok(byte)
    }

    /// Goes behind the bracket with which an object or an array begins.
    pub fn begin(&mut self) -> io::Result<()> {
        self.take().map(drop)
    }

    /// Goes to the next element of an array, or behind its end. Returns whether there is one.
    pub fn element(&mut self) -> io::Result<bool> {
        match self.expect()? {
            b']' | b'}' => {
                self.take()?;
                Ok(false)
            }
            b',' => {
                self.take()?;
                Ok(true)
            }
            _ => Ok(true),
        }
    }

    /// Goes to the value of the next entry of an object, or behind the object's end. Returns the
    /// key, unescaped; `None` at the end.
    pub fn key(&mut self) -> io::Result<Option<String>> {
        if !self.element()? {
            return Ok(None);
        }
        let mut key = Vec::new();
        self.copy(&mut key)?;
        match self.take()? {
            b':' => Ok(Some(serde_json::from_slice(&key)?)),
            other => Err(io::Error::other(format!("a key is followed by byte {other}"))),
        }
    }

    /// Copies the next value.
    pub fn copy(&mut self, target: &mut dyn Write) -> io::Result<()> {
        let (mut level, mut in_text, mut is_escaped) = (0_u64, false, false);
        loop {
            let begins = self.expect()?;
            let is_bare = !in_text && level == 0 && !matches!(begins, b'"' | b'{' | b'[');
            if is_bare {
                return self.copy_bare(target);
            }
            let rest = self.window.get(self.at..).unwrap_or_default();
            let mut taken = 0;
            let mut is_whole = false;
            for byte in rest {
                taken += 1;
                if in_text {
                    match byte {
                        _ if is_escaped => is_escaped = false,
                        b'\\' => is_escaped = true,
                        b'"' => in_text = false,
                        _ => {}
                    }
                } else {
                    match byte {
                        b'"' => in_text = true,
                        b'{' | b'[' => level += 1,
                        b'}' | b']' => level = level.saturating_sub(1),
                        _ => {}
                    }
                }
                if level == 0 && !in_text {
                    is_whole = true;
                    break;
                }
            }
            target.write_all(rest.get(..taken).unwrap_or_default())?;
            self.at += taken;
            if is_whole {
                return Ok(());
            }
        }
    }

    /// Copies a number, a truth or `null`, which end before a comma, a bracket or the end.
    fn copy_bare(&mut self, target: &mut dyn Write) -> io::Result<()> {
        while let Some(byte) = self.peek()?
            && !matches!(byte, b',' | b'}' | b']' | b':')
        {
            target.write_all(&[byte])?;
            self.at += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte after the other, so that everything is cut everywhere.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
            let most = target.len().min(1);
            self.0.read(&mut target[..most])
        }
    }

    #[test]
    fn values_are_copied_one_by_one() {
        let text = r#"{"a\"]":[1,-2.5,{"x":"}\\"}],"":null,"é\n":{},"t":true,"s":"a,b"}"#;
        let mut stream = JsonStream::new(Slow(text.as_bytes()));
        stream.begin().unwrap();
        let mut found = Vec::new();
        while let Some(key) = stream.key().unwrap() {
            let mut value = Vec::new();
            stream.copy(&mut value).unwrap();
            found.push((key, String::from_utf8(value).unwrap()));
        }
        let expected = [
            ("a\"]", r#"[1,-2.5,{"x":"}\\"}]"#),
            ("", "null"),
            ("é\n", "{}"),
            ("t", "true"),
            ("s", r#""a,b""#),
        ];
        assert_eq!(found, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert_eq!(stream.peek().unwrap(), None);
        for end in 0..text.len() {
            let mut cut = JsonStream::of(text.as_bytes()[..end].to_vec());
            assert!(cut.copy(&mut io::sink()).is_err(), "{end}");
        }
    }
}
