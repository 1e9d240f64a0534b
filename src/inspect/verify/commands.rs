//! Owns the way through all files with commands, oldest first: whether each continues the one
//! before, and whether the chain is what other files state. Knows nothing of one file's inside.

use std::path::{Path, PathBuf};

use super::finding::Finding;
use super::{Check, if_there};
use crate::error::Error;
use crate::files::{
    FileHeader, Manifest, State, archive_path, list_archives, list_segments, segment_path,
};
use crate::journal::FrameRef;
use crate::model::{Metadata, REDACTED_TAG};

/// How often the MANIFEST is read again because it has changed meanwhile.
const MOST_LOOKS: u32 = 16;

/// The place between two commands.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// The sequence of the next command; `None` before the first file.
    pub(super) next: Option<u64>,
    /// The chain value before it; `None` if it is not known, because of damage before.
    pub(super) chain: Option<u32>,
    /// The file before.
    pub(super) before: Option<PathBuf>,
    /// The time of the command before.
    pub(super) time_ns: u64,
}

impl Check<'_> {
    /// Verifies archives and segments. Returns the newest sequence.
    pub(super) fn commands(&mut self) -> Result<u64, Error> {
        let storage = self.storage.clone();
        let directory = self.directory.clone();
        if let Some(manifest) = &self.manifest {
            let source = directory.root.join(crate::files::MANIFEST_NAME);
            let (sequence, chain) = (manifest.sequence, manifest.chain);
            self.known.push(super::KnownChain { sequence, chain, source });
        }
        let archives = list_archives(&*storage, &directory.archive)?;
        let segments = if_there(list_segments(&*storage, &directory.journal))?;
        let mut place = Place::default();
        for (at, &first) in archives.iter().enumerate() {
            // A segment is in both places for an instant, between its archiving and its removal.
            let next_archive = archives.get(at + 1).copied();
            let next_segment = segments.iter().find(|&&it| it > first).copied();
            let next = next_archive.or(next_segment);
            self.archive(&archive_path(&directory.archive, first), first, next, &mut place)?;
        }
        // If the newest segment is missing, the one before must reach it nevertheless.
        let missing = self.manifest.as_ref().map(|it| it.newest_segment);
        let missing = missing.filter(|newest| !segments.contains(newest));
        let mut carried = None;
        for (at, &first) in segments.iter().enumerate() {
            let path = segment_path(&directory.journal, first);
            let next = segments.get(at + 1).copied();
            let next = next.or(missing.filter(|&newest| newest > first));
            if archives.contains(&first) {
                place = Place::default(); // it was just read in the archive
            }
            carried = self.segment(&path, first, next, carried, &mut place)?;
        }
        let newest = place.next.map_or(0, |next| next.saturating_sub(1));
        if self.check_listed_files()? {
            self.check_end(newest, &place)?;
        }
        Ok(newest)
    }

    /// Compares the beginning of a file with the end of the one before.
    pub(super) fn enter(&mut self, path: &Path, header: &FileHeader, place: &mut Place) {
        let first = header.sequence;
        let expected_chain = match (place.next, self.database) {
            (Some(_), _) => place.chain,
            (None, Some(database)) if first == 1 => Some(crc32c::crc32c(&database.0)),
            (None, _) => None,
        };
        let before = match &place.before {
            Some(before) => before.display().to_string(),
            None => "the beginning of the database".to_owned(),
        };
        if let Some(next) = place.next
            && first != next
        {
            let expected = format!("sequence {next}, which follows {before}");
            let found = format!("sequence {first}");
            let finding = Finding::new(path, 40..48, &expected, &found);
            self.findings.push(match first > next {
                true => finding.losing(next, first - 1).meaning(
                    "A file with these commands is missing. The commands before and behind it can \
                     be read.",
                    "Restore the missing file from a backup.",
                ),
                false => finding.meaning(
                    "Two files hold the same sequences. One of them is from a copy of this \
                     database, or from a later time.",
                    "Move the file that does not belong here out of the directory.",
                ),
            });
        } else if let Some(expected) = expected_chain
            && expected != header.chain
        {
            let expected = format!("chain {expected:08x}, as at the end of {before}");
            let found = format!("{:08x}", header.chain);
            let finding = Finding::new(path, 76..80, &expected, &found);
            self.findings.push(finding.meaning(
                "This file does not continue the one before: one of the two is from another copy \
                 of this database. An open that needs both fails.",
                "Put the right file back from a backup of the same time.",
            ));
        }
        let time_ns = place.time_ns;
        let before = Some(path.to_path_buf());
        *place = Place { next: Some(first), chain: Some(header.chain), before, time_ns };
        self.check_known(place);
    }

    /// Compares the chain value here with what snapshots, the MANIFEST and purge records state.
    pub(super) fn check_known(&mut self, place: &Place) {
        let (Some(next), Some(chain)) = (place.next, place.chain) else { return };
        let is_here = |sequence: u64| sequence.checked_add(1) == Some(next);
        if !self.known.iter().any(|known| is_here(known.sequence)) {
            return; // as behind most batches
        }
        let known = self.known.iter().filter(|known| is_here(known.sequence));
        let wrong: Vec<_> = known.filter(|known| known.chain != chain).cloned().collect();
        for known in wrong {
            let sequence = known.sequence;
            let expected = format!("chain {chain:08x} at sequence {sequence}, as in the journal");
            let found = format!("{:08x}", known.chain);
            self.findings.push(Finding::new(&known.source, 0..0, &expected, &found).meaning(
                "This file and the journal are of different histories. An open that needs both \
                 fails.",
                "Put the right file back from a backup of the same time.",
            ));
        }
        self.known.retain(|known| !is_here(known.sequence));
    }

    /// Checks the records of a frame that was verified, and goes behind it.
    pub(super) fn frame(
        &mut self,
        path: &Path,
        header: &FileHeader,
        frame: &FrameRef<'_>,
        chain: u32,
        place: &mut Place,
    ) {
        let mut time_ns = place.time_ns;
        let is_deep = self.is_deep();
        let checked = frame.each_record(path, |sequence, record| {
            let wrong = |expected: String, found: String| {
                Err(Error::corrupt(path, frame.position, expected, found))
            };
            let is_named = header.commands.iter().any(|(tag, _)| *tag == record.tag);
            if !is_named && record.tag != REDACTED_TAG {
                let expected = format!("a tag of the file's table for command {sequence}");
                return wrong(expected, format!("tag {}", record.tag));
            }
            if record.time_ns < time_ns {
                let expected = format!("a time of command {sequence} from {time_ns} ns on");
                return wrong(expected, format!("{} ns", record.time_ns));
            }
            time_ns = record.time_ns;
            if is_deep && let Err(reason) = Metadata::decode(record.metadata) {
                return wrong(format!("metadata of command {sequence}"), reason);
            }
            Ok(())
        });
        if let Err(error) = checked {
            let (first, next) = (frame.header.first_sequence, frame.header.next_sequence());
            let end = frame.position.saturating_add(super::position(frame.header.frame_bytes()));
            let mut finding = Finding::of(&error, path, |_, _| frame.position..end);
            finding = finding.losing(first, next.saturating_sub(1));
            self.findings.push(finding.meaning(
                "The checksums of this batch are right, but not its content. So it was written \
                 like this.",
                "Keep a copy of the directory, and report it to those who make `prevalence`.",
            ));
        }
        self.commands += u64::from(frame.header.count);
        place.time_ns = time_ns;
        (place.next, place.chain) = (Some(frame.header.next_sequence()), Some(chain));
        self.check_inside(frame);
        self.check_known(place);
    }

    /// Checks that no snapshot is of a sequence inside of a batch.
    fn check_inside(&mut self, frame: &FrameRef<'_>) {
        let (first, last) =
            (frame.header.first_sequence, frame.header.next_sequence().saturating_sub(1));
        let inside = |sequence: u64| (first..last).contains(&sequence);
        if !self.known.iter().any(|known| inside(known.sequence)) {
            return;
        }
        let wrong: Vec<_> =
            self.known.iter().filter(|known| inside(known.sequence)).cloned().collect();
        for known in wrong {
            let expected = format!("a sequence at the end of a batch, not in {first} to {last}");
            let found = format!("sequence {}", known.sequence);
            self.findings.push(Finding::new(&known.source, 0..0, &expected, &found).meaning(
                "This file and the journal are of different histories.",
                "Put the right file back from a backup of the same time.",
            ));
        }
        self.known.retain(|known| !inside(known.sequence));
    }

    /// Returns the MANIFEST as it is now, and the segments that are there with it; `None` if it
    /// cannot be read, or changes all the time.
    fn now(&self) -> Result<Option<(Manifest, Vec<u64>)>, Error> {
        for _ in 0..MOST_LOOKS {
            let read = || super::settled_manifest(&self.storage, &self.directory.root);
            let Ok(manifest) = read() else { return Ok(None) };
            let segments = if_there(list_segments(&*self.storage, &self.directory.journal))?;
            if read().is_ok_and(|again| again == manifest) {
                return Ok(Some((manifest, segments)));
            }
        }
        Ok(None)
    }

    /// Checks that the segments that must exist do. Returns whether the newest one does.
    fn check_listed_files(&mut self) -> Result<bool, Error> {
        let Some((manifest, segments)) = self.now()? else { return Ok(true) };
        let journal = self.directory.journal.clone();
        let newest = manifest.newest_segment;
        let has_newest = segments.contains(&newest);
        if !has_newest {
            let path = segment_path(&journal, newest);
            let expected = "the newest segment, as the MANIFEST states";
            let last = manifest.sequence;
            let finding = Finding::new(&path, 0..0, expected, "no file").losing(newest, last);
            self.findings.push(finding.meaning(
                "An open fails. The commands that this file held are lost, unless a copy of it is \
                 found.",
                "Restore the file from a backup or from wherever it was moved.",
            ));
        }
        let Some(&oldest) = manifest.snapshots.first() else { return Ok(has_newest) };
        let needed = oldest.saturating_add(1);
        let reaches = segments.first().is_some_and(|&first| first <= needed);
        if !reaches {
            let path = segment_path(&journal, needed);
            let expected = format!("a segment with sequence {needed}, behind snapshot {oldest}");
            let last = segments.first().map_or(needed, |first| first.saturating_sub(1));
            let finding = Finding::new(&path, 0..0, &expected, "no file");
            let finding = match self.is_archived(needed)? {
                true => finding,
                false => finding.losing(needed, last),
            };
            self.findings.push(finding.meaning(
                format!(
                    "An open cannot use snapshot {oldest}. If a newer snapshot is undamaged, it \
                     uses that one."
                ),
                "Restore the segment from a backup.",
            ));
        }
        Ok(has_newest)
    }

    /// Returns whether an archive begins at a sequence or before it.
    fn is_archived(&self, sequence: u64) -> Result<bool, Error> {
        let archives = list_archives(&*self.storage, &self.directory.archive)?;
        Ok(archives.first().is_some_and(|&first| first <= sequence))
    }

    /// Compares the journal's end with what the MANIFEST states.
    fn check_end(&mut self, newest: u64, place: &Place) -> Result<(), Error> {
        let Some(manifest) = self.manifest.clone().filter(|_| place.chain.is_some()) else {
            return Ok(());
        };
        let path = self.directory.root.join(crate::files::MANIFEST_NAME);
        if manifest.state == State::Clean && manifest.sequence != newest {
            // Somebody may have opened it meanwhile, and written.
            let now = super::settled_manifest(&self.storage, &self.directory.root)?;
            if now != manifest {
                return Ok(());
            }
            let expected = format!("sequence {newest}, with which the journal ends");
            let found = format!("closed at sequence {}", manifest.sequence);
            let finding = Finding::new(&path, 40..48, &expected, &found);
            self.findings.push(
                finding.losing(newest.saturating_add(1), manifest.sequence).meaning(
                    "The MANIFEST and the journal are of different times. An open fails.",
                    "Restore the whole directory from a backup of one time.",
                ),
            );
        }
        Ok(())
    }
}
