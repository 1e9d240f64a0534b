//! Tests promise 5 when something else stands in the place of a file or directory of the database,
//! or beside it: the open gives the exact state, or at once a typed error that changed nothing. It
//! never hangs.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::common::faults::scene::{closed, make_fifo, picture, within_a_minute, workshop};
use crate::common::faults::{after, builder, execute, judge};
use crate::common::{bytes, content, copy_directory, temporary};

/// A thing that does not belong there: its name, and a function that puts it at a path.
type Intruder = (&'static str, fn(&Path, &Path));

/// What can stand in the place of a file or directory of ours. `elsewhere` is where the original
/// is.
const INTRUDERS: [Intruder; 9] = [
    ("a FIFO", |place, _| make_fifo(place)),
    ("an empty directory", |place, _| std::fs::create_dir(place).unwrap()),
    ("a socket", |place, _| drop(std::os::unix::net::UnixListener::bind(place).unwrap())),
    ("a link to nowhere", |place, _| symlink("nowhere", place).unwrap()),
    ("a link to itself", |place, _| symlink(place.file_name().unwrap(), place).unwrap()),
    ("a link to a FIFO", |place, elsewhere| {
        let fifo = elsewhere.with_extension("fifo");
        make_fifo(&fifo);
        symlink(fifo, place).unwrap();
    }),
    ("a link to a directory", |place, elsewhere| {
        symlink(elsewhere.parent().unwrap().parent().unwrap(), place).unwrap();
    }),
    ("a link to an endless device", |place, _| symlink("/dev/zero", place).unwrap()),
    ("a link to a file that cannot be listed", |place, _| symlink("/dev/null", place).unwrap()),
];

/// Puts an intruder in the place of one file or directory of a closed database, and opens the
/// database. Checks that an error has changed nothing, or that the state is exact. Returns whether
/// it opened.
fn opens_with(template: &Template, name: &Path, intruder: &Intruder, needed: Option<bool>) {
    let directory = workshop();
    let path = directory.path().join("ledger.db");
    copy_directory(&template.path, &path);
    let sequence = template.sequence;
    let elsewhere = directory.path().join("elsewhere/moved");
    std::fs::create_dir_all(elsewhere.parent().unwrap()).unwrap();
    std::fs::rename(path.join(name), &elsewhere).unwrap();
    (intruder.1)(&path.join(name), &elsewhere);
    let what = format!("{} in place of {}", intruder.0, name.display());
    let before = picture(directory.path());
    let image = path.clone();
    match within_a_minute(&what, move || builder().open(image)) {
        Ok(database) => {
            assert_ne!(needed, Some(true), "{what}: opened");
            assert_eq!(bytes(&database), after(sequence), "{what}");
            within_a_minute(&what, move || {
                execute(&database, sequence + 1).unwrap();
                drop(database);
            });
            let image = path.clone();
            let again = within_a_minute(&what, move || builder().open(image)).unwrap();
            assert_eq!(bytes(&again), after(sequence + 1), "{what}");
        }
        Err(error) => {
            assert_ne!(needed, Some(false), "{what}: {error}");
            assert!(!error.to_string().is_empty());
            let mut now = picture(directory.path());
            now.retain(|name, _| before.contains_key(name) || !name.ends_with("LOCK"));
            assert_eq!(now, before, "{what}: {error}");
        }
    }
}

/// A closed database from which the tests copy.
struct Template {
    _directory: tempfile::TempDir,
    path: PathBuf,
    sequence: u64,
}

fn template() -> Template {
    let directory = workshop();
    let path = directory.path().join("template.db");
    let sequence = closed(&path);
    Template { _directory: directory, path, sequence }
}

#[test]
fn something_else_in_place_of_a_file() {
    let template = template();
    let names: Vec<_> = content(&template.path).into_keys().collect();
    let of = |directory: &str| names.iter().filter(|name| name.starts_with(directory)).collect();
    let (snapshots, segments): (Vec<_>, Vec<_>) = (of("snapshots"), of("journal"));
    assert_eq!(snapshots.len(), 2);
    for name in &names {
        // The first segment holds what the older snapshot lacks, and nothing the newer one does.
        let unneeded = name == snapshots[0] || name == segments[0] || name == Path::new("RESERVE");
        // That the newest snapshot is no file is not damage, but could be called so. And no command
        // is replayed from an archive, but an open looks whether all in it are known.
        // The schemas are made again, unless a directory stands in their place.
        let either = name == snapshots[1]
            || ["archive", "schemas"].iter().any(|directory| name.starts_with(directory));
        let needed = (!either).then_some(!unneeded);
        for intruder in &INTRUDERS {
            opens_with(&template, name, intruder, needed);
        }
    }
}

#[test]
fn something_else_in_place_of_a_directory() {
    let template = template();
    for name in ["journal", "snapshots"] {
        for intruder in &INTRUDERS {
            opens_with(&template, Path::new(name), intruder, Some(true));
        }
    }
}

/// The crate follows links to regular files and to directories, so `journal` may be on another
/// disk.
#[test]
fn links_to_what_was_moved_are_followed() {
    let template = template();
    let names: Vec<_> = content(&template.path).into_keys().collect();
    let directories = ["", "journal", "snapshots", "archive"].map(PathBuf::from);
    for name in directories.iter().chain(&names) {
        let directory = workshop();
        let (path, sequence) = (directory.path().join("ledger.db"), template.sequence);
        copy_directory(&template.path, &path);
        let elsewhere = directory.path().join("moved");
        let place = if name == Path::new("") { path.clone() } else { path.join(name) };
        std::fs::rename(&place, &elsewhere).unwrap();
        symlink(&elsewhere, &place).unwrap();
        assert_eq!(judge(&path, sequence, &format!("moved {}", name.display())), sequence);
    }
}

#[test]
fn strange_files_are_left_alone_and_do_no_harm() {
    let (_directory, path) = temporary();
    let sequence = closed(&path);
    let names: [&[u8]; 12] = [
        b"notes.txt",
        b"1.journal",
        b"+0000000000000000001.journal",
        b"-0000000000000000001.snapshot",
        b"00000000000000000001.journal.bak",
        b"99999999999999999999.snapshot",
        b"000000000000000000000000001.archive",
        b"\xff\xfe.journal",
        b".prevalence-x",
        b"x.tmp",
        b"MANIFEST~",
        b".journal",
    ];
    let mut strange = Vec::new();
    for directory in ["", "journal", "snapshots", "archive"] {
        for (index, name) in names.iter().enumerate() {
            let place = path.join(directory).join(OsStr::from_bytes(name));
            match index % 4 {
                0 => std::fs::write(&place, "something").unwrap(),
                1 => std::fs::create_dir(&place).unwrap(),
                2 => make_fifo(&place),
                _ => symlink("nowhere", &place).unwrap(),
            }
            strange.push(place.strip_prefix(&path).unwrap().to_path_buf());
        }
        // A backup that was killed leaves a directory of this name beside its target.
        let killed_backup = path.join(directory).join(".prevalence-backup.tmp");
        std::fs::create_dir(&killed_backup).unwrap();
        std::fs::write(killed_backup.join("MANIFEST"), "half").unwrap();
        strange.push(killed_backup.strip_prefix(&path).unwrap().to_path_buf());
    }
    let of_strange = |path: &Path| {
        let mut all = picture(path);
        all.retain(|name, _| strange.contains(name));
        all
    };
    let before = of_strange(&path);
    assert_eq!(before.len(), strange.len());
    let image = path.clone();
    within_a_minute("strange files", move || {
        let database = builder().open(image).unwrap();
        assert_eq!(bytes(&database), after(sequence));
        for sequence in sequence + 1..sequence + 9 {
            execute(&database, sequence).unwrap();
            database.snapshot().unwrap();
        }
        assert_eq!(database.stats().snapshots_failed, 0);
        database.close().unwrap();
    });
    assert_eq!(bytes(&builder().open(&path).unwrap()), after(sequence + 8));
    assert_eq!(of_strange(&path), before);
}
