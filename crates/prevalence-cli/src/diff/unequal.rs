//! Owns the comparison of two objects from the place on at which their keys differ. Nothing says in
//! which order a map was stored. So an entry whose key the other side does not have at the same
//! place waits until it comes there. If too many wait and all keys so far were in their order, the
//! rest is taken to be so, too, and then nothing has to wait. Knows nothing of values.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::compare::Comparison;
use crate::failure::Failure;
use crate::json_stream::JsonStream;

/// The entry with which the bound is reached may have so many bytes more: behind it, either the
/// order is relied on, and nothing waits, or nothing more is read.
const LAST_ENTRY_BYTES: u64 = 16 << 20;

/// How keys are compared: as those of a map of numbers, or as those of a map of texts.
#[derive(Clone, Copy)]
enum Order {
    Numbers,
    Texts,
}

impl Order {
    fn of(key: &str) -> Self {
        if key.parse::<i128>().is_ok() { Self::Numbers } else { Self::Texts }
    }

    /// Returns whether one key is before another one; `None` if this is not their order.
    fn is_before(self, key: &str, other: &str) -> Option<bool> {
        match self {
            Self::Numbers => Some(key.parse::<i128>().ok()? < other.parse::<i128>().ok()?),
            Self::Texts => Some(key < other),
        }
    }
}

type Waiting = BTreeMap<String, Vec<u8>>;

/// The entries that wait.
pub struct Unequal {
    bound: u64,
    held_bytes: u64,
    old: Waiting,
    new: Waiting,
    order: Option<Order>,
    /// Whether both sides were in that order so far.
    is_ordered: bool,
    /// Whether that is relied on, so that nothing waits any more.
    relies_on_order: bool,
}

/// A side: its text, and the key before the next value.
type Side<'a> = (&'a mut JsonStream, Option<String>);

impl Unequal {
    pub fn new(bound: u64) -> Self {
        Self {
            bound,
            held_bytes: 0,
            old: Waiting::new(),
            new: Waiting::new(),
            order: None,
            is_ordered: true,
            relies_on_order: false,
        }
    }

    /// Compares the rest of two objects.
    pub fn compare<W: Write>(
        mut self,
        comparison: &mut Comparison<'_, W>,
        (before, mut old): Side<'_>,
        (after, mut new): Side<'_>,
    ) -> Result<(), Failure> {
        loop {
            let takes_old = match (&old, &new) {
                (None, None) => break,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (Some(key), Some(other)) if key == other => {
                    comparison.under(key, before, after)?;
                    (old, new) =
                        (self.next(before, old, comparison)?, self.next(after, new, comparison)?);
                    continue;
                }
                (Some(key), Some(other)) => {
                    let order = *self.order.get_or_insert_with(|| Order::of(key));
                    let is_before = order.is_before(key, other);
                    self.is_ordered &= is_before.is_some();
                    is_before.unwrap_or(true)
                }
            };
            if takes_old {
                let key = old.clone().unwrap_or_default();
                match self.new.remove(&key) {
                    Some(waiting) => {
                        self.held_bytes = self.held_bytes.saturating_sub(size(&key, &waiting));
                        comparison.under(&key, before, &mut JsonStream::of(waiting))?;
                    }
                    None if self.relies_on_order => comparison.only(&key, Some(before), None)?,
                    None => {
                        let value = self.hold(&key, before, comparison)?;
                        self.old.insert(key, value);
                    }
                }
                old = self.next(before, old, comparison)?;
            } else {
                let key = new.clone().unwrap_or_default();
                match self.old.remove(&key) {
                    Some(waiting) => {
                        self.held_bytes = self.held_bytes.saturating_sub(size(&key, &waiting));
                        comparison.under(&key, &mut JsonStream::of(waiting), after)?;
                    }
                    None if self.relies_on_order => comparison.only(&key, None, Some(after))?,
                    None => {
                        let value = self.hold(&key, after, comparison)?;
                        self.new.insert(key, value);
                    }
                }
                new = self.next(after, new, comparison)?;
            }
            if self.held_bytes > self.bound && self.is_ordered {
                self.relies_on_order = true;
                self.tell_waiting(comparison)?;
            }
        }
        self.tell_waiting(comparison)
    }

    /// Goes to the next key of a side.
    fn next<W: Write>(
        &mut self,
        side: &mut JsonStream,
        key: Option<String>,
        comparison: &Comparison<'_, W>,
    ) -> Result<Option<String>, Failure> {
        let next = side.key()?;
        if let (Some(key), Some(next)) = (&key, &next) {
            let order = *self.order.get_or_insert_with(|| Order::of(key));
            self.is_ordered &= order.is_before(key, next) == Some(true);
            if self.relies_on_order && !self.is_ordered {
                return Err(self.too_much(comparison));
            }
        }
        Ok(next)
    }

    /// Reads a value that has to wait.
    fn hold<W: Write>(
        &mut self,
        key: &str,
        side: &mut JsonStream,
        comparison: &Comparison<'_, W>,
    ) -> Result<Vec<u8>, Failure> {
        let most = match self.is_ordered {
            true => self.bound.saturating_add(LAST_ENTRY_BYTES).saturating_sub(self.held_bytes),
            false => self.bound.saturating_sub(self.held_bytes),
        };
        let mut held = Bounded { bytes: Vec::new(), left: most, is_full: false };
        let copied = side.copy(&mut held);
        if held.is_full {
            return Err(self.too_much(comparison));
        }
        copied?;
        self.held_bytes = self.held_bytes.saturating_add(size(key, &held.bytes));
        Ok(held.bytes)
    }

    fn too_much<W: Write>(&self, comparison: &Comparison<'_, W>) -> Failure {
        Failure::Usage(format!(
            "the entries of {} cannot be compared within {} MiB: they are in another order in each \
             snapshot, as those of a HashMap are, or a single one is too large. Give more with \
             --memory, or only a part of the model",
            comparison.place(),
            self.bound >> 20,
        ))
    }

    /// Tells of the entries that the other side does not have.
    fn tell_waiting<W: Write>(
        &mut self,
        comparison: &mut Comparison<'_, W>,
    ) -> Result<(), Failure> {
        self.held_bytes = 0;
        for (key, value) in std::mem::take(&mut self.old) {
            comparison.only(&key, Some(&mut JsonStream::of(value)), None)?;
        }
        for (key, value) in std::mem::take(&mut self.new) {
            comparison.only(&key, None, Some(&mut JsonStream::of(value)))?;
        }
        Ok(())
    }
}

/// Returns about how much memory a waiting entry needs.
fn size(key: &str, value: &[u8]) -> u64 {
    u64::try_from(key.len() + value.len()).unwrap_or(u64::MAX).saturating_add(64)
}

/// Bytes in memory, up to a number.
struct Bounded {
    bytes: Vec<u8>,
    left: u64,
    is_full: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        match self.left.checked_sub(length) {
            Some(left) => {
                self.left = left;
                self.bytes.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            None => {
                self.is_full = true;
                Err(io::ErrorKind::OutOfMemory.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
