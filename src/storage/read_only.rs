//! Owns reading a directory beside others: [`Storage`] that changes nothing, locks nothing and maps
//! no file. So whoever uses it can neither disturb a writer nor end with a file that is cut. Knows
//! nothing of what the bytes mean.
//!
//! It does not change the time of the last access either, where the system lets it. That time is
//! metadata: to change it, a file system such as ext4 enters its journal, and waits there for the
//! commit of a writer's sync.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::{Mode, OFlags};

use super::disk::{DiskReadable, open_regular_flags};
use super::{
    Disk, Entry, EntryKind, FileBytes, Lock, ReadableFile, Storage, TemporaryFile, read_up_to,
};

/// The largest file that is read as a whole: the STANDING of a follower with the most dead letters
/// is smaller.
const LARGEST_WHOLE_BYTES: u64 = 256 << 20;

/// The file system of this machine, for reading alone.
#[derive(Debug)]
pub(crate) struct ReadOnlyDisk;

fn refused<T>() -> io::Result<T> {
    let reason = "this part of the program only reads and must not change anything";
    Err(io::Error::new(ErrorKind::PermissionDenied, reason))
}

/// The flag with which a file is opened so that reading it leaves its times.
#[cfg(target_os = "linux")]
const LEAVES_TIMES: OFlags = OFlags::NOATIME;
#[cfg(not(target_os = "linux"))]
const LEAVES_TIMES: OFlags = OFlags::empty();

/// Opens a file or a directory so that reading it changes nothing. Only its owner may ask for that;
/// for others, the system notes the access.
fn open_leaving_times(path: &Path, flags: OFlags) -> io::Result<File> {
    let open = |flags: OFlags| {
        rustix::io::retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty())).map(File::from)
    };
    let opened = open(flags | LEAVES_TIMES).or_else(|error| match error {
        rustix::io::Errno::PERM => open(flags),
        error => Err(error),
    });
    Ok(opened?)
}

impl Storage for ReadOnlyDisk {
    fn kind(&self, path: &Path) -> io::Result<Option<EntryKind>> {
        Disk.kind(path)
    }

    fn create_directory(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY;
        let directory = open_leaving_times(directory, flags)?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(directory)? {
            let entry = entry?;
            let name = std::ffi::OsStr::from_bytes(entry.file_name().to_bytes());
            if let Some(name) = name.to_str().filter(|name| ![".", ".."].contains(name)) {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn entries(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        Disk.entries(directory)
    }

    fn read(&self, path: &Path) -> io::Result<FileBytes> {
        let file = self.open_to_read(path)?;
        let length = file.length();
        let Some(length) = usize::try_from(length).ok().filter(|_| length <= LARGEST_WHOLE_BYTES)
        else {
            let reason = format!(
                "it has {length} bytes, but files of this kind have at most {LARGEST_WHOLE_BYTES}"
            );
            return Err(io::Error::new(ErrorKind::InvalidData, reason));
        };
        let mut bytes = vec![0; length];
        let read = read_up_to(&*file, &mut bytes, 0)?;
        bytes.truncate(read);
        Ok(FileBytes::Owned(bytes))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Box<dyn ReadableFile>> {
        // This looks first, because opening a FIFO would wait for a writer for ever.
        if self.kind(path)?.is_some_and(|kind| kind != EntryKind::File) {
            let reason = "it is not a regular file; move it away";
            return Err(io::Error::new(ErrorKind::InvalidInput, reason));
        }
        let file = open_leaving_times(path, open_regular_flags())?;
        Ok(Box::new(DiskReadable::new(file)?))
    }

    fn create_temporary(&self, _: &Path) -> io::Result<Box<dyn TemporaryFile>> {
        refused()
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        refused()
    }

    fn shorten(&self, _: &Path, _: u64) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn remove_directory(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn lock(&self, _: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        refused()
    }

    fn now(&self) -> SystemTime {
        Disk.now()
    }

    fn random(&self) -> io::Result<[u8; 16]> {
        Disk.random()
    }

    fn for_copies(self: Arc<Self>) -> Arc<dyn Storage> {
        self
    }
}
