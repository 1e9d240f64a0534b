//! Owns the place of an open database: the directory as it was when it was locked, held by
//! descriptors, and the question whether it still stands where its path says. Knows nothing of what
//! the files hold.
//!
//! A path is a name, and names change their meaning: somebody moves the directory, puts another in
//! its place, mounts something over it, removes LOCK, or the process forks. So files are found from
//! the descriptors on, and before anything is changed the path must still lead to the same
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

/// How often a lock is tried again because its file was exchanged meanwhile.
const LOCK_TRIES: u32 = 16;

/// Which file it is, whatever its name: device and inode.
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

    /// Of what stands at a path; `None` when nothing does.
    fn at(directory: BorrowedFd<'_>, path: &Path) -> io::Result<Option<Self>> {
        Self::found(directory, path, AtFlags::empty())
    }

    /// As `at`, of a link itself. Asked after each sync of the journal, so it must not ask for times:
    /// Linux (6.13 and later) stamps the next write of a file with a time of its own once somebody
    /// has looked at its times, and that write then costs a sync a third more.
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

/// The place of an open database is not what it was: nothing more may be changed there.
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

    /// Whether that is why an operation failed.
    pub(crate) fn is_reason_of(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }
}

/// One directory that is held: the root, or one inside it.
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
    /// Others may read it as well. Needs no right to write, and changes nothing.
    Read,
}

/// The place of an open database.
#[derive(Debug)]
pub(super) struct Place {
    root: PathBuf,
    directory: Arc<HeldDirectory>,
    /// The lock file, unless there is none to read.
    lock: Option<(OwnedFd, FileIdentity)>,
    lock_name: OsString,
    process: u32,
    inside: Mutex<BTreeMap<OsString, Arc<HeldDirectory>>>,
}

impl Place {
    /// Locks the directory and the lock file in it; `None` when somebody else has one of them.
    ///
    /// Both: the directory, so that a lock file that somebody removes lets nobody in; and the file,
    /// because earlier releases of this crate know no other lock.
    pub(super) fn lock(lock_path: &Path, purpose: Purpose) -> io::Result<Option<Self>> {
        let root = lock_path.parent().ok_or(ErrorKind::InvalidInput)?;
        let lock_name = lock_path.file_name().ok_or(ErrorKind::InvalidInput)?;
        for _ in 0..LOCK_TRIES {
            let directory = Arc::new(HeldDirectory::open(CWD, root)?);
            if !planted!(DirectoryNotLocked) && !flock(&*directory, purpose)? {
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
            // Whoever held the locks before may have exchanged what they stand on.
            match place.verify() {
                Ok(()) => return Ok(Some(place)),
                Err(error) if PlaceLost::is_reason_of(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("the directory or its lock file is exchanged all the time"))
    }

    /// Gives the locks back; what is held stays readable.
    pub(super) fn unlock(&self) -> io::Result<()> {
        // A child of a fork shares the lock with its parent, and must not give that away.
        if self.is_of_another_process() && !planted!(ChildUnlocks) {
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

    /// Where a path below the root leads to; `None` when it is not below it.
    pub(super) fn find(&self, path: &Path) -> Option<io::Result<Found>> {
        let below = path.strip_prefix(&self.root).ok()?;
        let mut names = below.components().map(|component| match component {
            Component::Normal(name) => Ok(name),
            _ => Err(io::Error::from(ErrorKind::InvalidInput)),
        });
        let found = match (names.next(), names.next(), names.next()) {
            (None, ..) => Ok(Found { directory: self.directory.clone(), name: ".".into() }),
            (Some(name), None, _) => {
                name.map(|name| Found { directory: self.directory.clone(), name: name.into() })
            }
            (Some(inner), Some(name), None) => inner
                .and_then(|inner| Ok(Found { directory: self.inside(inner)?, name: name?.into() })),
            _ => Err(ErrorKind::InvalidInput.into()),
        };
        Some(found)
    }

    /// The directory at a path that is the root's, or stands in it.
    pub(super) fn directory(&self, path: &Path) -> Option<io::Result<Arc<HeldDirectory>>> {
        let found = match self.find(path)? {
            Ok(found) => found,
            Err(error) => return Some(Err(error)),
        };
        if found.name == "." {
            return Some(Ok(found.directory));
        }
        if !Arc::ptr_eq(&found.directory, &self.directory) {
            return Some(Err(ErrorKind::NotADirectory.into()));
        }
        Some(self.inside(&found.name))
    }

    /// A directory inside the root, as it was when it was first met.
    fn inside(&self, name: &OsStr) -> io::Result<Arc<HeldDirectory>> {
        let mut inside = lock(&self.inside);
        if let Some(held) = inside.get(name) {
            return Ok(held.clone());
        }
        let held = Arc::new(HeldDirectory::open(self.directory.as_fd(), Path::new(name))?);
        inside.insert(name.to_owned(), held.clone());
        Ok(held)
    }

    /// We change what stands under that name in the root ourselves. Gives what was held.
    pub(super) fn forget(&self, found: &Found) -> Option<Arc<HeldDirectory>> {
        if !Arc::ptr_eq(&found.directory, &self.directory) {
            return None;
        }
        lock(&self.inside).remove(&found.name)
    }

    /// Gives a file or directory another name. Should another directory have taken the name of the
    /// one that is held, behind the last look, it gets its name back.
    pub(super) fn rename(&self, from: &Found, to: &Found) -> io::Result<()> {
        let held = self.forget(from);
        self.forget(to);
        rename(from, to)?;
        let Some(held) = held.filter(|_| !planted!(ExchangeUnseen)) else { return Ok(()) };
        if FileIdentity::at(to.directory.as_fd(), Path::new(&to.name))? == Some(held.identity) {
            return Ok(());
        }
        rename(to, from)?;
        Err(self.inside_lost(&from.name, true))
    }

    /// That the path still leads to the directory that was locked, that the lock file in it is the
    /// one that was locked, and that the directories inside are those that were met before.
    pub(super) fn verify(&self) -> io::Result<()> {
        if planted!(PlaceNotVerified) {
            return Ok(());
        }
        if self.is_of_another_process() {
            return Err(PlaceLost::error(
                "this process was forked from the one that opened the database, which alone may \
                 change its files"
                    .to_owned(),
            ));
        }
        match FileIdentity::at(CWD, &self.root) {
            Ok(Some(found)) if found == self.directory.identity => {}
            Ok(found) => return Err(self.moved(found.is_some())),
            // A process that gave its rights away may not be able to look any more.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
            Err(error) => return Err(error),
        }
        if let Some((_, lock)) = &self.lock {
            let found = FileIdentity::at(self.directory.as_fd(), Path::new(&self.lock_name))?;
            if found != Some(*lock) && !planted!(LockFileNotVerified) {
                return Err(self.lock_lost(found.is_some()));
            }
        }
        let inside = lock(&self.inside);
        for (name, held) in &*inside {
            let found = FileIdentity::at(self.directory.as_fd(), Path::new(name))?;
            if found != Some(held.identity) && !planted!(InsideNotVerified) {
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
             the name that it has; where it is gone, Database::backup still writes what can be read",
            self.root.display(),
            self.whereabouts(),
        ))
    }

    fn lock_lost(&self, other_found: bool) -> io::Error {
        let how = if other_found { "replaced" } else { "removed" };
        PlaceLost::error(format!(
            "{} was {how} while the database was open, so other processes may think that nobody \
             has it: stop whatever removes files there, close the database and open it anew",
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
             database and open it anew; where it is gone, Database::backup still writes what can \
             be read",
            self.root.join(name).display(),
        ))
    }

    /// Where the directory is now, as far as the system tells.
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

/// Takes the lock; `false` when somebody else has it.
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

/// Opens the lock file, and creates it for who wants to write. `None`: there is none, or none that
/// this user may read, and the directory's own lock must do.
fn open_lock_file(
    directory: &HeldDirectory,
    name: &Path,
    purpose: Purpose,
) -> io::Result<Option<(OwnedFd, FileIdentity)>> {
    let is_file = match statat(directory, name, AtFlags::empty()) {
        Ok(stat) => rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file(),
        // A link to nowhere is something: creating through it would surprise.
        Err(Errno::NOENT) => statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).is_err(),
        Err(_) => true, // the open says what is wrong
    };
    if !is_file {
        // Opening a FIFO would wait for a writer for ever.
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file"));
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

/// Where a path leads to: a name in a directory that is held.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) directory: Arc<HeldDirectory>,
    pub(super) name: OsString,
}
