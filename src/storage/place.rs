//! Owns the place of an open database: it holds the locked directory by open descriptors, and
//! checks whether the path still leads to that directory. Knows nothing of what the files hold.
//!
//! A path can change its meaning: somebody moves the directory, puts another one in its place,
//! mounts something over it, or removes LOCK; or the process forks. So this module finds files from
//! the descriptors on, and checks before each change that the path still leads to the same
//! directory.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::mutex::lock;

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, Stat, fstat, statat};
use rustix::io::Errno;

/// How often a lock is tried in all, because its file may be exchanged meanwhile.
const LOCK_TRIES: u32 = 16;

/// The identity of a file, independent of its name: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileIdentity {
    device: u64,
    inode: u64,
}

impl FileIdentity {
    pub(super) fn of(stat: &Stat) -> Self {
        // The types of these fields differ between systems.
        #[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
        Self { device: stat.st_dev as u64, inode: stat.st_ino as u64 }
    }

    /// Returns the identity of what stands at a path; `None` when nothing stands there.
    fn at(directory: BorrowedFd<'_>, path: &Path) -> io::Result<Option<Self>> {
        Self::found(directory, path, AtFlags::empty())
    }

    /// Returns the identity of a link itself; otherwise as `at`. It runs after each sync of the
    /// journal, so it must not ask for times: once a program has read the times of a file, Linux
    /// (6.13 and later) gives the next write of the file a time of its own, and the sync of that
    /// write costs a third more.
    pub(super) fn at_name(directory: BorrowedFd<'_>, name: &Path) -> io::Result<Option<Self>> {
        Self::found(directory, name, AtFlags::SYMLINK_NOFOLLOW)
    }

    fn found(directory: BorrowedFd<'_>, path: &Path, flags: AtFlags) -> io::Result<Option<Self>> {
        match Self::ask(directory, path, flags) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    #[cfg(target_os = "linux")]
    fn ask(directory: BorrowedFd<'_>, path: &Path, flags: AtFlags) -> Result<Self, Errno> {
        use rustix::fs::{StatxFlags, makedev, statx};

        match statx(directory, path, flags, StatxFlags::INO) {
            Ok(found) => {
                let device = makedev(found.stx_dev_major, found.stx_dev_minor);
                Ok(Self { device, inode: found.stx_ino })
            }
            Err(Errno::NOSYS) => Ok(Self::of(&statat(directory, path, flags)?)),
            Err(error) => Err(error),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn ask(directory: BorrowedFd<'_>, path: &Path, flags: AtFlags) -> Result<Self, Errno> {
        Ok(Self::of(&statat(directory, path, flags)?))
    }
}

/// The place of an open database has changed: nothing more may be written there.
#[derive(Clone, Debug)]
pub(crate) struct PlaceLost {
    what: String,
}

impl fmt::Display for PlaceLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for PlaceLost {}

impl PlaceLost {
    pub(super) fn error(what: String) -> io::Error {
        io::Error::other(Self { what })
    }

    /// Returns whether an operation failed because the place was lost.
    pub(crate) fn is_reason_of(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }
}

/// One directory that is held by a descriptor: the root, or one inside it.
#[derive(Debug)]
pub(super) struct HeldDirectory {
    descriptor: OwnedFd,
    identity: FileIdentity,
}

impl HeldDirectory {
    fn open(from: BorrowedFd<'_>, path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptor = rustix::fs::openat(from, path, flags, Mode::empty())?;
        let identity = FileIdentity::of(&fstat(&descriptor)?);
        Ok(Self { descriptor, identity })
    }
}

impl AsFd for HeldDirectory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// What the lock is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Nobody else may have the directory open.
    Write,
    /// Others may read it as well. This needs no right to write, and changes nothing.
    Read,
}

/// Directories with what can be lost without harm to the database itself. They are opened anew each
/// time, so that nothing but their own files suffers when somebody moves or removes them.
pub(crate) const APART: [&str; 3] = ["projections", "sinks", "reactors"];

fn is_apart(name: &OsStr) -> bool {
    APART.iter().any(|apart| name == *apart)
}

/// The place of an open database.
#[derive(Debug)]
pub(super) struct Place {
    root: PathBuf,
    directory: Arc<HeldDirectory>,
    /// The lock file; `None` when there is none that this user may read.
    lock: Option<(OwnedFd, FileIdentity)>,
    lock_name: OsString,
    process: u32,
    inside: Mutex<BTreeMap<OsString, Arc<HeldDirectory>>>,
}

impl Place {
    /// Locks the directory and the lock file in it. Returns `None` when somebody else holds one of
    /// them.
    ///
    /// It locks the directory, so that nobody gets in when somebody removes the lock file. It locks
    /// the file too, because earlier releases of this crate know no other lock.
    pub(super) fn lock(lock_path: &Path, purpose: Purpose) -> io::Result<Option<Self>> {
        let root = lock_path.parent().ok_or(ErrorKind::InvalidInput)?;
        let lock_name = lock_path.file_name().ok_or(ErrorKind::InvalidInput)?;
        for _ in 0..LOCK_TRIES {
            let directory = Arc::new(HeldDirectory::open(CWD, root)?);
            if !fault!(DirectoryNotLocked) && !flock(&*directory, purpose)? {
                return Ok(None);
            }
            let lock = open_lock_file(&directory, Path::new(lock_name), purpose)?;
            if let Some((file, _)) = &lock
                && !flock(file, purpose)?
            {
                return Ok(None);
            }
            let place = Self {
                root: root.to_path_buf(),
                directory,
                lock,
                lock_name: lock_name.to_owned(),
                process: std::process::id(),
                inside: Mutex::default(),
            };
            // The process that held the locks before may have exchanged the directory or the file.
            match place.verify() {
                Ok(()) => return Ok(Some(place)),
                Err(error) if PlaceLost::is_reason_of(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other(
            "another program keeps replacing the directory or its lock file; stop it and try again",
        ))
    }

    /// Releases the locks. The held directories stay readable.
    pub(super) fn unlock(&self) -> io::Result<()> {
        // A forked child shares the lock with its parent, and must not release it.
        if self.is_of_another_process() && !fault!(ChildUnlocks) {
            return Ok(());
        }
        let unlocked = self.lock.as_ref().map(|(file, _)| {
            rustix::fs::flock(file, FlockOperation::Unlock).map_err(io::Error::from)
        });
        rustix::fs::flock(&*self.directory, FlockOperation::Unlock)?;
        unlocked.unwrap_or(Ok(()))
    }

    pub(super) fn is_of_another_process(&self) -> bool {
        self.process != std::process::id()
    }

    /// Finds where a path below the root leads to; `None` when the path is not below the root.
    pub(super) fn find(&self, path: &Path) -> Option<io::Result<Found>> {
        let below = path.strip_prefix(&self.root).ok()?;
        let is_normal = |it: Component<'_>| matches!(it, Component::Normal(_));
        if !below.components().all(is_normal) {
            return Some(Err(ErrorKind::InvalidInput.into()));
        }
        let Some(name) = below.file_name() else {
            return Some(Ok(Found { directory: self.directory.clone(), name: ".".into() }));
        };
        let directory = self.below(below.parent().unwrap_or(Path::new("")));
        Some(directory.map(|directory| Found { directory, name: name.into() }))
    }

    /// Returns the directory at a path from the root on.
    fn below(&self, path: &Path) -> io::Result<Arc<HeldDirectory>> {
        let mut names = path.iter();
        match (names.next(), names.next()) {
            (None, _) => Ok(self.directory.clone()),
            (Some(name), None) if !is_apart(name) => self.inside(name),
            (Some(name), _) if is_apart(name) => {
                Ok(Arc::new(HeldDirectory::open(self.directory.as_fd(), path)?))
            }
            _ => Err(ErrorKind::InvalidInput.into()),
        }
    }

    /// Returns the directory at a path: the root, or a directory in it.
    pub(super) fn directory(&self, path: &Path) -> Option<io::Result<Arc<HeldDirectory>>> {
        let found = match self.find(path)? {
            Ok(found) => found,
            Err(error) => return Some(Err(error)),
        };
        if found.name == "." {
            return Some(Ok(found.directory));
        }
        let below = path.strip_prefix(&self.root).unwrap_or(path);
        Some(self.below(below))
    }

    /// Returns a directory inside the root, as it was when this place first opened it.
    fn inside(&self, name: &OsStr) -> io::Result<Arc<HeldDirectory>> {
        let mut inside = lock(&self.inside);
        if let Some(held) = inside.get(name) {
            return Ok(held.clone());
        }
        let held = Arc::new(HeldDirectory::open(self.directory.as_fd(), Path::new(name))?);
        inside.insert(name.to_owned(), held.clone());
        Ok(held)
    }

    /// Forgets the directory with that name in the root, because this process is about to change
    /// it. Returns the directory that was held.
    pub(super) fn forget(&self, found: &Found) -> Option<Arc<HeldDirectory>> {
        if !Arc::ptr_eq(&found.directory, &self.directory) {
            return None;
        }
        lock(&self.inside).remove(&found.name)
    }

    /// Renames a file or directory. If another directory took the name of the held one after the
    /// last check, that directory gets its name back.
    pub(super) fn rename(&self, from: &Found, to: &Found) -> io::Result<()> {
        let held = self.forget(from);
        self.forget(to);
        rename(from, to)?;
        let Some(held) = held.filter(|_| !fault!(ExchangeUnseen)) else { return Ok(()) };
        if FileIdentity::at(to.directory.as_fd(), Path::new(&to.name))? == Some(held.identity) {
            return Ok(());
        }
        rename(to, from)?;
        Err(self.inside_lost(&from.name, true))
    }

    /// Checks that the path still leads to the directory that was locked, that its lock file is the
    /// one that was locked, and that the directories inside are those that were opened before.
    pub(super) fn verify(&self) -> io::Result<()> {
        if fault!(PlaceNotVerified) {
            return Ok(());
        }
        if self.is_of_another_process() {
            return Err(PlaceLost::error(
                "this process was forked from the one that opened the database, and only that one \
                 may change the database's files: use the database in that process"
                    .to_owned(),
            ));
        }
        match FileIdentity::at(CWD, &self.root) {
            Ok(Some(found)) if found == self.directory.identity => {}
            Ok(found) => return Err(self.moved(found.is_some())),
            // A process that has dropped its rights may no longer be able to check this.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
            Err(error) => return Err(error),
        }
        if let Some((_, lock)) = &self.lock {
            let found = FileIdentity::at(self.directory.as_fd(), Path::new(&self.lock_name))?;
            if found != Some(*lock) && !fault!(LockFileNotVerified) {
                return Err(self.lock_lost(found.is_some()));
            }
        }
        let inside = lock(&self.inside);
        for (name, held) in &*inside {
            let found = FileIdentity::at(self.directory.as_fd(), Path::new(name))?;
            if found != Some(held.identity) && !fault!(InsideNotVerified) {
                return Err(self.inside_lost(name, found.is_some()));
            }
        }
        Ok(())
    }

    fn moved(&self, other_found: bool) -> io::Error {
        let now = match other_found {
            true => "another directory stands there now, or is mounted there",
            false => "nothing stands there now",
        };
        PlaceLost::error(format!(
            "the directory {} was moved, replaced or removed while the database was open: {now}, \
             and nothing was changed there. {} Close the database, and open the directory under \
             the name that it has now. If it is gone, Database::backup still writes what can be \
             read",
            self.root.display(),
            self.whereabouts(),
        ))
    }

    fn lock_lost(&self, other_found: bool) -> io::Error {
        let how = if other_found { "replaced" } else { "removed" };
        PlaceLost::error(format!(
            "{} was {how} while the database was open, so other processes may open it too: stop \
             the program that removes files there, close the database and open it again",
            self.root.join(&self.lock_name).display(),
        ))
    }

    fn inside_lost(&self, name: &OsStr, other_found: bool) -> io::Error {
        let how = match other_found {
            true => "replaced, or something was mounted there,",
            false => "moved or removed",
        };
        PlaceLost::error(format!(
            "the directory {} was {how} while the database was open: put it back, close the \
             database and open it again. If it is gone, Database::backup still writes what can be \
             read",
            self.root.join(name).display(),
        ))
    }

    /// Says where the directory is now, if the system tells it.
    fn whereabouts(&self) -> String {
        use std::os::fd::AsRawFd;
        let link = format!("/proc/self/fd/{}", self.directory.descriptor.as_raw_fd());
        match std::fs::read_link(link) {
            Ok(path) => format!("The directory is now {}.", path.display()),
            Err(_) => String::new(),
        }
    }
}

pub(super) fn rename(from: &Found, to: &Found) -> io::Result<()> {
    Ok(rustix::fs::renameat(&*from.directory, &from.name, &*to.directory, &to.name)?)
}

/// Takes the lock. Returns `false` when somebody else holds it.
fn flock(file: &impl AsFd, purpose: Purpose) -> io::Result<bool> {
    let operation = match purpose {
        Purpose::Write => FlockOperation::NonBlockingLockExclusive,
        Purpose::Read => FlockOperation::NonBlockingLockShared,
    };
    match rustix::io::retry_on_intr(|| rustix::fs::flock(file, operation)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Opens the lock file, and creates it for a writer. Returns `None` when a reader finds no lock
/// file that it may read; then the lock on the directory must do.
fn open_lock_file(
    directory: &HeldDirectory,
    name: &Path,
    purpose: Purpose,
) -> io::Result<Option<(OwnedFd, FileIdentity)>> {
    let is_file = match statat(directory, name, AtFlags::empty()) {
        Ok(stat) => rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file(),
        // A dangling link counts as an entry: creating a file through it would surprise the user.
        Err(Errno::NOENT) => statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).is_err(),
        Err(_) => true, // the open says what is wrong
    };
    if !is_file {
        // Opening a FIFO would wait for a writer for ever.
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            "it is not a regular file; move it away",
        ));
    }
    let flags = match purpose {
        Purpose::Write => OFlags::RDWR | OFlags::CREATE,
        Purpose::Read => OFlags::RDONLY,
    };
    let mode = Mode::from_raw_mode(0o666);
    let opened = rustix::io::retry_on_intr(|| {
        rustix::fs::openat(directory, name, flags | OFlags::CLOEXEC, mode)
    });
    match (opened, purpose) {
        (Ok(file), _) => {
            let identity = FileIdentity::of(&fstat(&file)?);
            Ok(Some((file, identity)))
        }
        (Err(Errno::NOENT | Errno::ACCESS | Errno::PERM), Purpose::Read) => Ok(None),
        (Err(error), _) => Err(error.into()),
    }
}

/// The place that a path leads to: a name in a directory that is held.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) directory: Arc<HeldDirectory>,
    pub(super) name: OsString,
}
