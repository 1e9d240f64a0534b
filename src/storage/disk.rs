//! Owns the real disk: [`Storage`] on top of `std::fs`. Knows nothing of what the bytes mean.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::{Mode, OFlags};

use super::{
    Entry, EntryKind, FileBytes, Lock, ReadableFile, Storage, StoredFile, TEMPORARY_PREFIX,
    TEMPORARY_SUFFIX, TemporaryFile,
};

/// The file system of this machine.
#[derive(Debug)]
pub(crate) struct Disk;

impl Disk {
    /// Opens a regular file. It checks the kind first, because opening a FIFO would wait for a
    /// writer for ever.
    fn open_regular(&self, path: &Path) -> io::Result<File> {
        if self.kind(path)?.is_some_and(|kind| kind != EntryKind::File) {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                "it is not a regular file; move it away",
            ));
        }
        let open = || rustix::fs::open(path, open_regular_flags(), Mode::empty());
        Ok(File::from(rustix::io::retry_on_intr(open)?))
    }
}

/// Returns the flags to open a file for reading. They do not wait, even if a FIFO has taken the
/// file's place meanwhile.
pub(super) fn open_regular_flags() -> OFlags {
    OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK
}

/// Exchanges two names in one step, so that at each moment something has either. Both names must
/// exist, in one file system that can do this.
#[cfg(target_os = "linux")]
pub(crate) fn exchange_names(one: &Path, other: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

/// As above. Other systems cannot do it in one step, so nothing is done.
#[cfg(not(target_os = "linux"))]
pub(crate) fn exchange_names(_: &Path, _: &Path) -> io::Result<()> {
    let reason =
        "this system cannot exchange two names in one step; rename the directories yourself";
    Err(io::Error::new(ErrorKind::Unsupported, reason))
}

impl Storage for Disk {
    fn kind(&self, path: &Path) -> io::Result<Option<EntryKind>> {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => Ok(Some(EntryKind::File)),
            Ok(metadata) if metadata.is_dir() => Ok(Some(EntryKind::Directory)),
            Ok(_) => Ok(Some(EntryKind::Other)),
            // A dangling link counts as an entry: creating a file through it would surprise the
            // user. Nothing can stand below a file either.
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                Ok(fs::symlink_metadata(path).ok().map(|_| EntryKind::Other))
            }
            Err(error) => Err(error),
        }
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        moment!(Elsewhere);
        fs::create_dir(path)
    }

    fn create_directory_like(&self, path: &Path, model: &Path) -> io::Result<()> {
        fs::create_dir(path)?;
        fs::set_permissions(path, fs::metadata(model)?.permissions())
    }

    fn is_mount_point(&self, path: &Path) -> io::Result<bool> {
        let Some(parent) = path.parent() else { return Ok(true) };
        Ok(fs::symlink_metadata(path)?.dev() != fs::metadata(parent)?.dev())
    }

    fn entry_that_is_no_file(&self, directory: &Path) -> io::Result<Option<PathBuf>> {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_name().to_str().is_none() || !entry.file_type()?.is_file() {
                return Ok(Some(entry.path()));
            }
        }
        Ok(None)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        moment!(Read);
        let mut names = Vec::new();
        for entry in fs::read_dir(directory)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn entries(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let Some(kind) = self.kind(&entry.path())? else { continue };
            let bytes = match kind {
                EntryKind::File => match fs::metadata(entry.path()) {
                    Ok(metadata) => metadata.len(),
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                },
                EntryKind::Directory | EntryKind::Other => 0,
            };
            entries.push(Entry { name: entry.file_name(), kind, bytes });
        }
        Ok(entries)
    }

    fn read(&self, path: &Path) -> io::Result<FileBytes> {
        moment!(Read);
        FileBytes::map(&self.open_regular(path)?)
    }

    // This reads by position and not through a map: the bytes of a map could change while they are
    // read, and a file that was cut would end the process.
    fn open_to_read(&self, path: &Path) -> io::Result<Box<dyn ReadableFile>> {
        moment!(Read);
        Ok(Box::new(DiskReadable::new(self.open_regular(path)?)?))
    }

    fn create_temporary(&self, directory: &Path) -> io::Result<Box<dyn TemporaryFile>> {
        moment!(Elsewhere);
        let file = tempfile::Builder::new()
            .prefix(TEMPORARY_PREFIX)
            .suffix(TEMPORARY_SUFFIX)
            // The umask decides, as for any file that a program makes. With tempfile's own 0600,
            // another user could not back up the files.
            .permissions(fs::Permissions::from_mode(0o666))
            .tempfile_in(directory)?;
        let (file, path) = file.into_parts();
        Ok(Box::new(DiskTemporary { file: Arc::new(DiskFile(file)), path }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        moment!(Elsewhere);
        fs::rename(from, to)
    }

    fn shorten(&self, path: &Path, length: u64) -> io::Result<()> {
        moment!(Elsewhere);
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(length)?;
        file.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        moment!(Elsewhere);
        fs::remove_file(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        moment!(Elsewhere);
        // A user who keeps part of a database on another disk has a link here.
        if fs::symlink_metadata(path)?.is_symlink() {
            return fs::remove_file(path);
        }
        fs::remove_dir(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        moment!(SyncDirectory);
        File::open(directory)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        moment!(Lock);
        if self.kind(path)?.is_some_and(|kind| kind != EntryKind::File) {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                "it is not a regular file; move it away",
            ));
        }
        let file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(DiskLock(file)))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn random(&self) -> io::Result<[u8; 16]> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        Ok(bytes)
    }

    fn for_copies(self: Arc<Self>) -> Arc<dyn Storage> {
        self
    }
}

pub(super) struct DiskReadable {
    file: File,
    length: u64,
}

impl DiskReadable {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self { file, length })
    }
}

impl ReadableFile for DiskReadable {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, target: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(target, position)
    }
}

/// Writes with one system call per `call_bytes`.
pub(super) fn write_in_calls(
    file: &File,
    bytes: &[u8],
    position: u64,
    call_bytes: usize,
) -> io::Result<usize> {
    let mut done = 0;
    for part in bytes.chunks(call_bytes.max(1)) {
        match file.write_at(part, position + done as u64) {
            Ok(written) => {
                done += written;
                if written < part.len() {
                    break;
                }
            }
            // The caller comes again with the rest, and then gets the error.
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

struct DiskFile(File);

impl StoredFile for DiskFile {
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<usize> {
        moment!(Write);
        self.0.write_at(bytes, position)
    }

    fn write_zeros_at(&self, zeros: &[u8], position: u64, call_bytes: usize) -> io::Result<usize> {
        moment!(Write);
        write_in_calls(&self.0, zeros, position, call_bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        moment!(Sync);
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        moment!(Sync);
        self.0.sync_all()
    }
}

struct DiskTemporary {
    file: Arc<DiskFile>,
    path: tempfile::TempPath,
}

impl TemporaryFile for DiskTemporary {
    fn file(&self) -> Arc<dyn StoredFile> {
        self.file.clone()
    }

    fn publish(self: Box<Self>, target: &Path) -> io::Result<()> {
        moment!(Elsewhere);
        self.path.persist(target).map_err(|error| error.error)
    }
}

/// A lock that is released explicitly: a forked child may have inherited the descriptor, and then
/// closing ours would not release the lock.
struct DiskLock(File);

impl Lock for DiskLock {
    fn unlock(self: Box<Self>) -> io::Result<()> {
        self.0.unlock()
    }
}

impl Drop for DiskLock {
    fn drop(&mut self) {
        // A drop cannot report a failure; `unlock` can.
        self.0.unlock().ok();
    }
}
