//! The model of the hostile laboratory: it holds the accepted commands in their order, so that a
//! state shows exactly what is in it. It also has code of a user that panics on demand.

use std::sync::atomic::{AtomicU32, Ordering};

use imbl::Vector;
use prevalence::{ArchivedSnapshots, Builder, Command, Context, Database, Model, Retention};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The parts of a user's code that can fail, each a bit of [`ARMED`].
pub const APPLY: u32 = 1;
pub const CLONE: u32 = 2;
pub const DROP: u32 = 4;
pub const SERIALIZE: u32 = 8;
pub const DESERIALIZE: u32 = 16;
/// `Deserialize` always refuses what `Serialize` made.
pub const UNREADABLE: u32 = 32;

/// The parts that fail at their next use.
pub static ARMED: AtomicU32 = AtomicU32::new(0);

/// Panics once, if this part is armed.
fn fail_once(what: u32) {
    if ARMED.load(Ordering::SeqCst) & what != 0
        && ARMED.fetch_and(!what, Ordering::SeqCst) & what != 0
        && !std::thread::panicking()
    {
        panic!("on purpose");
    }
}

#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct Diary {
    entries: Vector<u64>,
    nerves: Nerves,
}

impl Model for Diary {
    type Event = ();
}

impl Diary {
    pub fn entries(&self) -> Vec<u64> {
        self.entries.iter().copied().collect()
    }
}

/// A part of the model whose code fails on demand. It takes no bytes.
#[derive(Default, Debug)]
struct Nerves;

impl Clone for Nerves {
    fn clone(&self) -> Self {
        fail_once(CLONE);
        Self
    }
}

impl Drop for Nerves {
    fn drop(&mut self) {
        fail_once(DROP);
    }
}

impl Serialize for Nerves {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        fail_once(SERIALIZE);
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Nerves {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        fail_once(DESERIALIZE);
        <()>::deserialize(deserializer)?;
        if ARMED.load(Ordering::SeqCst) & UNREADABLE != 0 {
            return Err(serde::de::Error::custom("unreadable on purpose"));
        }
        Ok(Self)
    }
}

/// A command that enters a number, and carries bytes that fill the journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Enter {
    pub number: u64,
    pub padding: Vec<u8>,
}

impl Command<Diary> for Enter {
    type Output = usize;
    type Rejection = std::convert::Infallible;

    fn apply(
        self,
        diary: &mut Diary,
        _: &mut Context<'_, Diary>,
    ) -> Result<usize, Self::Rejection> {
        diary.entries.push_back(self.number);
        fail_once(APPLY);
        Ok(diary.entries.len())
    }
}

prevalence::commands! {
    Diary {
        1 => Enter,
    }
}

/// Makes a builder with small segments, so that they change, and with one snapshot, so that older
/// files are removed.
pub fn builder(retention: Retention) -> Builder<Diary> {
    Database::<Diary>::builder()
        .segment_bytes(64 << 10)
        .keep_snapshots(1)
        .archive_snapshots(ArchivedSnapshots::All)
        .snapshots(prevalence::SnapshotPolicy::manual())
        .retention(retention)
}
