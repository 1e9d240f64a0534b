//! Owns snapshot files: it writes one version of the model to a packed file, and decodes such a
//! file. Knows the model only as something that serde writes and reads.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use serde::Serialize;

use super::chain::{Base, OpenFile, with_bases_in};
use super::same_type::check_shape;
use crate::codec::{self, Blocks, DecodeHow, Encoding, KnownCollections, LateObserver};
use crate::engine::{RequestLog, Version, read_limits, read_section, section_bytes, write_section};
use crate::error::Error;
use crate::files::{
    Cuts, FileHeader, PackedFile, Packing, SNAPSHOT_MAGIC, StoreError, WriteFailure, exists,
    snapshot_path, write_chunks,
};
use crate::journal::SegmentIdentity;
use crate::model::{MigrationError, Model, SnapshotReader};
use crate::options::RequestLimits;
use crate::panics::told_of_panics;
use crate::schema::described;
use crate::storage::{Pace, Storage, TEMPORARY_PREFIX, TEMPORARY_SUFFIX};

/// Makes the header of a snapshot of the version of model `M` at `sequence`.
pub(crate) fn snapshot_header<M: Model>(
    identity: &SegmentIdentity,
    packing: Packing,
    sequence: u64,
    time_ns: u64,
    chain: u32,
) -> FileHeader {
    FileHeader {
        magic: SNAPSHOT_MAGIC,
        database: identity.database,
        packing: packing.chunks_code(),
        model_version: identity.model_version,
        sequence,
        time_ns,
        salt: 0,
        file_bytes: 0,
        chain,
        model_name: identity.model_name.clone(),
        commands: Vec::new(),
        appendix_bytes: 0,
        base_sequence: sequence,
        events: 0,
        shape: described::<M>().shape().text().to_owned(),
        schemas: identity.schemas,
    }
}

/// Writes `model` as the snapshot that `header` describes. On return, the file is durable and
/// verified.
pub(crate) fn write_snapshot<T: Serialize>(
    storage: &dyn Storage,
    snapshot_directory: &Path,
    header: &FileHeader,
    model: &T,
    packing: Packing,
    pace: &Pace<'_>,
) -> Result<PackedFile, Error> {
    let none = RequestLog::new(RequestLimits::of(0));
    let path = snapshot_path(snapshot_directory, header.sequence);
    Ok(write(storage, &path, header, (model, &none), None, packing, pace)?.file)
}

/// A snapshot that was just written.
pub(crate) struct Written {
    pub(crate) file: PackedFile,
    /// The collections that the next snapshot may be changes of.
    pub(crate) known: KnownCollections,
}

/// Writes as [`write_snapshot`], with the request ids that are remembered at that version. With a
/// base, the file holds only what has changed since. If `is_owed` returns true for the size of its
/// encoding, the snapshot is decoded before it gets its name. An unreadable snapshot leaves
/// nothing, and an existing file stays.
#[expect(clippy::too_many_arguments, reason = "all of these describe the snapshot")]
pub(crate) fn write_version<M: Model>(
    storage: &dyn Storage,
    snapshot_directory: &Path,
    header: &FileHeader,
    version: &Version<M>,
    base: Option<&Base>,
    packing: Packing,
    pace: &Pace<'_>,
    is_owed: impl FnOnce(u64) -> bool,
) -> Result<Written, Error> {
    let path = snapshot_path(snapshot_directory, header.sequence);
    let replaces = exists(storage, &path)?;
    let written_to = if replaces { beside(&path) } else { path.clone() };
    let none = RequestLog::new(RequestLimits::of(0));
    let requests = if fault!(RequestIdsNotInSnapshot) { &none } else { &version.requests };
    let model = (&version.model, requests);
    let Written { file, known } = write(storage, &written_to, header, model, base, packing, pace)?;
    // This sees that the base is still there.
    let open: OpenFile = PackedFile::open_beside_others;
    let checked = with_bases_in(storage, snapshot_directory, file, open).and_then(|file| {
        if is_owed(file.footer.raw_bytes) {
            check_readable::<M>(&file, pace)?;
        }
        Ok(file)
    });
    let placed = match checked {
        Ok(file) if !replaces => return Ok(Written { file, known }),
        // No map of the file may be open when it is removed.
        Ok(_) => {
            storage.rename(&written_to, &path).map_err(Error::io("rename a new file to", &path))
        }
        Err(error) => Err(error),
    };
    if let Err(error) = placed {
        // Nothing names this file, and it takes room. The caller gets the first error.
        let removed = storage.remove(&written_to);
        removed.and_then(|()| storage.sync_directory(snapshot_directory)).ok();
        return Err(error);
    }
    let sync = storage.sync_directory(snapshot_directory);
    sync.map_err(Error::io("sync directory", snapshot_directory))?;
    let file = open(storage, &path, SNAPSHOT_MAGIC)?;
    let file = with_bases_in(storage, snapshot_directory, check(file, header.sequence)?, open)?;
    Ok(Written { file, known })
}

/// Returns a temporary path for a file that will replace `path`. If it never does, the next open
/// removes it.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{TEMPORARY_PREFIX}{name}{TEMPORARY_SUFFIX}"))
}

/// An encoding up to this size is decoded as a whole to see whether it can be. A model in memory is
/// several times as large.
const SEEN_WHOLE_BYTES: u64 = 4 << 20;

/// Decodes a snapshot that was just written and throws the model away.
///
/// There may be no memory for a second large model. So the entries of its large collections are
/// dropped one by one. A type may need them all, to compare a number of entries, say: if this
/// fails, the whole model is decoded.
fn check_readable<M: Model>(file: &PackedFile, pace: &Pace<'_>) -> Result<(), Error> {
    let none = RequestLimits::of(0);
    if file.header.is_change() || file.footer.raw_bytes > SEEN_WHOLE_BYTES {
        let seen = decode::<M>(file, none, pace, DecodeHow::OnlyToSee, None);
        if seen.is_ok_and(|it| told_of_panics("Drop", || drop(it.model)).is_ok()) {
            return Ok(());
        }
    }
    let Decoded { model, .. } = decode_written::<M>(file, none, pace)?;
    told_of_panics("Drop", || drop(model)).map_err(|reason| {
        let path = file.path.clone();
        Error::UnreadableModel { path, reason }
    })
}

/// Decodes what this program has just written. If that fails, the model's type is the cause.
pub(crate) fn decode_written<M: Model>(
    file: &PackedFile,
    limits: RequestLimits,
    pace: &Pace<'_>,
) -> Result<Decoded<M>, Error> {
    decode(file, limits, pace, threads(pace), None).map_err(|error| match error {
        Error::Undecodable { path, reason } => Error::UnreadableModel { path, reason },
        error => error,
    })
}

/// Encodes a model into `target`. The error is the reason of a failure.
pub(crate) fn encode_model<T: Serialize>(model: &T, target: &mut impl Write) -> Result<(), String> {
    told_of_panics("Serialize", || codec::encode_stream(model, target)).and_then(|encoded| encoded)
}

pub(super) fn write<T: Serialize>(
    storage: &dyn Storage,
    path: &Path,
    header: &FileHeader,
    (model, requests): (&T, &RequestLog),
    base: Option<&Base>,
    packing: Packing,
    pace: &Pace<'_>,
) -> Result<Written, Error> {
    let end = (header.sequence, header.chain);
    let base_sequence = base.map_or(header.sequence, |base| base.sequence);
    let header =
        FileHeader { appendix_bytes: section_bytes(requests), base_sequence, ..header.clone() };
    let encoding =
        base.map_or_else(Encoding::default, |base| Encoding::of_changes(base.known.clone()));
    let encoding = Rc::new(encoding);
    let encode = |target: &mut dyn Write| encode_content(model, target, &encoding);
    let append = |target: &mut dyn Write| Ok(write_section(requests, target)?);
    let cuts = Cuts::Parts(&encoding, base.map(|base| base.footer_digest));
    let file = write_chunks(storage, path, &header, end, packing, pace, &cuts, encode, append)?;
    Ok(Written { file, known: encoding.take_known() })
}

/// Encodes a value as the content of a packed file.
pub(crate) fn encode_content<T: Serialize>(
    value: &T,
    target: &mut dyn Write,
    encoding: &Rc<Encoding>,
) -> Result<(), WriteFailure> {
    let mut target = ErrorCapturingWriter { inner: target, failed: None };
    let encoded =
        told_of_panics("Serialize", || codec::encode_in_parts(value, &mut target, encoding));
    encoded.and_then(|encoded| encoded).map_err(|error| match target.failed.take() {
        Some(error) => WriteFailure::Io(error),
        None => WriteFailure::Content(error),
    })
}

/// A writer that keeps the I/O error, which the codec would turn into an error of its own.
struct ErrorCapturingWriter<'a> {
    inner: &'a mut dyn Write,
    failed: Option<io::Error>,
}

impl Write for ErrorCapturingWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.inner.write_all(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                let kind = error.kind();
                self.failed = Some(error);
                Err(kind.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Opens a snapshot, with those that it rests on, to decode it. Checks that it has the sequence in
/// its name.
#[cfg(test)]
pub(super) fn open_snapshot(
    storage: &dyn Storage,
    snapshot_directory: &Path,
    sequence: u64,
) -> Result<PackedFile, Error> {
    let open: OpenFile = PackedFile::open_to_decode;
    let file = open_alone(storage, snapshot_directory, sequence, open)?;
    with_bases_in(storage, snapshot_directory, file, open)
}

/// Opens a snapshot without those that it rests on. Checks that it has the sequence in its name.
pub(crate) fn open_alone(
    storage: &dyn Storage,
    snapshot_directory: &Path,
    sequence: u64,
    open: OpenFile,
) -> Result<PackedFile, Error> {
    let path = snapshot_path(snapshot_directory, sequence);
    check(open(storage, &path, SNAPSHOT_MAGIC)?, sequence)
}

/// Checks that header, footer and name agree.
pub(crate) fn check(file: PackedFile, sequence: u64) -> Result<PackedFile, Error> {
    for (what, found) in [("header", file.header.sequence), ("footer", file.footer.sequence)] {
        if found != sequence {
            let expected = format!("sequence {sequence} in the {what}, as in the file's name");
            return Err(Error::corrupt(&file.path, 40, expected, found.to_string()));
        }
    }
    if file.header.base_sequence > sequence {
        // The position of the header's last field depends on its names, so the error names position
        // 0.
        let found = format!("changes of snapshot {}", file.header.base_sequence);
        return Err(Error::corrupt(&file.path, 0, "changes of an older snapshot", found));
    }
    if file.footer.chain != file.header.chain {
        let expected = format!("chain {:08x} in the header, as in the footer", file.footer.chain);
        let found = format!("{:08x}", file.header.chain);
        return Err(Error::corrupt(&file.path, 76, expected, found));
    }
    Ok(file)
}

/// Decodes the model of a snapshot. It calls [`Model::migrate`] if another version wrote it.
pub(crate) fn decode_snapshot<M: Model>(file: &PackedFile) -> Result<M, Error> {
    decode_version(file, RequestLimits::of(0)).map(|decoded| decoded.model)
}

/// Decodes as [`decode_snapshot`], with the request ids behind the model. `limits` state how many
/// request ids are kept.
pub(crate) fn decode_version<M: Model>(
    file: &PackedFile,
    limits: RequestLimits,
) -> Result<Decoded<M>, Error> {
    decode(file, limits, &Pace::full(), DecodeHow::InParallel, None)
}

/// Decodes as [`decode_version`], but leaves the entries of large collections in the file until
/// they are touched. `late` is told of failures then.
pub(crate) fn decode_late<M: Model>(
    file: &PackedFile,
    limits: RequestLimits,
    late: Arc<dyn LateObserver>,
) -> Result<Decoded<M>, Error> {
    decode(file, limits, &Pace::full(), DecodeHow::InParallel, Some(late))
}

/// What a snapshot holds.
pub(crate) struct Decoded<M> {
    pub(crate) model: M,
    pub(crate) requests: RequestLog,
    /// The collections that the next snapshot may be changes of.
    pub(crate) known: KnownCollections,
}

/// Several threads beside commits would be in their way.
fn threads(pace: &Pace<'_>) -> DecodeHow {
    if pace.gives_way() { DecodeHow::OneThread } else { DecodeHow::InParallel }
}

fn decode<M: Model>(
    file: &PackedFile,
    limits: RequestLimits,
    pace: &Pace<'_>,
    how: DecodeHow,
    late: Option<Arc<dyn LateObserver>>,
) -> Result<Decoded<M>, Error> {
    let found = file.header.model_version;
    if found == M::VERSION {
        check_shape::<M>(file)?;
    }
    let decode = |blocks: &mut Blocks<'_>| {
        let decoding = match late {
            Some(late) => file.decoding_on_demand(late, blocks),
            None => file.decoding(how, blocks),
        };
        let raw_bytes = file.footer.raw_bytes;
        let mut reader = SnapshotReader::new(blocks.take(), raw_bytes, decoding.clone());
        let decoded = if found == M::VERSION {
            told_of_panics("Deserialize", || reader.decode())
        } else {
            told_of_panics("Model::migrate", || M::migrate(found, &mut reader))
        };
        let decoded = decoded.unwrap_or_else(|reason| Err(MigrationError::Failed(reason)));
        let decoded = reader.checked(decoded);
        *blocks = reader.into_blocks();
        let decoded = decoded.map(|model| (model, decoding.take_known()));
        decoded.map_err(|error| match error {
            MigrationError::Unsupported => Error::WrongVersion {
                path: file.path.clone(),
                model: file.header.model_name.clone(),
                expected: M::VERSION,
                found,
            },
            MigrationError::Failed(reason) => {
                file.undecodable(format!("as version {found} of the model, {reason}")).into()
            }
        })
    };
    let ((model, known), requests) = file.unpack_at(pace, decode, |blocks| {
        let newest = (file.header.sequence, file.header.time_ns);
        read_section(blocks, file.header.appendix_bytes, newest, limits)
            .map_err(|(expected, found)| Error::from(file.corrupt_content(expected, found)))
    })?;
    Ok(Decoded { model, requests, known })
}

/// Returns whether the error is about a snapshot of this version of the model that cannot be
/// decoded. Then the model's type cannot be decoded from its own encoding, or it was changed in a
/// way that its shape does not show. In both cases an older snapshot and the commands behind it may
/// give the model.
pub(crate) fn undecodable_as_current<M: Model>(storage: &dyn Storage, error: &Error) -> bool {
    let Error::Undecodable { path, .. } = error else { return false };
    let header = storage.open_to_read(path).map_err(StoreError::io("read", path));
    let header = header.and_then(|file| FileHeader::read(path, SNAPSHOT_MAGIC, &*file));
    header.is_ok_and(|(header, _)| header.model_version == M::VERSION)
}

/// Returns how many request ids were remembered when a snapshot was taken; none if it holds none.
pub(crate) fn request_limits(file: &PackedFile) -> Result<RequestLimits, Error> {
    let skip = |blocks: &mut Blocks<'_>| {
        blocks.skip();
        Ok::<(), Error>(())
    };
    let (_, limits) = file.unpack_with(skip, |blocks| {
        read_limits(blocks, file.header.appendix_bytes)
            .map_err(|(expected, found)| file.corrupt_content(expected, found).into())
    })?;
    Ok(limits)
}

#[cfg(test)]
#[path = "tests/file.rs"]
mod tests;
