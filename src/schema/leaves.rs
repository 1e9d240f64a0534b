//! Owns how simple values are read from an encoding, and what they are as JSON. Knows nothing of the
//! types around them.

use std::io::{self, BufRead, Read, Write};

use super::json::{JsonError, Writing, unfit};
use super::types::Leaf;

/// So many values of no bytes may come with each byte.
const IDLE_PER_BYTE: u64 = 64;

/// So much of a text is in memory at once.
const PIECE_BYTES: u64 = 64 << 10;

impl<R: BufRead, W: Write> Writing<'_, '_, R, W> {
    pub(super) fn leaf(&mut self, leaf: Leaf, is_key: bool) -> Result<(), JsonError> {
        let quote: &[u8] = match leaf {
            Leaf::Char | Leaf::String | Leaf::Bytes | Leaf::Unit => b"",
            _ if is_key => b"\"",
            _ => b"",
        };
        self.put(quote)?;
        match leaf {
            Leaf::Unit => self.put(b"null"),
            Leaf::Bool => match self.byte()? {
                0 => self.put(b"false"),
                1 => self.put(b"true"),
                other => Err(unfit(format!("a bool is {other}"))),
            },
            Leaf::U8 => self.byte().and_then(|byte| self.number(byte)),
            Leaf::I8 => self.byte().and_then(|byte| self.number(byte.cast_signed())),
            Leaf::U16 => self.unsigned(u16::MAX.into()),
            Leaf::U32 => self.unsigned(u32::MAX.into()),
            Leaf::U64 => self.unsigned(u64::MAX.into()),
            Leaf::U128 => self.unsigned(u128::MAX),
            Leaf::I16 => self.signed(u16::MAX.into()),
            Leaf::I32 => self.signed(u32::MAX.into()),
            Leaf::I64 => self.signed(u64::MAX.into()),
            Leaf::I128 => self.signed(u128::MAX),
            Leaf::F32 => {
                let number = f32::from_le_bytes(self.array()?);
                self.float(number.into(), is_key, |writer| serde_json::to_writer(writer, &number))
            }
            Leaf::F64 => {
                let number = f64::from_le_bytes(self.array()?);
                self.float(number, is_key, |writer| serde_json::to_writer(writer, &number))
            }
            Leaf::Char => self.char(),
            Leaf::String => self.long_text(),
            Leaf::Bytes => {
                let length = self.length()?;
                self.put(b"[")?;
                for at in 0..length {
                    self.separator(at)?;
                    let byte = self.byte()?;
                    self.number(byte)?;
                }
                self.put(b"]")
            }
        }?;
        self.put(quote)
    }

    fn float(
        &mut self,
        number: f64,
        is_key: bool,
        write: impl FnOnce(&mut W) -> serde_json::Result<()>,
    ) -> Result<(), JsonError> {
        if self.is_silent {
            return Ok(());
        }
        if number.is_finite() {
            return write(self.writer).map_err(|error| JsonError::Io(error.into()));
        }
        let quote = if is_key { "" } else { "\"" };
        let name = match number {
            _ if number.is_nan() => "NaN",
            _ if number > 0.0 => "Infinity",
            _ => "-Infinity",
        };
        Ok(write!(self.writer, "{quote}{name}{quote}")?)
    }

    fn number(&mut self, number: impl std::fmt::Display) -> Result<(), JsonError> {
        match self.is_silent {
            true => Ok(()),
            false => Ok(write!(self.writer, "{number}")?),
        }
    }

    fn unsigned(&mut self, most: u128) -> Result<(), JsonError> {
        let number = self.varint(most)?;
        self.number(number)
    }

    fn signed(&mut self, most: u128) -> Result<(), JsonError> {
        let zigzag = self.varint(most)?;
        let half = (zigzag >> 1).cast_signed();
        self.number(if zigzag & 1 == 0 { half } else { !half })
    }

    /// Reads a number of the codec; see `docs::format`.
    fn varint(&mut self, most: u128) -> Result<u128, JsonError> {
        let number = match self.byte()? {
            251 => u16::from_le_bytes(self.array()?).into(),
            252 => u32::from_le_bytes(self.array()?).into(),
            253 => u64::from_le_bytes(self.array()?).into(),
            254 => u128::from_le_bytes(self.array()?),
            255 => return Err(unfit("no number begins with ff")),
            small => small.into(),
        };
        match number <= most {
            true => Ok(number),
            false => Err(unfit(format!("the number {number} is too large for its type"))),
        }
    }

    pub(super) fn length(&mut self) -> Result<u64, JsonError> {
        let number = self.varint(u64::MAX.into())?;
        Ok(u64::try_from(number).unwrap_or(u64::MAX))
    }

    pub(super) fn byte(&mut self) -> Result<u8, JsonError> {
        self.array().map(|[byte]| byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], JsonError> {
        let mut bytes = [0; N];
        let read = u64::try_from(N).unwrap_or(u64::MAX);
        self.idle = self.idle.saturating_sub(read.saturating_mul(IDLE_PER_BYTE));
        match self.reader.read_exact(&mut bytes) {
            Ok(()) => Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(unfit("they end too early"))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn char(&mut self) -> Result<(), JsonError> {
        let first = self.byte()?;
        let length = match first {
            0..0x80 => 1,
            0x80..0xE0 => 2,
            0xE0..0xF0 => 3,
            0xF0.. => 4,
        };
        let mut bytes = vec![first];
        for _ in 1..length {
            bytes.push(self.byte()?);
        }
        match std::str::from_utf8(&bytes) {
            Ok(text) => self.text(text),
            Err(_) => Err(unfit("a char is no UTF-8")),
        }
    }

    /// Writes a text piece by piece.
    fn long_text(&mut self) -> Result<(), JsonError> {
        let mut left = self.length()?;
        let mut piece = Vec::new();
        self.put(b"\"")?;
        while left > 0 || !piece.is_empty() {
            let wanted = left.min(PIECE_BYTES);
            let taken = self.reader.by_ref().take(wanted).read_to_end(&mut piece)?;
            if u64::try_from(taken).unwrap_or(u64::MAX) < wanted {
                return Err(unfit("they end in a text"));
            }
            left -= wanted;
            // A character may be cut at the end of a piece.
            let whole = match std::str::from_utf8(&piece) {
                Ok(text) => text.len(),
                Err(error) if error.error_len().is_none() && left > 0 => error.valid_up_to(),
                Err(_) => return Err(unfit("a text is no UTF-8")),
            };
            let rest = piece.split_off(whole);
            let text = std::str::from_utf8(&piece).unwrap_or_default();
            let quoted = serde_json::to_string(text).map_err(|error| unfit(error.to_string()))?;
            let inner = quoted.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
            self.put(inner.unwrap_or_default().as_bytes())?;
            piece = rest;
        }
        self.put(b"\"")
    }
}
