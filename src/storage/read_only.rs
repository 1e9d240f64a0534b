//! Owns reading a directory beside others: [`Storage`] that changes nothing, locks nothing and maps
//! no file. So whoever uses it can neither disturb a writer nor end with a file that is cut. Knows
//! nothing of what the bytes mean.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

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

impl Storage for ReadOnlyDisk {
    fn kind(&self, path: &Path) -> io::Result<Option<EntryKind>> {
        Disk.kind(path)
    }

    fn create_directory(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        Disk.list(directory)
    }

    fn entries(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        Disk.entries(directory)
    }

    fn read(&self, path: &Path) -> io::Result<FileBytes> {
        let file = Disk.open_to_read(path)?;
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
        Disk.open_to_read(path)
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
