//! Owns the new history: it writes a new form of every old file beside the old one. Meanwhile it
//! replays the new history and makes every snapshot from that replay. Knows nothing of how the new
//! history takes the place of the old one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::decisions::{Decisions, name};
use crate::engine::{RequestLog, Version, drop_events};
use crate::error::Error;
use crate::files::{
    ARCHIVE_MAGIC, Directory, FileHeader, PackedFile, Packing, SNAPSHOT_MAGIC, StoreError,
    keep_schemas, segment_path, snapshot_path,
};
use crate::history::{HistoryFiles, Replica};
use crate::journal::{
    FrameHeader, FrameRef, NewSegment, Prepared, Record, Segment, SegmentIdentity, SegmentStart,
    StreamedFile, archive_segment, publish_segment,
};
use crate::model::{GivenSchemas, Model, encode_events, program_schemas};
use crate::options::{Events, MOST_IDS, MOST_OUTPUT_BYTES, Options, RequestLimits};
use crate::panics::told_of_panics;
use crate::recovery::{ChangedTypes, KnownChain, identity};
use crate::snapshot::{check, decode_snapshot, request_limits, snapshot_header, write_version};
use crate::storage::{Pace, Storage, replace_file};

/// How many bytes of a new segment are zero-filled before frames are written. The frames may go
/// beyond them: the next open begins a segment of its own.
const PREPARED_BYTES: u64 = 8 << 10;

/// The result of a rewrite.
#[derive(Debug)]
pub(super) struct Rewritten {
    /// The chain value after the newest command in the old history.
    pub(super) chain_before: u32,
    /// The chain value after the newest command in the new history.
    pub(super) chain: u32,
    /// How many snapshots were made.
    pub(super) snapshots: u64,
}

/// Opens the snapshot of the initial model. It contains no data of a command, and everything else
/// can be made from it.
pub(super) fn initial_snapshot(files: &HistoryFiles) -> Result<PackedFile, Error> {
    let snapshots = files.snapshots()?;
    let Some((0, path)) = snapshots.first() else {
        let oldest_command = files.oldest_command()?.unwrap_or(files.newest + 1);
        let mut reached = snapshots.iter().map(|(sequence, _)| *sequence);
        let oldest = reached.find(|sequence| sequence + 1 >= oldest_command);
        let path = files.directory.root.clone();
        let oldest = oldest.unwrap_or(files.newest);
        return Err(Error::HistoryTruncated { path, wanted: 0, oldest });
    };
    let file = check(PackedFile::open(&*files.storage, path, SNAPSHOT_MAGIC)?, 0)?;
    files.check_identity(&file.path, &file.header)?;
    Ok(file)
}

/// Writes the new history into `staged`. All of it is durable on return. A batch that is larger
/// than `most_payload_bytes` now is split.
pub(super) fn rewrite<M: Model>(
    files: &Arc<HistoryFiles>,
    listed: &[u64],
    staged: &Directory,
    decisions: &Decisions,
    initial: PackedFile,
    most_payload_bytes: usize,
) -> Result<Rewritten, Error> {
    let schemas = program_schemas::<M>(&GivenSchemas::default());
    keep_schemas(&*files.storage, &files.directory, schemas.digest, &schemas.text)?;
    let chain = initial.footer.chain;
    let snapshots = wanted_snapshots(files, listed)?;
    let time_ns = initial.header.time_ns;
    ChangedTypes::check_model::<M>(&files.schema_files(), &initial)?;
    let mut replica = Replica::<M>::new(files, decode_snapshot(&initial)?, 0, time_ns);
    // The widest limits are enough: from their ids, those of narrower limits can be computed.
    let requests = snapshots.values().map(|wanted| wanted.requests);
    let widest = requests.fold(RequestLimits::of(0), RequestLimits::widest);
    replica.replayed.requests = RequestLog::new(widest);
    let mut rewriting = Rewriting {
        files,
        staged,
        decisions,
        replica,
        identity: identity::<M>(files.database, Events::default_for::<M::Event>(), schemas.digest),
        packing: Options::default().packing(),
        snapshots,
        written: 0,
        chain,
        payload: Vec::new(),
        most_payload_bytes,
        output: None,
    };
    rewriting.copy_initial(&initial)?;
    let known = KnownChain { sequence: 0, chain, source: initial.path.clone() };
    drop(initial);
    let chain_before = rewriting.all(known)?;
    rewriting.end()?;
    let Rewriting { chain, written, .. } = rewriting;
    Ok(Rewritten { chain_before, chain, snapshots: written })
}

/// Checks that the new files hold what was written, before the old ones are removed. It reads every
/// frame, and compares the chain value over all commands with that of the replay. Archives and
/// snapshots were already unpacked once when they were written. Only the initial snapshot was
/// copied, so it is unpacked here.
pub(super) fn read_back(
    files: &HistoryFiles,
    staged: &Directory,
    rewritten: &Rewritten,
) -> Result<(), Error> {
    let new = HistoryFiles {
        storage: files.storage.clone(),
        directory: staged.clone(),
        database: files.database,
        model_name: files.model_name.clone(),
        newest: files.newest,
        newest_chain: rewritten.chain,
    };
    let initial = initial_snapshot(&new)?;
    initial.verify_content(&Pace::full())?;
    let known = KnownChain { sequence: 0, chain: initial.footer.chain, source: initial.path };
    let mut chain = known.chain;
    let mut frames = Arc::new(new).frames(1, Some(known))?;
    while frames.advance()? {
        chain = frames.chain().unwrap_or(chain);
    }
    if chain != rewritten.chain {
        let expected = format!("commands that end with chain {:08x}", rewritten.chain);
        return Err(Error::corrupt(&staged.journal, 0, expected, format!("{chain:08x}")));
    }
    let next = Segment::open(&*files.storage, &staged.journal, files.newest + 1)?;
    files.check_identity(&next.path, &next.header)
}

/// A snapshot that must be made.
#[derive(Clone, Copy)]
struct Wanted {
    archived: bool,
    /// The limits within which the old snapshot remembers request ids.
    requests: RequestLimits,
}

/// Finds all snapshots in the directories, and adds those that the MANIFEST lists.
fn wanted_snapshots(files: &HistoryFiles, listed: &[u64]) -> Result<BTreeMap<u64, Wanted>, Error> {
    // The limits of a missing or damaged snapshot are not known, so the largest are taken.
    let requests = RequestLimits { output_bytes: MOST_OUTPUT_BYTES, ..RequestLimits::of(MOST_IDS) };
    let usual = Wanted { archived: false, requests };
    let mut wanted: BTreeMap<u64, Wanted> =
        listed.iter().map(|&sequence| (sequence, usual)).collect();
    for (sequence, path) in files.snapshots()? {
        let archived = path.parent() == Some(&files.directory.archive);
        let opened = PackedFile::open(&*files.storage, &path, SNAPSHOT_MAGIC);
        let requests = match opened {
            Ok(file) => {
                // A snapshot of another database must not be replaced.
                files.check_identity(&path, &file.header)?;
                // Only others rest on it. Those will be whole.
                if !archived && !listed.contains(&sequence) {
                    continue;
                }
                request_limits(&file)?
            }
            Err(StoreError::Corrupt { .. }) => usual.requests,
            Err(error) => return Err(error.into()),
        };
        wanted.insert(sequence, Wanted { archived, requests });
    }
    Ok(wanted)
}

struct Rewriting<'a, M: Model> {
    files: &'a Arc<HistoryFiles>,
    staged: &'a Directory,
    decisions: &'a Decisions,
    replica: Replica<M>,
    identity: SegmentIdentity,
    packing: Packing,
    /// The snapshots that are not made yet.
    snapshots: BTreeMap<u64, Wanted>,
    /// How many snapshots were made.
    written: u64,
    /// The chain value after the last frame that was written.
    chain: u32,
    /// The payload of the frame that is being made.
    payload: Vec<u8>,
    most_payload_bytes: usize,
    output: Option<Output>,
}

/// The segment that is being written. If its source is an archive, it becomes an archive in the
/// end.
struct Output {
    source: Arc<StreamedFile>,
    segment: NewSegment,
}

impl<M: Model> Rewriting<'_, M> {
    fn storage(&self) -> &dyn Storage {
        &*self.files.storage
    }

    /// Copies the initial snapshot byte for byte. It is the only one that does not change.
    fn copy_initial(&mut self, initial: &PackedFile) -> Result<(), Error> {
        let archived = self.snapshots.remove(&0).is_some_and(|wanted| wanted.archived);
        let target = snapshot_path(self.snapshot_directory(archived), 0);
        let path = &initial.path;
        let bytes = self.storage().read(path).map_err(Error::io("read", path))?;
        replace_file(self.storage(), &target, &bytes).map_err(Error::io("write", &target))
    }

    fn snapshot_directory(&self, archived: bool) -> &PathBuf {
        if archived { &self.staged.archive } else { &self.staged.snapshots }
    }

    /// Writes the new form of every frame. Returns the chain value at the end of the old history.
    fn all(&mut self, known: KnownChain) -> Result<u32, Error> {
        let chain_before = known.chain;
        let mut frames = self.files.frames(1, Some(known))?;
        while frames.advance()? {
            let Some((file, frame)) = frames.frame() else { break };
            self.write_into(file)?;
            self.rewrite_frame(file, &frame)?;
        }
        self.finish_output()?;
        Ok(frames.chain().unwrap_or(chain_before))
    }

    /// Makes the new form of `file` the output.
    fn write_into(&mut self, file: &Arc<StreamedFile>) -> Result<(), Error> {
        if self.output.as_ref().is_some_and(|output| Arc::ptr_eq(&output.source, file)) {
            return Ok(());
        }
        self.finish_output()?;
        let FileHeader { sequence, time_ns, model_version, model_name, commands, events, .. } =
            &file.header;
        let identity = SegmentIdentity {
            database: self.files.database,
            model_name: model_name.clone(),
            model_version: *model_version,
            commands: self.decisions.named::<M>(commands.clone(), *sequence),
            events: *events,
            // This program encodes replacements and events. All that it keeps has equal types: the
            // replay has checked that.
            schemas: self.identity.schemas,
        };
        let start =
            SegmentStart { first_sequence: *sequence, chain: self.chain, time_ns: *time_ns };
        let prepared = Prepared::now(self.storage(), &self.staged.journal, PREPARED_BYTES)?;
        let journal = &self.staged.journal;
        let segment = NewSegment::begin(self.storage(), journal, prepared, &identity, start)?;
        self.output = Some(Output { source: file.clone(), segment });
        Ok(())
    }

    fn finish_output(&mut self) -> Result<(), Error> {
        let Some(Output { source, segment }) = self.output.take() else { return Ok(()) };
        drop(segment.publish(self.storage())?);
        if source.header.magic != ARCHIVE_MAGIC {
            return Ok(());
        }
        let Directory { journal, archive, .. } = self.staged;
        let (first, next_segment_first) =
            (source.header.sequence, self.replica.replayed.sequence + 1);
        let range = (first, next_segment_first);
        archive_segment(self.storage(), journal, archive, range, self.packing, &Pace::full())?;
        let path = segment_path(journal, first);
        self.storage().remove(&path).map_err(Error::io("remove", &path))
    }

    fn rewrite_frame(&mut self, file: &Arc<StreamedFile>, old: &FrameRef<'_>) -> Result<(), Error> {
        let decisions = self.decisions;
        let stores_events = file.header.events == Events::Stored.code();
        let mut first = old.header.first_sequence;
        let mut events = Vec::new();
        old.each_record(&file.path, |sequence, record| {
            let mut record = decisions.rewritten(sequence, record);
            events.clear();
            // Nothing that was changed can have reached the commands before it.
            let stay = !stores_events || decisions.first().is_none_or(|first| sequence < first);
            self.apply(file, sequence, &record, (!stay).then_some(&mut events))?;
            if !stay {
                record.events = (!events.is_empty()).then_some(&events);
            }
            if first < sequence && self.payload.len() + record.bytes() > self.most_payload_bytes {
                self.write_frame(old, first, sequence)?;
                first = sequence;
            }
            record.push_onto(&mut self.payload);
            Ok::<_, Error>(())
        })?;
        let next = old.header.next_sequence();
        self.write_frame(old, first, next)?;
        match self.snapshots.remove(&(next - 1)) {
            Some(wanted) => self.write_snapshot(wanted),
            None => Ok(()),
        }
    }

    /// Replays a record of the new history, and puts the encoded events that it emits into
    /// `events`: from the first change on, the stored ones may hold what is to be erased. If the
    /// record is refused behind the first change, that change may be the cause, so the error is
    /// that of a refused purge.
    fn apply(
        &mut self,
        file: &Arc<StreamedFile>,
        sequence: u64,
        record: &Record<'_>,
        events: Option<&mut Vec<u8>>,
    ) -> Result<(), Error> {
        let command = || name::<M>(record.tag).to_owned();
        let mut emitted = Vec::new();
        self.replica.is_of_this_program = self.decisions.replaces(sequence);
        self.replica.apply_and_emit(file, record, &mut emitted).map_err(|error| match error {
            Error::ReplayDiverged { reason, .. }
                if self.decisions.first().is_some_and(|first| first <= sequence) =>
            {
                Error::PurgeRefused { sequence, command: command(), reason }
            }
            error => error,
        })?;
        let Some(events) = events.filter(|_| !emitted.is_empty()) else { return Ok(()) };
        let encoded = told_of_panics("event's Serialize", || encode_events::<M>(&emitted, events));
        let encoded = encoded.and_then(|encoded| encoded);
        encoded.and(drop_events(&mut emitted)).map_err(|reason| Error::PurgeRefused {
            sequence,
            command: command(),
            reason,
        })
    }

    /// Writes the records from `first` up to the one before `next` as a frame.
    fn write_frame(&mut self, old: &FrameRef<'_>, first: u64, next: u64) -> Result<(), Error> {
        let count = u32::try_from(next - first).expect("no more than the old frame counts");
        let header = FrameHeader {
            payload_length: self.payload.len(),
            first_sequence: first,
            durable_sequence: old.header.durable_sequence,
            count,
        };
        let frame =
            FrameRef { position: 0, header, payload: &self.payload, chain_before: self.chain };
        let output = self.output.as_mut().expect("`write_into` has made it");
        self.chain = output.segment.push_frame(&frame)?;
        self.payload.clear();
        Ok(())
    }

    fn write_snapshot(&mut self, Wanted { archived, requests }: Wanted) -> Result<(), Error> {
        let replayed = &self.replica.replayed;
        let (sequence, time_ns) = (replayed.sequence, replayed.time_ns);
        let requests = replayed.requests.within(requests);
        let version = Version::written(replayed.model.clone(), sequence, time_ns, self.chain)
            .with_requests(requests);
        let header =
            snapshot_header::<M>(&self.identity, self.packing, sequence, time_ns, self.chain);
        let directory = self.snapshot_directory(archived);
        let (storage, pace) = (self.storage(), Pace::full());
        write_version(storage, directory, &header, &version, None, self.packing, &pace, |_| true)?;
        self.written += 1;
        Ok(())
    }

    /// Writes an empty segment behind the last command, which the MANIFEST will name as the newest.
    /// All wanted snapshots must have been made.
    fn end(&self) -> Result<(), Error> {
        if let Some((&sequence, &Wanted { archived, .. })) = self.snapshots.first_key_value() {
            let directory = &self.files.directory;
            let directory = if archived { &directory.archive } else { &directory.snapshots };
            let path = snapshot_path(directory, sequence);
            let expected = "the sequence of a batch's last command";
            return Err(Error::corrupt(&path, 40, expected, sequence.to_string()));
        }
        let start = SegmentStart {
            first_sequence: self.files.newest + 1,
            chain: self.chain,
            time_ns: self.replica.replayed.time_ns,
        };
        let (storage, journal) = (self.storage(), &self.staged.journal);
        let prepared = Prepared::now(storage, journal, PREPARED_BYTES)?;
        publish_segment(storage, journal, prepared, &self.identity, start, [].iter())?;
        // This also makes the removal of those segments durable that became archives.
        storage.sync_directory(journal).map_err(Error::io("sync directory", journal))
    }
}
