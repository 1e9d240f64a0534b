//! What hazards do to a whole process: limits, mounts, rights, signals, clocks, forks.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use prevalence::{Database, Error, ExecuteError, Health, Metadata, RequestStatus, Retention};

use super::diary::{Diary, Enter, builder};
use super::scene::Scene;

/// The id of a user who owns nothing else.
pub const NOBODY: u32 = 65_534;

/// After how many seconds a forked child that hangs is ended.
const FORKED_CHILD_S: u32 = 20;

/// How many descriptors a process may have when they are not scarce.
const MOST_DESCRIPTORS: u64 = 1024;

/// How much free memory is left when memory becomes scarce.
const MEMORY_LEFT_BYTES: u64 = 256 << 10;

fn checked(result: libc::c_int) -> std::io::Result<()> {
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

fn c_string(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

/// Gives this thread, and the threads that it starts, mounts of their own.
pub fn unshare_mounts() -> std::io::Result<()> {
    // SAFETY: changes which mounts this thread sees.
    checked(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    mount(Path::new("/"), None, libc::MS_REC | libc::MS_PRIVATE, "")
}

fn mount(
    target: &Path,
    source: Option<&Path>,
    flags: libc::c_ulong,
    options: &str,
) -> std::io::Result<()> {
    let source = c_string(source.unwrap_or(Path::new("none")));
    let (target, options) = (c_string(target), CString::new(options).unwrap());
    let (kind, data) = (c"tmpfs".as_ptr(), options.as_ptr().cast());
    // SAFETY: all pointers are those of strings that live until the call is over.
    checked(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind, flags, data) })
}

/// Mounts a new file system in memory.
pub fn mount_memory(target: &Path, bytes: u64) -> std::io::Result<()> {
    mount(target, None, 0, &format!("size={bytes},mode=777"))
}

/// Makes a directory a mount of its own, which can then become read-only.
pub fn mount_itself(directory: &Path) -> std::io::Result<()> {
    mount(directory, Some(directory), libc::MS_BIND, "")
}

pub fn make_read_only(directory: &Path, read_only: bool) -> std::io::Result<()> {
    let flag = if read_only { libc::MS_RDONLY } else { 0 };
    mount(directory, None, libc::MS_BIND | libc::MS_REMOUNT | flag, "")
}

pub fn unmount(target: &Path) {
    let target = c_string(target);
    // SAFETY: the pointer is that of a string.
    checked(unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) }).unwrap();
}

pub fn set_mode(path: &Path, mode: u32) -> std::io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

/// Makes the process work as the user nobody from now on. It can still become root.
pub fn become_nobody(scene: &Scene) {
    let mut open = vec![scene.root.clone()];
    while let Some(next) = open.pop() {
        std::os::unix::fs::chown(&next, Some(NOBODY), Some(NOBODY)).unwrap();
        if next.is_dir() {
            open.extend(std::fs::read_dir(&next).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    // SAFETY: changes the rights of this process alone.
    checked(unsafe { libc::setresgid(NOBODY, NOBODY, 0) }).unwrap();
    // SAFETY: as above.
    checked(unsafe { libc::setresuid(NOBODY, NOBODY, 0) }).unwrap();
}

/// Runs `body` as root on the calling thread. (The raw call changes only one thread.)
pub fn as_root<T>(body: impl FnOnce() -> T) -> T {
    let become_user = |user: u32| {
        // SAFETY: changes the rights of this thread alone.
        let changed = unsafe { libc::syscall(libc::SYS_setresuid, -1, user, -1) };
        assert_eq!(changed, 0);
    };
    become_user(0);
    let result = body();
    become_user(NOBODY);
    result
}

pub fn limit_descriptors(limit: u64) {
    let limit = libc::rlimit { rlim_cur: limit, rlim_max: MOST_DESCRIPTORS };
    // SAFETY: the pointer is that of a whole `rlimit`.
    checked(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }).unwrap();
}

/// Limits the memory to little more than is in use, or removes the limit.
pub fn limit_memory(limited: bool) {
    let limit = if limited {
        let used = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = used.split(' ').next().unwrap().parse().unwrap();
        pages * 4096 + MEMORY_LEFT_BYTES
    } else {
        libc::RLIM_INFINITY
    };
    let limit = libc::rlimit { rlim_cur: limit, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the pointer is that of a whole `rlimit`.
    checked(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }).unwrap();
}

/// Moves the wall clock, where the shim of `tests/common/faults` is preloaded.
pub fn move_clock(seconds: i64) -> std::io::Result<()> {
    // SAFETY: the name is a string; what it names in the shim is an atomic long.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"shim_clock".as_ptr()) };
    if found.is_null() {
        return Err(std::io::Error::other("the shim is not preloaded"));
    }
    // SAFETY: as above; the shim is never unloaded.
    let clock = unsafe { &*found.cast::<std::sync::atomic::AtomicI64>() };
    clock.store(seconds, Ordering::SeqCst);
    Ok(())
}

extern "C" fn do_nothing(_: libc::c_int) {}

/// A thread that interrupts all others again and again.
pub struct Signals {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Signals {
    pub fn begin() -> Self {
        // SAFETY: all fields of it may be zero: no flags, so that calls are not restarted.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = do_nothing as *const () as usize;
        // SAFETY: the handler does nothing, and the pointer is that of a whole `sigaction`.
        let set =
            unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) };
        checked(set).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || interrupt_all(&stopped));
        Self { stop, thread: Some(thread) }
    }
}

fn interrupt_all(stopped: &AtomicBool) {
    // SAFETY: asks, and changes nothing.
    let (process, this) = unsafe { (libc::getpid(), libc::gettid()) };
    while !stopped.load(Ordering::SeqCst) {
        for thread in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
            let thread: i32 = thread.file_name().to_str().unwrap().parse().unwrap();
            if thread != this {
                // SAFETY: sends a signal that has a handler; the thread may be gone.
                unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGUSR1) };
            }
        }
        std::thread::yield_now();
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// A forked child: it tries everything, and then lives on with all that it has inherited.
pub struct Forked {
    id: libc::pid_t,
    says: libc::c_int,
}

impl Forked {
    /// Forks. `handle` is one of two handles; the child never drops the other one.
    pub fn start(scene: &Scene, handle: Option<Database<Diary>>) -> Self {
        let mut ends = [0; 2];
        // SAFETY: the pointer is that of two descriptors.
        checked(unsafe { libc::pipe(ends.as_mut_ptr()) }).unwrap();
        // SAFETY: the child does what is tested, and never returns from here.
        let id = unsafe { libc::fork() };
        if id == 0 {
            // SAFETY: a bound on a hang.
            unsafe { libc::alarm(FORKED_CHILD_S) };
            let child = || in_the_child(scene, handle);
            let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
            let answer = [u8::from(told.is_ok())];
            // SAFETY: writes one byte that lives until the call is over; then waits to be killed.
            unsafe {
                libc::write(ends[1], answer.as_ptr().cast(), 1);
                libc::alarm(3 * FORKED_CHILD_S);
                libc::pause();
                libc::_exit(0);
            }
        }
        // SAFETY: ours is closed here only.
        unsafe { libc::close(ends[1]) };
        let forked = Self { id, says: ends[0] };
        // The parent goes on only when the child has done what it can do.
        assert!(forked.is_well(), "the child of the fork panicked or hung");
        forked
    }

    fn is_well(&self) -> bool {
        let mut answer = [0u8];
        // SAFETY: reads one byte into a place that lives until the call is over.
        let read = unsafe { libc::read(self.says, answer.as_mut_ptr().cast(), 1) };
        read == 1 && answer == [1]
    }
}

impl Drop for Forked {
    fn drop(&mut self) {
        let mut status = 0;
        // SAFETY: ends the child above, by its id, and waits for it.
        unsafe {
            libc::kill(self.id, libc::SIGKILL);
            libc::waitpid(self.id, &raw mut status, 0);
            libc::close(self.says);
        }
    }
}

fn in_the_child(scene: &Scene, handle: Option<Database<Diary>>) {
    let Some(database) = handle else { return };
    let executed = database.execute(Enter { number: 0, padding: Vec::new() });
    assert!(matches!(executed, Err(ExecuteError::Forked)));
    let asked = Metadata { request_id: "of the child".to_owned(), ..Metadata::default() };
    let executed = database.execute_with(&asked, Enter { number: 0, padding: Vec::new() });
    assert!(matches!(executed, Err(ExecuteError::Forked)));
    assert_eq!(database.status("of the child"), RequestStatus::Unknown);
    assert!(database.rejections().next().is_none());
    for result in [
        database.sync().map(drop),
        database.snapshot().map(drop),
        database.backup(scene.copies.join("of-the-child")).map(drop),
        database.backup_with_history(scene.copies.join("of-the-child")).map(drop),
        database.history().verify().map(drop),
        database.import(&b"{}"[..]).map(drop),
        database.clone().close(),
    ] {
        assert!(matches!(result, Err(Error::Forked)));
    }
    assert!(matches!(database.submit_json("Enter", "{}"), Err(ExecuteError::Forked)));
    assert!(matches!(database.health(), Health::Forked));
    drop(database.query(Diary::entries));
    // SAFETY: the parent's other handle is never dropped in this process, so this drops it in its
    // place.
    let other = unsafe { std::ptr::read(&raw const database) };
    drop(database);
    drop(other);
    assert!(matches!(builder(Retention::Archive).open(&scene.path), Err(Error::Locked { .. })));
}
