//! Owns the verification of one archived segment, beyond its damage. Knows nothing of the other
//! files.

use std::ops::Range;
use std::path::Path;

use super::Check;
use super::commands::Place;
use super::finding::{Finding, told_lost};
use crate::error::Error;
use crate::files::{ARCHIVE_MAGIC, DamagedPart, PackedFile, StoreError};
use crate::journal::{FrameStream, chain_before};
use crate::storage::Pace;

/// How often reading goes on behind damage in one archive.
const MOST_RESTARTS: u32 = 4096;

const ADVICE: &str = "Restore the file from a copy of this directory. Archives never change.";

/// Content that cannot be read, with its commands.
struct Lost {
    content: Range<u64>,
    first: u64,
    last: u64,
    error: Error,
}

impl Check<'_> {
    /// Verifies the archive that begins with `first`.
    pub(super) fn archive(
        &mut self,
        path: &Path,
        first: u64,
        next: Option<u64>,
        place: &mut Place,
    ) -> Result<(), Error> {
        let opened = self.open_archive(path, first);
        let file = match opened {
            Ok(file) => file,
            Err(error) => {
                if self.is_gone(path) {
                    *place = Place::default();
                    return Ok(());
                }
                let last = next.map_or(first, |next| next - 1);
                let finding = self.finding(&error, path).losing(first, last);
                self.findings.push(finding.meaning(
                    "No command of this archive can be read. An open does not need them, but it \
                     refuses an archive whose header is damaged.",
                    ADVICE,
                ));
                let (before, time_ns) = (Some(path.to_path_buf()), place.time_ns);
                *place = Place { next, chain: None, before, time_ns };
                return Ok(());
            }
        };
        self.files += 1;
        let (end, chain) = (file.footer.sequence, file.footer.chain);
        if self.is_held_twice(&file, place) {
            self.note_held_twice(&file, place);
            if place.next.is_some_and(|next| end < next) {
                self.step(file.file_bytes());
                return Ok(());
            }
            let (before, time_ns) = (Some(path.to_path_buf()), file.header.time_ns);
            *place = Place { next: Some(first), chain: Some(file.header.chain), before, time_ns };
        } else {
            self.enter(path, &file.header, place);
        }
        if self.is_deep() {
            self.archive_content(&file, place)?;
        } else {
            self.commands += end.saturating_add(1).saturating_sub(first);
        }
        (place.next, place.chain) = (Some(end.saturating_add(1)), Some(chain));
        self.check_known(place);
        Ok(())
    }

    /// Returns whether the archive before holds the first commands of this one, too, or all: a
    /// compaction that was interrupted leaves such files.
    fn is_held_twice(&self, file: &PackedFile, place: &Place) -> bool {
        let (first, end) = (file.header.sequence, file.footer.sequence);
        let (Some(next), Some(before)) = (place.next, &place.before) else { return false };
        if first >= next {
            return false;
        }
        let opened = PackedFile::open_beside_others(&*self.storage, before, ARCHIVE_MAGIC);
        // If it cannot be read, what is told of it is enough.
        let Ok(holding) = opened.map(|it| it.header.sequence) else { return true };
        let archive = &self.directory.archive;
        let has = |next, chain| {
            let found = chain_before(&*self.storage, archive, holding, next);
            // Damage there is told where it is.
            found.map_or(true, |found| found == Some(chain))
        };
        has(first, file.header.chain)
            && (end >= next || has(end.saturating_add(1), file.footer.chain))
    }

    fn note_held_twice(&mut self, file: &PackedFile, place: &Place) {
        let (first, end) = (file.header.sequence, file.footer.sequence);
        let before = place.before.as_deref().unwrap_or(Path::new("")).display();
        let expected = format!("sequence {}, which follows {before}", place.next.unwrap_or(first));
        let finding = Finding::new(&file.path, 40..48, &expected, &format!("sequence {first}"));
        let last = place.next.map_or(end, |next| next.saturating_sub(1)).min(end);
        self.findings.push(finding.noted().meaning(
            format!(
                "Both files hold the same commands {first} to {last}: a compaction of the \
                 archive was interrupted. Nothing is lost."
            ),
            "`prevalence compact-archive` goes on with it.",
        ));
    }

    fn open_archive(&mut self, path: &Path, first: u64) -> Result<PackedFile, Error> {
        let file = PackedFile::open_beside_others(&*self.storage, path, ARCHIVE_MAGIC)?;
        self.check_identity(path, &file.header)?;
        if file.header.sequence != first {
            let expected = format!("first sequence {first}, as the file's name says");
            let found = file.header.sequence.to_string();
            return Err(Error::corrupt(path, 40, expected, found));
        }
        if file.footer.sequence < first {
            let expected = format!("an end at sequence {first} or behind it");
            let found = file.footer.sequence.to_string();
            return Err(file.corrupt_content(expected, found).into());
        }
        Ok(file)
    }

    fn archive_content(&mut self, file: &PackedFile, place: &mut Place) -> Result<(), Error> {
        let (mut told_bytes, mut lost) = (0, Vec::new());
        self.archive_frames(file, place, &mut told_bytes, &mut lost)?;
        self.step(file.file_bytes().saturating_sub(told_bytes));
        // Whoever reads all frames has verified all chunks with them, except in a file of an early
        // version. Only damage is worth reading it once more, to find out where it is.
        let is_stream = file.footer_digest().is_none();
        if lost.is_empty() && !is_stream && file.verify_scripts(&Pace::full()).is_ok() {
            return Ok(());
        }
        let mut damaged = Vec::new();
        file.check_parts(&mut |_| Ok(()), &mut |part| damaged.push(part))?;
        for part in &damaged {
            let touches = |it: &&Lost| {
                it.content.start < part.content_range.end
                    && part.content_range.start < it.content.end
            };
            let first = lost.iter().filter(touches).map(|it| it.first).min();
            let last = lost.iter().filter(touches).map(|it| it.last).max();
            self.lost_part(part, first.zip(last));
        }
        // What no damaged chunk explains is told by itself.
        for it in lost {
            let is_told = damaged.iter().any(|part| {
                it.content.start < part.content_range.end
                    && part.content_range.start < it.content.end
            });
            if !is_told {
                let finding = self.finding(&it.error, &file.path).losing(it.first, it.last);
                let finding = Finding { bytes: 0..file.file_bytes(), ..finding };
                self.findings.push(finding.meaning(told(Some((it.first, it.last))), ADVICE));
            }
        }
        Ok(())
    }

    fn lost_part(&mut self, part: &DamagedPart, lost: Option<(u64, u64)>) {
        let mut finding = self.part_finding(part);
        if let Some((first, last)) = lost {
            finding = finding.losing(first, last);
        }
        self.findings.push(finding.meaning(told(lost), ADVICE));
    }

    /// Reads all frames. Behind damage it goes on at the next entry of the index.
    /// Counts the bytes of the file that it reads in `told`.
    fn archive_frames(
        &mut self,
        file: &PackedFile,
        place: &mut Place,
        told: &mut u64,
        lost: &mut Vec<Lost>,
    ) -> Result<(), Error> {
        let storage = self.storage.clone();
        let archive = self.directory.archive.clone();
        let first = file.header.sequence;
        let end = file.footer.sequence;
        let entries = match FrameStream::archive_entries(file) {
            Ok(entries) => entries,
            Err(error) => {
                let error = error.into();
                lost.push(Lost { content: 0..u64::MAX, first, last: end, error });
                return Ok(());
            }
        };
        let mut wanted = first;
        for _ in 0..MOST_RESTARTS {
            let opened = match wanted > first {
                true => FrameStream::of_archive(&*storage, &archive, first, wanted),
                false => FrameStream::of_whole_archive(&*storage, &archive, first),
            };
            let (at, next, error) = match opened {
                Err(error) => (0, wanted, error),
                Ok(mut frames) => {
                    if wanted > first {
                        let (sequence, chain) = (frames.next_sequence(), frames.chain());
                        (place.next, place.chain) = (Some(sequence), Some(chain));
                    }
                    match self.read_on(&mut frames, file, place, told) {
                        Ok(()) => return Ok(()),
                        Err(error) => (frames.position(), frames.next_sequence(), error),
                    }
                }
            };
            let error = match error {
                StoreError::Io { action, path, source } if action == "read" => {
                    // The digest of the whole content is told as an error of reading.
                    let is_content = source.kind() == std::io::ErrorKind::InvalidData;
                    if !is_content {
                        return Err(Error::Io { action, path, source });
                    }
                    Error::corrupt(&path, 0, "undamaged content", source.to_string())
                }
                error => error.into(),
            };
            let restart = entries
                .iter()
                .find(|(sequence, offset)| *sequence > wanted.max(next) && *offset > at)
                .or_else(|| entries.iter().find(|(sequence, _)| *sequence > wanted.max(next)));
            let Some(&(sequence, offset)) = restart else {
                let content = at..u64::MAX;
                if next <= end {
                    lost.push(Lost { content, first: next, last: end, error });
                } else if lost.is_empty() {
                    lost.push(Lost { content, first: 1, last: 0, error });
                }
                return Ok(());
            };
            let content = at..offset.max(at.saturating_add(1));
            lost.push(Lost { content, first: next, last: sequence.saturating_sub(1), error });
            wanted = sequence;
        }
        Ok(())
    }

    fn read_on(
        &mut self,
        frames: &mut FrameStream,
        file: &PackedFile,
        place: &mut Place,
        told: &mut u64,
    ) -> Result<(), StoreError> {
        let end = file.footer.sequence;
        while frames.next_sequence() <= end {
            if !frames.advance(end)? {
                let expected = format!("a frame with sequence {}", frames.next_sequence());
                return Err(file.corrupt_content(expected, "no frame".to_owned()));
            }
            let chain = frames.chain();
            if let Some(frame) = frames.frame() {
                self.frame(&file.path, &file.header, &frame, chain, place);
            }
            let read = file.file_bytes_at(frames.position()).max(*told);
            self.step(read - *told);
            *told = read;
        }
        frames.check_end()
    }
}

fn told(lost: Option<(u64, u64)>) -> String {
    let open = "An open does not need them, but the history and followers that read them do.";
    match lost.and_then(|(first, last)| told_lost(first, last)) {
        Some(lost) => format!("{lost} {open}"),
        None => "All commands of this archive can still be read.".to_owned(),
    }
}
