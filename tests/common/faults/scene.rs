//! Directories for tests: helpers make them, read them, and open them on a thread that may hang.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use super::{builder, execute};

/// Makes a temporary directory in a fast place: in memory, if there is such a file system.
pub fn workshop() -> tempfile::TempDir {
    let made = tempfile::tempdir_in("/dev/shm");
    made.or_else(|_| tempfile::tempdir()).unwrap()
}

/// Runs a function, and fails when it takes longer than a minute: no open here takes that long.
pub fn within_a_minute<T: Send + 'static>(
    what: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (give, take) = std::sync::mpsc::channel();
    std::thread::spawn(move || give.send(body()).ok());
    take.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|error| match error {
        RecvTimeoutError::Timeout => panic!("{what}: it hangs"),
        RecvTimeoutError::Disconnected => panic!("{what}: it panicked"),
    })
}

/// Returns everything in a directory: kind, and content or target. It does not follow links.
pub fn picture(directory: &Path) -> BTreeMap<PathBuf, String> {
    let mut seen = BTreeMap::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let entry = entry.unwrap();
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            let shown = if kind.is_dir() {
                open.push(path.clone());
                "directory".to_owned()
            } else if kind.is_file() {
                let content = std::fs::read(&path).unwrap();
                format!("{} bytes, {:08x}", content.len(), crc32c::crc32c(&content))
            } else if kind.is_symlink() {
                format!("link to {}", std::fs::read_link(&path).unwrap().display())
            } else {
                format!("{kind:?}")
            };
            seen.insert(path.strip_prefix(directory).unwrap().to_path_buf(), shown);
        }
    }
    seen
}

/// Makes a closed database with two snapshots, archives and a tail. Returns its sequence.
pub fn closed(path: &Path) -> u64 {
    let mut sequence = 0;
    for _ in 0..3 {
        let database = builder().open(path).unwrap();
        for _ in 0..5 {
            sequence += 1;
            execute(&database, sequence).unwrap();
        }
        database.snapshot().unwrap();
        sequence += 1;
        execute(&database, sequence).unwrap();
        database.close().unwrap();
    }
    assert!(path.join("archive").is_dir());
    sequence
}

pub fn make_fifo(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
}
