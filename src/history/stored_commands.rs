//! Owns the way through a stored history command by command: every record of every frame, checked
//! and with its sequence. Knows nothing of models.

use std::sync::Arc;

use super::frames::Frames;
use super::source::HistoryFiles;
use crate::error::Error;
use crate::journal::{Record, StreamedFile};
use crate::model::{REDACTED_NAME, REDACTED_TAG};
use crate::recovery::KnownChain;

/// One stored command, where it is stored.
pub(crate) struct StoredCommand<'a> {
    pub(crate) file: &'a Arc<StreamedFile>,
    pub(crate) sequence: u64,
    pub(crate) record: Record<'a>,
    /// The chain value after the command, if it is the last one of its batch.
    pub(crate) chain: Option<u32>,
}

impl StoredCommand<'_> {
    /// Returns the command's name in its file.
    pub(crate) fn name(&self) -> &str {
        let tag = self.record.tag;
        if tag == REDACTED_TAG {
            return REDACTED_NAME;
        }
        let named = self.file.header.commands.iter().find(|(known, _)| *known == tag);
        named.map_or("(not in the file's table)", |(_, name)| name)
    }
}

/// The commands of a history, in order.
pub(crate) struct StoredCommands {
    frames: Frames,
    /// Where the next record begins in the frame's payload, and how long that is.
    at: usize,
    payload_bytes: usize,
    /// The sequence of the next record.
    sequence: u64,
}

impl HistoryFiles {
    /// Opens the commands of this history, beginning with the sequence `from`. `known` is the chain
    /// value before `from`, if the caller knows it.
    pub(crate) fn commands(
        self: &Arc<Self>,
        from: u64,
        known: Option<KnownChain>,
    ) -> Result<StoredCommands, Error> {
        let frames = self.frames(from, known)?;
        Ok(StoredCommands { frames, at: 0, payload_bytes: 0, sequence: from })
    }
}

impl StoredCommands {
    /// Goes to the next command. Returns `None` at the end of the history.
    pub(crate) fn next(&mut self) -> Result<Option<StoredCommand<'_>>, Error> {
        if !self.find_next()? {
            return Ok(None);
        }
        let Some((file, frame)) = self.frames.frame() else { return Ok(None) };
        let (record, next) = frame.record_at(&file.path, self.at)?;
        let sequence = self.sequence;
        self.at = next;
        self.sequence += 1;
        let is_last = self.sequence == frame.header.next_sequence();
        let chain = self.frames.chain().filter(|_| is_last);
        Ok(Some(StoredCommand { file, sequence, record, chain }))
    }

    /// The chain value after the frame of the last command that was given.
    pub(crate) fn chain(&self) -> Option<u32> {
        self.frames.chain()
    }

    /// Goes to the next record that was asked for, perhaps in the next frame.
    fn find_next(&mut self) -> Result<bool, Error> {
        loop {
            while self.at < self.payload_bytes {
                if self.sequence >= self.frames.from() {
                    return Ok(true);
                }
                let Some((file, frame)) = self.frames.frame() else { return Ok(false) };
                (_, self.at) = frame.record_at(&file.path, self.at)?;
                self.sequence += 1;
            }
            if let Some((file, frame)) = self.frames.frame() {
                frame.check_count(&file.path, self.sequence)?;
            }
            if !self.frames.advance()? {
                return Ok(false);
            }
            let Some((_, frame)) = self.frames.frame() else { return Ok(false) };
            (self.at, self.payload_bytes) = (0, frame.payload.len());
            self.sequence = frame.header.first_sequence;
        }
    }
}
