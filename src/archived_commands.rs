//! Owns whether this program still knows every command in the archive: a history that can no longer
//! be replayed is told at open, not when it is needed. Knows nothing of segments and snapshots.

use crate::commands::CommandTable;
use crate::directory::Directory;
use crate::error::{DatabaseId, Error};
use crate::header::{ARCHIVE_MAGIC, FileHeader};
use crate::identity::{check_tags, unknown_tag};
use crate::journal::{FrameStream, Records, archive_path, list_archives};
use crate::model::Model;
use crate::storage::{EntryKind, Storage};

/// Reads the archives' headers. Only where one names a command that this program lacks is its
/// content looked at: whether such a command is in it, and where.
pub(crate) fn check_archived_commands<M: Model>(
    storage: &dyn Storage,
    directory: &Directory,
    database: DatabaseId,
) -> Result<(), Error> {
    let table = CommandTable::<M>::new();
    for first_sequence in list_archives(storage, &directory.archive)? {
        let path = archive_path(&directory.archive, first_sequence);
        // What is no file holds no commands; it is in nobody's way before the history is read.
        if storage.kind(&path).map_err(Error::io("examine", &path))? != Some(EntryKind::File) {
            continue;
        }
        let file = storage.open_to_read(&path).map_err(Error::io("read", &path))?;
        let (header, _) = FileHeader::read(&path, ARCHIVE_MAGIC, &*file)?;
        if header.database != database {
            continue; // no part of this history; whoever reads that says so
        }
        check_tags::<M>(&path, &header)?;
        if header.commands.iter().any(|&(tag, _)| table.get(tag).is_none()) {
            look_for_unknown(storage, directory, first_sequence, &table)?;
        }
    }
    Ok(())
}

/// An archive made by an early version of this crate names more commands than are in it.
fn look_for_unknown<M: Model>(
    storage: &dyn Storage,
    directory: &Directory,
    first_sequence: u64,
    table: &CommandTable<M>,
) -> Result<(), Error> {
    let mut frames = FrameStream::of_archive(storage, &directory.archive, first_sequence)?;
    let file = frames.file().clone();
    let Some((end, _)) = file.end else { return Ok(()) };
    while frames.next_sequence() <= end && frames.advance(end)? {
        let Some(frame) = frames.frame() else { break };
        let records = Records::new(frame.payload).filter_map(Result::ok);
        for (sequence, record) in (frame.header.first_sequence..).zip(records) {
            if table.get(record.tag).is_none() {
                return Err(unknown_tag(&file.path, &file.header, sequence, record.tag));
            }
        }
    }
    Ok(())
}
