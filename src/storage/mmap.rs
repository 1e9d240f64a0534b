//! Owns memory maps, and with them the only `unsafe` outside `collections`: maps of files, to read
//! them, and the map of one page, to notice a fork. Knows nothing of formats.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::sync::Arc;

use memmap2::Mmap;

use super::ReadableFile;

/// The bytes of one file, as they were when it was opened for reading.
#[derive(Debug)]
pub(crate) enum FileBytes {
    /// Mapped from the page cache.
    Mapped(Mmap),
    /// Held in memory: an empty file (which cannot be mapped), or a file of a simulated disk.
    Owned(Vec<u8>),
    /// Shared with a file that is itself in memory.
    Shared(Arc<Vec<u8>>),
}

impl FileBytes {
    /// Maps the whole of `file`.
    pub(crate) fn map(file: &File) -> io::Result<Self> {
        if file.metadata()?.len() == 0 {
            return Ok(Self::Owned(Vec::new()));
        }
        // SAFETY: a map is sound while nobody changes the file's length or bytes under it. Files
        // are mapped only while the directory's LOCK is held, and a published journal segment or
        // snapshot is never written again except by the appender of this very process, which
        // appends only to segments that it made itself, and maps none of those.
        // A process that ignores the lock can still break this; `limitations` says so.
        let map = unsafe { Mmap::map(file)? };
        Ok(Self::Mapped(map))
    }
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

impl ReadableFile for FileBytes {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, target: &mut [u8], position: u64) -> io::Result<usize> {
        let begin = usize::try_from(position).unwrap_or(usize::MAX);
        let source = self.get(begin..).unwrap_or(&[]);
        let length = source.len().min(target.len());
        let (source, _) = source.split_at(length);
        let (target, _) = target.split_at_mut(length);
        target.copy_from_slice(source);
        Ok(length)
    }

    fn bytes(&self) -> Option<&[u8]> {
        Some(self)
    }
}

/// A page that the kernel zeroes in the child of a fork.
#[derive(Debug)]
pub(crate) struct ForkMark {
    page: memmap2::MmapMut,
}

impl ForkMark {
    /// Makes the page; `None` if the system has no such pages.
    #[cfg(target_os = "linux")]
    pub(crate) fn new() -> Option<Self> {
        use rustix::mm::{Advice, madvise};

        let mut page = memmap2::MmapMut::map_anon(1).ok()?;
        *page.first_mut()? = 1;
        // SAFETY: the range is that of the map, which is private and anonymous, and nobody else has
        // a reference to it. The advice changes nothing in this process. A child's copy holds zeros
        // before any code of the child runs. The test `place::a_fork_is_told_apart` would notice a
        // mistake here.
        unsafe { madvise(page.as_mut_ptr().cast(), page.len(), Advice::LinuxWipeOnFork) }.ok()?;
        Some(Self { page })
    }

    /// Returns `None`: this system has no such pages.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn new() -> Option<Self> {
        None
    }

    /// Returns whether this process was forked after the page was made.
    pub(crate) fn is_forked(&self) -> bool {
        // SAFETY: the pointer is that of the map's first byte, which lives as long as `self`. The
        // read is volatile, because the kernel changes the byte, not this program.
        let byte = unsafe { self.page.as_ptr().read_volatile() };
        byte == 0
    }
}
