//! Owns the disk of an open database: [`Storage`] that starts from the descriptors of its
//! [`Place`], so that it finds the same files after a change of the working directory or of the
//! directory's name. It uses plain paths for what is not below that place, and for everything
//! before the lock. Knows nothing of what the bytes mean.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::SystemTime;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, statat};
use rustix::io::{Errno, retry_on_intr};

use super::disk::{Disk, DiskReadable, open_regular_flags, write_in_calls};
use super::place::{FileIdentity, Found, HeldDirectory, Place, PlaceLost, Purpose, rename};
use super::{
    Clock, EntryKind, FileBytes, Lock, ReadableFile, Storage, StoredFile, TEMPORARY_PREFIX,
    TEMPORARY_SUFFIX, TemporaryFile,
};

/// The file system of this machine, with the place of one database.
#[derive(Debug, Default)]
pub(crate) struct HeldDisk {
    /// The place that the newest lock holds.
    place: RwLock<Option<Arc<Place>>>,
    clock: Clock,
}

impl HeldDisk {
    pub(crate) fn with_clock(clock: Clock) -> Self {
        Self { clock, ..Self::default() }
    }

    fn place(&self) -> Option<Arc<Place>> {
        if fault!(PlaceByPath) {
            return None;
        }
        self.place.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn find(&self, path: &Path) -> io::Result<Option<(Arc<Place>, Found)>> {
        let Some(place) = self.place() else { return Ok(None) };
        let found = place.find(path).transpose()?;
        Ok(found.map(|found| (place, found)))
    }

    /// Finds a path, as [`find`](Self::find), whose file or directory is about to be changed.
    fn find_to_change(&self, path: &Path) -> io::Result<Option<(Arc<Place>, Found)>> {
        let found = self.find(path)?;
        if let Some((place, _)) = &found {
            place.verify()?;
            moment!(Changing);
        }
        Ok(found)
    }

    fn directory(&self, path: &Path) -> io::Result<Option<(Arc<Place>, Arc<HeldDirectory>)>> {
        let Some(place) = self.place() else { return Ok(None) };
        let directory = place.directory(path).transpose()?;
        Ok(directory.map(|directory| (place, directory)))
    }

    fn take_lock(&self, path: &Path, purpose: Purpose) -> io::Result<Option<Box<dyn Lock>>> {
        let Some(place) = Place::lock(path, purpose)? else { return Ok(None) };
        let place = Arc::new(place);
        *self.place.write().unwrap_or_else(PoisonError::into_inner) = Some(place.clone());
        Ok(Some(Box::new(HeldLock(place))))
    }
}

fn kind_of(found: &Found) -> io::Result<Option<EntryKind>> {
    match statat(&*found.directory, &found.name, AtFlags::empty()) {
        Ok(stat) => Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => EntryKind::File,
            FileType::Directory => EntryKind::Directory,
            _ => EntryKind::Other,
        })),
        // A dangling link counts as an entry: creating a file through it would surprise the user.
        Err(Errno::NOENT | Errno::NOTDIR) => {
            let link = statat(&*found.directory, &found.name, AtFlags::SYMLINK_NOFOLLOW);
            Ok(link.ok().map(|_| EntryKind::Other))
        }
        Err(error) => Err(error.into()),
    }
}

fn open_regular(found: &Found) -> io::Result<File> {
    if kind_of(found)?.is_some_and(|kind| kind != EntryKind::File) {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            "it is not a regular file; move it away",
        ));
    }
    let open =
        || rustix::fs::openat(&*found.directory, &found.name, open_regular_flags(), Mode::empty());
    Ok(File::from(retry_on_intr(open)?))
}

fn sync(directory: &HeldDirectory) -> io::Result<()> {
    Ok(retry_on_intr(|| rustix::fs::fsync(directory))?)
}

/// Returns the entries of a directory, without `.` and `..`.
fn entries(directory: &HeldDirectory) -> io::Result<Vec<(OsString, FileType)>> {
    let mut found = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            found.push((name.to_owned(), entry.file_type()));
        }
    }
    Ok(found)
}

impl Storage for HeldDisk {
    fn kind(&self, path: &Path) -> io::Result<Option<EntryKind>> {
        match self.find(path) {
            Ok(None) => Disk.kind(path),
            Ok(Some((_, found))) => kind_of(&found),
            // A directory that does not exist holds nothing.
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        moment!(CreateDirectory);
        let Some((place, found)) = self.find_to_change(path)? else {
            return Disk.create_directory(path);
        };
        place.forget(&found);
        let mode = Mode::from_raw_mode(0o777);
        rustix::fs::mkdirat(&*found.directory, &found.name, mode)?;
        // From now on this process holds it, so that it notices another directory in its place.
        if !fault!(MadeAndNotHeld) {
            place.directory(path).transpose()?;
        }
        Ok(())
    }

    fn create_directory_like(&self, path: &Path, model: &Path) -> io::Result<()> {
        let (Some((_, made)), Some((_, model))) = (self.find(path)?, self.find(model)?) else {
            return Disk.create_directory_like(path, model);
        };
        self.create_directory(path)?;
        let mode = statat(&*model.directory, &model.name, AtFlags::empty())?.st_mode;
        let mode = Mode::from_raw_mode(mode);
        Ok(rustix::fs::chmodat(&*made.directory, &made.name, mode, AtFlags::empty())?)
    }

    fn is_mount_point(&self, path: &Path) -> io::Result<bool> {
        let Some((_, found)) = self.find(path)? else { return Disk.is_mount_point(path) };
        let at_name = statat(&*found.directory, &found.name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(at_name.st_dev != rustix::fs::fstat(&*found.directory)?.st_dev)
    }

    fn entry_that_is_no_file(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        let Some((_, directory)) = self.directory(path)? else {
            return Disk.entry_that_is_no_file(path);
        };
        for (name, mut kind) in entries(&directory)? {
            if kind == FileType::Unknown {
                let stat = statat(&*directory, &name, AtFlags::SYMLINK_NOFOLLOW)?;
                kind = FileType::from_raw_mode(stat.st_mode);
            }
            if name.to_str().is_none() || !kind.is_file() {
                return Ok(Some(path.join(name)));
            }
        }
        Ok(None)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        moment!(Read);
        let Some((_, directory)) = self.directory(path)? else { return Disk.list(path) };
        let names = entries(&directory)?.into_iter().map(|(name, _)| name);
        Ok(names.filter_map(|name| name.into_string().ok()).collect())
    }

    fn read(&self, path: &Path) -> io::Result<FileBytes> {
        moment!(Read);
        let Some((_, found)) = self.find(path)? else { return Disk.read(path) };
        FileBytes::map(&open_regular(&found)?)
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Box<dyn ReadableFile>> {
        moment!(Read);
        let Some((_, found)) = self.find(path)? else { return Disk.open_to_read(path) };
        Ok(Box::new(DiskReadable::new(open_regular(&found)?)?))
    }

    fn create_temporary(&self, path: &Path) -> io::Result<Box<dyn TemporaryFile>> {
        moment!(CreateTemporary);
        let Some((place, directory)) = self.directory(path)? else {
            return Disk.create_temporary(path);
        };
        place.verify()?;
        moment!(Changing);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        // The umask decides, as for any file that a program makes.
        let mode = Mode::from_raw_mode(0o666);
        let made = tempfile::Builder::new()
            .prefix(TEMPORARY_PREFIX)
            .suffix(TEMPORARY_SUFFIX)
            .make_in(path, |path| {
                let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
                let open = || rustix::fs::openat(&*directory, name, flags, mode);
                Ok((File::from(retry_on_intr(open)?), name.to_owned()))
            })?;
        // `tempfile` would remove the file by path, so this code takes the file from it.
        let ((file, name), _) = made.keep().map_err(|failed| failed.error)?;
        let file = Arc::new(HeldFile { file, stands: OnceLock::new() });
        let found = Found { directory, name };
        Ok(Box::new(HeldTemporary { place, file, found, is_published: false }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        moment!(Rename);
        if fault!(ExchangeByPath) {
            return Disk.rename(from, to);
        }
        let (Some((place, source)), Some((_, target))) =
            (self.find_to_change(from)?, self.find(to)?)
        else {
            return Disk.rename(from, to);
        };
        place.rename(&source, &target)
    }

    fn shorten(&self, path: &Path, length: u64) -> io::Result<()> {
        moment!(Shorten);
        let Some((_, found)) = self.find_to_change(path)? else {
            return Disk.shorten(path, length);
        };
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(&*found.directory, &found.name, flags, Mode::empty());
        let file = File::from(retry_on_intr(open)?);
        file.set_len(length)?;
        file.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        moment!(Remove);
        let Some((_, found)) = self.find_to_change(path)? else { return Disk.remove(path) };
        remove(&found, AtFlags::empty())
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        moment!(RemoveDirectory);
        let Some((place, found)) = self.find_to_change(path)? else {
            return Disk.remove_directory(path);
        };
        place.forget(&found);
        // A user who keeps part of a database on another disk has a link here.
        let stat = statat(&*found.directory, &found.name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => remove(&found, AtFlags::empty()),
            _ => remove(&found, AtFlags::REMOVEDIR),
        }
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        moment!(SyncDirectory);
        match self.directory(path)? {
            Some((_, directory)) => sync(&directory),
            None => Disk.sync_directory(path),
        }
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        moment!(Lock);
        self.take_lock(path, Purpose::Write)
    }

    fn lock_to_read(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        moment!(Lock);
        self.take_lock(path, Purpose::Read)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let Some((_, directory)) = self.directory(path)? else { return Ok(u64::MAX) };
        let state = rustix::fs::fstatvfs(&*directory)?;
        Ok(state.f_bavail.saturating_mul(state.f_frsize))
    }

    fn now(&self) -> SystemTime {
        self.clock.now()
    }

    fn random(&self) -> io::Result<[u8; 16]> {
        Disk.random()
    }

    fn for_copies(self: Arc<Self>) -> Arc<dyn Storage> {
        Arc::new(Disk)
    }
}

fn remove(found: &Found, flags: AtFlags) -> io::Result<()> {
    Ok(rustix::fs::unlinkat(&*found.directory, &found.name, flags)?)
}

/// A file that, once it is published, knows where it must stand.
struct HeldFile {
    file: File,
    stands: OnceLock<(Found, PathBuf, FileIdentity)>,
}

impl StoredFile for HeldFile {
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<usize> {
        moment!(Write);
        std::os::unix::fs::FileExt::write_at(&self.file, bytes, position)
    }

    fn write_zeros_at(&self, zeros: &[u8], position: u64, call_bytes: usize) -> io::Result<usize> {
        moment!(Write);
        write_in_calls(&self.file, zeros, position, call_bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        moment!(Sync);
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        moment!(Sync);
        self.file.sync_all()
    }

    fn stands_where_published(&self) -> io::Result<()> {
        let Some((found, path, identity)) = self.stands.get() else { return Ok(()) };
        let name = Path::new(&found.name);
        let now = FileIdentity::at_name(found.directory.as_fd(), name)?;
        if now == Some(*identity) || fault!(UnlinkedSegmentNotNoticed) {
            return Ok(());
        }
        let how = if now.is_some() { "replaced" } else { "removed" };
        Err(PlaceLost::error(format!(
            "{} was {how} while the database was open, and no file that can be found holds the \
             commands since. Database::backup writes what can be read into another directory. Stop \
             the program that removes files there, and put the file back if it was only moved",
            path.display()
        )))
    }
}

struct HeldTemporary {
    place: Arc<Place>,
    file: Arc<HeldFile>,
    found: Found,
    is_published: bool,
}

impl TemporaryFile for HeldTemporary {
    fn file(&self) -> Arc<dyn StoredFile> {
        self.file.clone()
    }

    fn publish(mut self: Box<Self>, target: &Path) -> io::Result<()> {
        moment!(Publish);
        let found = self.place.find(target).ok_or(ErrorKind::CrossesDevices)??;
        if !fault!(PlaceVerifiedOnlyBefore) {
            self.place.verify()?;
        }
        moment!(Changing);
        let identity = FileIdentity::of(&rustix::fs::fstat(self.file.file.as_fd())?);
        rename(&self.found, &found)?;
        self.is_published = true;
        // `stands` is still empty, because `publish` consumes `self`.
        self.file.stands.set((found, target.to_path_buf(), identity)).ok();
        Ok(())
    }
}

impl Drop for HeldTemporary {
    fn drop(&mut self) {
        if !self.is_published && !self.place.is_of_another_process() {
            // A drop cannot report a failure; a later open removes stale temporary files.
            remove(&self.found, AtFlags::empty()).ok();
        }
    }
}

/// A lock that is released explicitly: a forked child may have inherited the descriptors, and then
/// closing ours would not release the locks.
struct HeldLock(Arc<Place>);

impl Lock for HeldLock {
    fn unlock(self: Box<Self>) -> io::Result<()> {
        self.0.unlock()
    }
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        // A drop cannot report a failure; `unlock` can.
        self.0.unlock().ok();
    }
}
