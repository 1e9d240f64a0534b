//! Owns the checkpoint of a projection: its value in the container of snapshots. Knows nothing of
//! when one is written, and of which one counts.

use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{Blocks, DecodeHow, Encoding};
use crate::error::Error;
use crate::files::{
    CHECKPOINT_MAGIC, Cuts, DatabaseId, FileHeader, PackedFile, Packing, write_chunks,
};
use crate::model::SnapshotReader;
use crate::panics::told_of_panics;
use crate::snapshot::encode_content;
use crate::stats::Counters;
use crate::storage::{Pace, Room, Storage};

/// What a checkpoint is of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CheckpointOf<'a> {
    pub(crate) database: DatabaseId,
    pub(crate) name: &'a str,
    pub(crate) version: u32,
    pub(crate) position: u64,
}

impl CheckpointOf<'_> {
    fn header(&self, packing: Packing) -> FileHeader {
        FileHeader {
            magic: CHECKPOINT_MAGIC,
            database: self.database,
            packing: packing.chunks_code(),
            model_version: self.version,
            sequence: self.position,
            time_ns: 0,
            salt: 0,
            file_bytes: 0,
            chain: 0,
            model_name: self.name.to_owned(),
            commands: Vec::new(),
            events: 0,
            appendix_bytes: 0,
            base_sequence: self.position,
            shape: String::new(),
            schemas: Default::default(),
        }
    }
}

/// Writes a checkpoint. On return, the file is durable and verified. It gives way to the commits
/// that these counters count, and ends early when the flag is set or the journal wants its room.
pub(crate) fn write_checkpoint<P: Serialize>(
    storage: &dyn Storage,
    path: &Path,
    of: CheckpointOf<'_>,
    value: &P,
    packing: Packing,
    (counters, gives_up, room): (&Counters, &AtomicBool, &Room),
) -> Result<(), Error> {
    let taking = room.take();
    let pace = Pace::beside(counters, gives_up, (room, taking.since()));
    let encoding = Rc::new(Encoding::default());
    write_chunks(
        storage,
        path,
        &of.header(packing),
        (of.position, 0),
        packing,
        &pace,
        &Cuts::Parts(&encoding, None),
        |target| encode_content(value, target, &encoding),
        |_| Ok(()),
    )?;
    Ok(())
}

/// Reads a checkpoint that must be of this follower.
pub(super) fn read_checkpoint<P: DeserializeOwned>(
    storage: &dyn Storage,
    path: &Path,
    of: CheckpointOf<'_>,
) -> Result<P, Error> {
    decode_checkpoint(&PackedFile::open_to_decode(storage, path, CHECKPOINT_MAGIC)?, of)
}

/// Decodes an open checkpoint that must be of this follower.
pub(crate) fn decode_checkpoint<P: DeserializeOwned>(
    file: &PackedFile,
    of: CheckpointOf<'_>,
) -> Result<P, Error> {
    let (path, found) = (&file.path, &file.header);
    let (name, version) = (found.model_name.as_str(), found.model_version);
    let said = (found.database, name, version, found.sequence, file.footer.sequence);
    if said != (of.database, of.name, of.version, of.position, of.position) {
        let expected = format!("version {} of `{}` at {}", of.version, of.name, of.position);
        let found = format!("version {version} of `{name}` at {}", found.sequence);
        return Err(Error::corrupt(path, 40, expected, found));
    }
    let decode = |blocks: &mut Blocks<'_>| {
        let decoding = file.decoding(DecodeHow::InParallel, blocks);
        let mut reader = SnapshotReader::new(blocks.take(), file.footer.raw_bytes, decoding);
        let decoded = told_of_panics("Deserialize", || reader.decode())
            .and_then(|decoded| reader.checked(decoded).map_err(|error| error.to_string()));
        *blocks = reader.into_blocks();
        decoded.map_err(|reason| Error::from(file.undecodable(reason)))
    };
    let (value, ()) = file.unpack_at(&Pace::full(), decode, |_| Ok::<(), Error>(()))?;
    Ok(value)
}
