//! Owns the comparison of two JSON texts while they are read. Elements of arrays are compared by
//! their numbers, and entries of objects by their keys. Knows nothing of models.

use std::io::Write;

use super::report::{Kind, Report};
use super::unequal::Unequal;
use crate::failure::Failure;
use crate::json_stream::JsonStream;

/// A comparison at work.
pub struct Comparison<'a, W> {
    report: &'a mut Report<W>,
    /// How many bytes of entries may wait for the same key on the other side.
    bound: u64,
}

impl<'a, W: Write> Comparison<'a, W> {
    pub fn new(report: &'a mut Report<W>, bound: u64) -> Self {
        Self { report, bound }
    }

    /// Compares two texts. A text without a value has nothing at this place.
    pub fn run(mut self, mut before: JsonStream, mut after: JsonStream) -> Result<(), Failure> {
        match (before.peek()?, after.peek()?) {
            (Some(_), Some(_)) => self.value(&mut before, &mut after)?,
            (None, None) => {}
            (Some(_), None) => self.report.tell(Kind::Removed, Some(&mut before), None)?,
            (None, Some(_)) => self.report.tell(Kind::Added, None, Some(&mut after))?,
        }
        Ok(())
    }

    /// Compares the next values.
    pub fn value(
        &mut self,
        before: &mut JsonStream,
        after: &mut JsonStream,
    ) -> Result<(), Failure> {
        let is_whole = |byte: u8| matches!(byte, b'{' | b'[');
        match (before.expect()?, after.expect()?) {
            (b'{', b'{') => self.objects(before, after),
            (b'[', b'[') => self.arrays(before, after),
            (old, new) if is_whole(old) || is_whole(new) => {
                Ok(self.report.tell(Kind::Changed, Some(before), Some(after))?)
            }
            _ => {
                let (mut old, mut new) = (Vec::new(), Vec::new());
                before.copy(&mut old)?;
                after.copy(&mut new)?;
                if old != new {
                    let (mut old, mut new) = (JsonStream::of(old), JsonStream::of(new));
                    self.report.tell(Kind::Changed, Some(&mut old), Some(&mut new))?;
                }
                Ok(())
            }
        }
    }

    /// Compares the next values, which are under this key in both.
    pub fn under(
        &mut self,
        key: &str,
        before: &mut JsonStream,
        after: &mut JsonStream,
    ) -> Result<(), Failure> {
        self.report.path.push(key.to_owned());
        self.value(before, after)?;
        self.report.path.pop();
        Ok(())
    }

    /// Tells that only one of both has something under this key.
    pub fn only(
        &mut self,
        key: &str,
        before: Option<&mut JsonStream>,
        after: Option<&mut JsonStream>,
    ) -> Result<(), Failure> {
        let kind = if before.is_some() { Kind::Removed } else { Kind::Added };
        self.report.path.push(key.to_owned());
        self.report.tell(kind, before, after)?;
        self.report.path.pop();
        Ok(())
    }

    fn objects(&mut self, before: &mut JsonStream, after: &mut JsonStream) -> Result<(), Failure> {
        before.begin()?;
        after.begin()?;
        loop {
            let (old, new) = (before.key()?, after.key()?);
            match (&old, &new) {
                (None, None) => return Ok(()),
                (Some(key), Some(other)) if key == other => self.under(key, before, after)?,
                // From here on, keys are looked for.
                _ => return Unequal::new(self.bound).compare(self, (before, old), (after, new)),
            }
        }
    }

    fn arrays(&mut self, before: &mut JsonStream, after: &mut JsonStream) -> Result<(), Failure> {
        before.begin()?;
        after.begin()?;
        let (mut has_old, mut has_new) = (true, true);
        for number in 0_u64.. {
            has_old = has_old && before.element()?;
            has_new = has_new && after.element()?;
            match (has_old, has_new) {
                (true, true) => self.under(&number.to_string(), before, after)?,
                (true, false) => self.only(&number.to_string(), Some(before), None)?,
                (false, true) => self.only(&number.to_string(), None, Some(after))?,
                (false, false) => break,
            }
        }
        Ok(())
    }

    /// Names the present place, for an error.
    pub fn place(&self) -> String {
        match self.report.path.is_empty() {
            true => "the model".to_owned(),
            false => format!("`{}`", self.report.path.join(".")),
        }
    }
}
