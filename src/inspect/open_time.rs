//! Owns how long an open takes at least on this machine, from samples of the files that it would
//! read. Knows nothing of what the program's types need besides.

use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use super::inspection::Inspection;
use crate::error::Error;
use crate::files::{PackedFile, SNAPSHOT_MAGIC, StoreError, position};
use crate::journal::FrameStream;
use crate::process::cores;

/// So many bytes of each file are read for it.
const SAMPLE_BYTES: u64 = 8 << 20;
const BLOCK_BYTES: usize = 64 << 10;

impl Inspection {
    /// Measures how long an open of this directory takes at least on this machine: so long it takes
    /// to unpack the snapshot on all cores, and to check the journal. A sample of each file is read
    /// for it, and the rest is taken to be alike. What the program's types need to be decoded, and
    /// its commands to be applied, comes on top, and no file says how long that takes. Returns
    /// `None` if an open would fail.
    ///
    /// # Errors
    /// A file is damaged, or cannot be read.
    pub fn least_open_time(&self) -> Result<Option<Duration>, Error> {
        let plan = self.open_plan();
        let Some(snapshot) = plan.snapshot.filter(|_| plan.problem.is_none()) else {
            return Ok(None);
        };
        let mut unpacking = Duration::ZERO;
        for path in &plan.snapshot_paths {
            unpacking = unpacking.saturating_add(self.unpacking(path)?);
        }
        let cores = u32::try_from(cores()).unwrap_or(u32::MAX).max(1);
        let journal = self.checking_journal(snapshot, plan.journal_bytes)?;
        Ok(Some((unpacking / cores).saturating_add(journal)))
    }

    fn unpacking(&self, path: &Path) -> Result<Duration, Error> {
        let files = self.known().history_files();
        let begin = Instant::now();
        let file = PackedFile::open_beside_others(&*files.storage, path, SNAPSHOT_MAGIC)?;
        let opening = begin.elapsed();
        let told = |error: std::io::Error| match error.downcast::<StoreError>() {
            Ok(error) => error.into(),
            Err(source) => Error::Io { action: "unpack", path: path.to_path_buf(), source },
        };
        let begin = Instant::now();
        let mut content = file.reader(0, false).map_err(told)?;
        let (mut block, mut sampled) = (vec![0; BLOCK_BYTES], 0);
        while sampled < SAMPLE_BYTES {
            match content.read(&mut block).map_err(told)? {
                0 => break,
                read => sampled += position(read),
            }
        }
        Ok(opening.saturating_add(scaled(begin.elapsed(), sampled, file.footer.raw_bytes)))
    }

    /// Measures the segment in which the journal goes on behind the snapshot.
    fn checking_journal(&self, snapshot: u64, bytes: u64) -> Result<Duration, Error> {
        let needed = snapshot.saturating_add(1);
        let segment = self.segments().iter().rfind(|it| it.first_sequence <= needed);
        let Some(segment) = segment else { return Ok(Duration::ZERO) };
        let files = self.known().history_files();
        let first = segment.first_sequence;
        let begin = Instant::now();
        let mut frames =
            FrameStream::of_segment(&*files.storage, &files.directory.journal, first, first, None)?;
        let start = frames.position();
        let last = segment.last_sequence.unwrap_or(self.newest_sequence());
        while frames.next_sequence() <= last
            && frames.position() - start < SAMPLE_BYTES
            && frames.advance(u64::MAX)?
        {}
        Ok(scaled(begin.elapsed(), frames.position() - start, bytes))
    }
}

/// Returns how long all of it takes if a sample took so long.
fn scaled(elapsed: Duration, sampled: u64, total: u64) -> Duration {
    if sampled == 0 || total <= sampled {
        return elapsed;
    }
    let nanos = elapsed.as_nanos().saturating_mul(total.into()) / u128::from(sampled);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_stands_for_all() {
        let second = Duration::from_secs(1);
        assert_eq!(scaled(second, 10, 25), Duration::from_millis(2500));
        assert_eq!(scaled(second, 10, 10), second);
        assert_eq!(scaled(second, 0, 1000), second);
        assert_eq!(scaled(Duration::MAX, 1, u64::MAX), Duration::from_nanos(u64::MAX));
    }
}
