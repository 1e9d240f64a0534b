//! Owns the check that the stored history fits this program and this database. A history that can
//! no longer be replayed, or that belongs to another database, is an error at open, not later when
//! it is needed. Knows nothing of snapshots.

use std::path::Path;
use std::sync::Arc;

use super::changed_types::ChangedTypes;
use super::compatibility::{check_tags, unknown_tag};
use crate::error::Error;
use crate::files::{
    ARCHIVE_MAGIC, DatabaseId, Directory, FileHeader, PackedFile, SEGMENT_MAGIC, SchemaFiles,
    archive_path, kind, list_archives, list_segments, segment_path,
};
use crate::journal::FrameStream;
use crate::model::{CommandTable, Model};
use crate::storage::{EntryKind, Storage};

/// Checks that this program knows every stored command, with its type, before `replayed_from`. It
/// reads the headers of archives and segments. It searches the content for an unknown command only
/// if the header names one.
pub(crate) fn check_stored_commands<M: Model>(
    storage: &Arc<dyn Storage>,
    directory: &Directory,
    database: DatabaseId,
    replayed_from: u64,
) -> Result<(), Error> {
    let schemas = SchemaFiles { storage: storage.clone(), directory: directory.schemas.clone() };
    let storage = &**storage;
    let table = CommandTable::<M>::new();
    for first_sequence in list_archives(storage, &directory.archive)? {
        let path = archive_path(&directory.archive, first_sequence);
        let header = header(storage, &path, ARCHIVE_MAGIC)?;
        // A file of another database is not part of this history. A reader of it reports the
        // mistake.
        let Some(header) = header.filter(|header| header.database == database) else { continue };
        check_tags::<M>(&path, &header)?;
        let changed = ChangedTypes::since::<M>(&schemas, &header)?;
        let is_unknown = header.commands.iter().any(|&(tag, _)| table.get(tag).is_none());
        if is_unknown || changed.has_any(&header.commands) {
            let (archive, first) = (&directory.archive, first_sequence);
            let mut frames = FrameStream::of_archive(storage, archive, first, first)?;
            let end = frames.file().end.map_or(0, |(end, _)| end);
            look_for_unreadable(&mut frames, end, &table, &changed)?;
        }
    }
    let segments = list_segments(storage, &directory.journal)?;
    for (place, &first_sequence) in segments.iter().enumerate() {
        if first_sequence >= replayed_from {
            break;
        }
        let end =
            segments.get(place + 1).map_or(replayed_from, |next| *next).min(replayed_from) - 1;
        match check_segment(&schemas, directory, database, (first_sequence, end), &table) {
            // An open does not need this segment, so it may be damaged. The code that archives or
            // reads it reports the damage.
            Err(Error::Corrupt { .. } | Error::Io { .. }) => {}
            checked => checked?,
        }
    }
    Ok(())
}

/// Checks that this program knows every command of a segment up to the sequence `end`.
fn check_segment<M: Model>(
    schemas: &SchemaFiles,
    directory: &Directory,
    database: DatabaseId,
    (first_sequence, end): (u64, u64),
    table: &CommandTable<M>,
) -> Result<(), Error> {
    let storage = &*schemas.storage;
    let path = segment_path(&directory.journal, first_sequence);
    let header = header(storage, &path, SEGMENT_MAGIC)?;
    let Some(header) = header.filter(|header| header.database == database) else { return Ok(()) };
    check_tags::<M>(&path, &header)?;
    let changed = ChangedTypes::since::<M>(schemas, &header)?;
    let is_known = header.commands.iter().all(|&(tag, _)| table.get(tag).is_some());
    if is_known && !changed.has_any(&header.commands) {
        return Ok(());
    }
    let (journal, first) = (&directory.journal, first_sequence);
    let mut frames = FrameStream::of_segment(storage, journal, first, first, None)?;
    look_for_unreadable(&mut frames, end, table, &changed)
}

/// Searches for a command that this program lacks or has changed, up to `end`, the end of a batch.
/// A header alone does not tell: a segment names more commands than it holds, and so does an
/// archive made by an early version of this crate.
fn look_for_unreadable<M: Model>(
    frames: &mut FrameStream,
    end: u64,
    table: &CommandTable<M>,
    changed: &ChangedTypes,
) -> Result<(), Error> {
    let file = frames.file().clone();
    while frames.next_sequence() <= end && frames.advance(end)? {
        let Some(frame) = frames.frame() else { break };
        frame.each_record(&file.path, |sequence, record| {
            if table.get(record.tag).is_none() {
                return Err(unknown_tag(&file.path, &file.header, sequence, record.tag));
            }
            changed.check_command(&file.path, &file.header, sequence, record.tag)
        })?;
    }
    Ok(())
}

/// Checks that the journal continues where the archive ends. If two copies of a database were both
/// used, one may have an archive that goes further than the journal of the other: together they
/// would show commands that never happened there. (A crash leaves at most one segment in the
/// journal that is already archived.)
pub(crate) fn check_archive_end(
    storage: &dyn Storage,
    directory: &Directory,
    database: DatabaseId,
) -> Result<(), Error> {
    let archives = list_archives(storage, &directory.archive)?;
    let Some(&last) = archives.last() else { return Ok(()) };
    let segments = list_segments(storage, &directory.journal)?;
    let Some(&journal) = segments.first() else { return Ok(()) };
    let path = archive_path(&directory.archive, last);
    let header = header(storage, &path, ARCHIVE_MAGIC)?;
    if header.is_none_or(|header| header.database != database) {
        return Ok(()); // a reader of it reports the mistake
    }
    // The archive may end with a segment that is still in the journal.
    let next = if last == journal { segments.get(1).map_or(last, |next| *next) } else { journal };
    let stated = PackedFile::stated_sequence(storage, &path)?;
    if stated.is_none_or(|end| end < next) && last <= journal {
        return Ok(());
    }
    let archive = PackedFile::open(storage, &path, ARCHIVE_MAGIC)?;
    Err(Error::ArchiveBeyondJournal { path, end: archive.footer.sequence, journal: next })
}

/// Checks of the archive what every open of the database checks, whatever its program is.
pub(crate) fn check_archives(
    storage: &dyn Storage,
    directory: &Directory,
    database: DatabaseId,
) -> Result<(), Error> {
    for first_sequence in list_archives(storage, &directory.archive)? {
        header(storage, &archive_path(&directory.archive, first_sequence), ARCHIVE_MAGIC)?;
    }
    check_archive_end(storage, directory, database)
}

/// Reads a file's header. Returns `None` when the path is not a file: then it holds no commands,
/// and does no harm before the history is read.
fn header(storage: &dyn Storage, path: &Path, magic: [u8; 8]) -> Result<Option<FileHeader>, Error> {
    if kind(storage, path)? != Some(EntryKind::File) {
        return Ok(None);
    }
    let file = storage.open_to_read(path).map_err(Error::io("read", path))?;
    Ok(Some(FileHeader::read(path, magic, &*file)?.0))
}
