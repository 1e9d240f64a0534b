//! Owns the answer to who has a database open. Takes no lock for it: even a shared lock that is
//! held for an instant can make the open of another program fail with `Locked`. Knows nothing of
//! what is in the files.
//!
//! Linux lists all advisory locks in `/proc/locks`, with the process that holds each, and the
//! device and inode of the file. An open database holds two: on its directory and on LOCK. Nothing
//! is asked of the files but their inodes.

use std::fmt;
use std::path::Path;

/// Who has a database open.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Opener {
    /// A program has it open, and may change it at any moment.
    Writer {
        /// Its process id; `None` if the system does not tell it.
        process: Option<u32>,
    },
    /// A program that only reads has it locked, for example to verify it. Nobody changes it.
    Reader {
        /// Its process id; `None` if the system does not tell it.
        process: Option<u32>,
    },
    /// The system lists no lock on it. It does not list locks that were taken on another machine,
    /// or outside of the container in which this runs.
    NobodySeen,
    /// It cannot be found out.
    Unknown {
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let process = |process: &Option<u32>| match process {
            Some(process) => format!(" (process {process})"),
            None => String::new(),
        };
        match self {
            Self::Writer { process: it } => write!(f, "a program has it open{}", process(it)),
            Self::Reader { process: it } => write!(f, "a program reads it{}", process(it)),
            Self::NobodySeen => f.write_str("no program on this system has it open"),
            Self::Unknown { reason } => write!(f, "not known whether it is open: {reason}"),
        }
    }
}

/// One line of `/proc/locks` about a whole file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    is_exclusive: bool,
    process: Option<u32>,
    /// Major and minor number.
    device: (u64, u64),
    inode: u64,
}

/// Parses a line such as `1: FLOCK  ADVISORY  WRITE 4242 fd:00:1311 0 EOF`. Returns `None` for
/// locks of other kinds, and for those who only wait for a lock (`1: -> FLOCK …`).
fn parse(line: &str) -> Option<Line> {
    let mut words = line.split_ascii_whitespace().skip(1);
    if words.next()? != "FLOCK" {
        return None;
    }
    let mode = words.nth(1)?;
    let process = words.next()?.parse().ok().filter(|&process| process > 0);
    let mut place = words.next()?.split(':');
    let number = |text: Option<&str>| u64::from_str_radix(text?, 16).ok();
    let device = (number(place.next())?, number(place.next())?);
    let inode = place.next()?.parse().ok()?;
    Some(Line { is_exclusive: mode == "WRITE", process, device, inode })
}

/// A file whose lock is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Locked {
    device: (u64, u64),
    inode: u64,
}

/// Finds the holder of a lock on the directory or on the LOCK in it.
fn find(locks: &str, directory: Locked, lock: Option<Locked>) -> Opener {
    let lines: Vec<Line> = locks.lines().filter_map(parse).collect();
    let is_of = |line: &Line, file: Locked| line.inode == file.inode;
    let is_exactly_of = |line: &&Line| {
        [Some(directory), lock]
            .into_iter()
            .flatten()
            .any(|file| is_of(line, file) && line.device == file.device)
    };
    // Some file systems show other device numbers here. Two inodes that one process has locked are
    // no chance.
    let is_probably_of = |line: &&Line| {
        is_of(line, directory)
            && lines.iter().any(|other| {
                lock.is_some_and(|lock| is_of(other, lock)) && other.process == line.process
            })
    };
    let found = lines.iter().find(is_exactly_of).or_else(|| lines.iter().find(is_probably_of));
    match found {
        None => Opener::NobodySeen,
        Some(Line { is_exclusive: true, process, .. }) => Opener::Writer { process: *process },
        Some(Line { process, .. }) => Opener::Reader { process: *process },
    }
}

/// Finds out who has the database in the directory `root` open.
#[cfg(target_os = "linux")]
pub(crate) fn of(root: &Path) -> Opener {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

    let identity = |path: &Path| {
        let found = statx(CWD, path, AtFlags::empty(), StatxFlags::INO).ok()?;
        let device = (u64::from(found.stx_dev_major), u64::from(found.stx_dev_minor));
        Some(Locked { device, inode: found.stx_ino })
    };
    let Some(directory) = identity(root) else {
        let reason = format!("{} cannot be examined", root.display());
        return Opener::Unknown { reason };
    };
    match std::fs::read_to_string("/proc/locks") {
        Ok(locks) => find(&locks, directory, identity(&root.join("LOCK"))),
        Err(error) => Opener::Unknown { reason: format!("/proc/locks cannot be read: {error}") },
    }
}

/// Finds out who has the database in the directory `root` open.
#[cfg(not(target_os = "linux"))]
pub(crate) fn of(_: &Path) -> Opener {
    Opener::Unknown { reason: "this system does not list locks".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCKS: &str = "1: POSIX  ADVISORY  WRITE 11 fd:00:70 0 EOF
2: FLOCK  ADVISORY  WRITE 42 fd:00:70 0 EOF
2: -> FLOCK  ADVISORY  READ 43 fd:00:80 0 EOF
3: FLOCK  ADVISORY  READ 0 fd:01:90 0 EOF
4: FLOCK  ADVISORY  WRITE 44 00:2a:100 0 EOF
5: FLOCK  ADVISORY  WRITE 44 00:2a:101 0 EOF
6: FLOCK  ADVISORY  WRITE 45 00:2a:110 0 EOF
";

    fn file(device: (u64, u64), inode: u64) -> Locked {
        Locked { device, inode }
    }

    #[test]
    fn the_holder_is_found_by_device_and_inode() {
        let of = |device, inode| find(LOCKS, file(device, inode), None);
        assert_eq!(of((0xfd, 0), 70), Opener::Writer { process: Some(42) });
        assert_eq!(of((0xfd, 1), 70), Opener::NobodySeen, "the same inode of another device");
        assert_eq!(of((0xfd, 0), 80), Opener::NobodySeen, "one who waits holds nothing");
        assert_eq!(of((0xfd, 1), 90), Opener::Reader { process: None }, "not visible from here");
        let lock = Some(file((0xfd, 0), 70));
        assert_eq!(find(LOCKS, file((9, 9), 1), lock), Opener::Writer { process: Some(42) });
    }

    #[test]
    fn two_inodes_of_one_process_are_enough_where_device_numbers_differ() {
        let found =
            |directory, lock| find(LOCKS, file((0, 0x31), directory), Some(file((0, 0x31), lock)));
        assert_eq!(found(100, 101), Opener::Writer { process: Some(44) });
        assert_eq!(found(100, 110), Opener::NobodySeen, "of two processes");
        assert_eq!(found(110, 111), Opener::NobodySeen, "one of them");
    }

    #[test]
    fn other_lines_are_no_locks() {
        for line in ["", "1:", "1: FLOCK", "1: FLOCK  ADVISORY  WRITE 1 fd:zz:1 0 EOF"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
