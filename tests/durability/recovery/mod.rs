//! Opening: every prefix, every kind of damage, every way to ask for the wrong thing.

mod damage;

use std::path::Path;
use std::sync::{Arc, Mutex};

use prevalence::{Database, Error, Model, Phase};
use serde::{Deserialize, Serialize};

use crate::common::{
    self, Add, Carry, Ledger, bytes, content, copy_directory, segments, temporary,
};

/// Where frames begin in the tests' segments, whose headers fit one page.
const FRAMES_BEGIN: usize = 4096;

fn open(path: &Path) -> Result<Database<Ledger>, Error> {
    Database::<Ledger>::builder().segment_bytes(64 << 10).open(path)
}

/// Makes a directory as a killed process leaves it: `commands` frames, no clean MANIFEST, and no
/// commit marker unless `marked`. Returns the model's bytes after each command.
fn killed(path: &Path, commands: u64, marked: bool) -> Vec<Vec<u8>> {
    let live = path.with_extension("live");
    let database = open(&live).unwrap();
    let mut states = vec![bytes(&database)];
    for index in 0..commands {
        database.execute(Add { account: 7, amount: index as i64 + 1 }).unwrap();
        states.push(bytes(&database));
    }
    if marked {
        wait_for_mark(&live);
    }
    copy_directory(&live, path);
    if !marked {
        remove_mark(path);
    }
    states
}

/// Finds the batches in a segment: position and whole size of each. It skips commit markers between
/// them, because their number depends on timing.
fn frames(segment: &[u8]) -> Vec<(usize, usize)> {
    all_frames(segment).into_iter().filter(|&(.., mark)| !mark).map(|(at, n, _)| (at, n)).collect()
}

fn all_frames(segment: &[u8]) -> Vec<(usize, usize, bool)> {
    let mut frames = Vec::new();
    let mut at = FRAMES_BEGIN;
    while segment[at..].starts_with(b"PVFR") {
        let payload = u32::from_le_bytes(segment[at + 4..at + 8].try_into().unwrap()) as usize;
        let whole = (32 + payload + 4).next_multiple_of(8);
        frames.push((at, whole, payload == 0));
        at += whole;
    }
    frames
}

fn wait_for_mark(path: &Path) {
    let last = segments(path).pop().unwrap();
    let marked = || all_frames(&std::fs::read(&last).unwrap()).last().is_some_and(|frame| frame.2);
    while !marked() {
        std::thread::yield_now();
    }
}

/// Removes the commit marker behind the last batch, if it was written before the copy was made.
fn remove_mark(path: &Path) {
    let last = segments(path).pop().unwrap();
    let mut content = std::fs::read(&last).unwrap();
    if let Some(&(at, whole)) = frames(&content).last() {
        content[at + whole..].fill(0);
    }
    std::fs::write(&last, content).unwrap();
}

#[test]
fn a_new_database_and_its_report() {
    let (_directory, path) = temporary();
    let database = open(&path.join("with/parents")).unwrap();
    assert!(database.recovery().created);
    assert_eq!(database.recovery().sequence, 0);
}

#[test]
fn every_prefix_reopens_to_the_same_bytes() {
    let (_directory, path) = temporary();
    let mut expected = Vec::new();
    for round in 0..12 {
        let database = open(&path).unwrap();
        if round > 0 {
            assert_eq!(bytes(&database), expected, "round {round}");
            assert!(database.recovery().clean && !database.recovery().created);
            assert_eq!(database.recovery().commands_replayed, (0..round).sum::<u64>());
        }
        for index in 0..round {
            database.execute(Add { account: index as u32, amount: round as i64 }).unwrap();
        }
        expected = bytes(&database);
        database.close().unwrap();
    }
}

#[test]
fn every_prefix_of_a_killed_process_is_whole() {
    let (_directory, path) = temporary();
    let states = killed(&path, 9, false);
    let last = segments(&path).pop().unwrap();
    let whole = std::fs::read(&last).unwrap();
    // Each image ends with a batch: a commit marker behind it, if the writer was idle there, goes
    // too.
    let mut end = FRAMES_BEGIN;
    for (accepted, (at, length)) in frames(&whole).into_iter().enumerate() {
        let mut cut = whole.clone();
        cut[end..].fill(0);
        end = at + length;
        let image = path.with_extension(format!("cut-{accepted}"));
        copy_directory(&path, &image);
        std::fs::write(image.join("journal").join(last.file_name().unwrap()), cut).unwrap();
        let database = open(&image).unwrap();
        assert_eq!(bytes(&database), states[accepted]);
        assert!(!database.recovery().clean);
        // Nothing states that the last frame is durable, so it is written again.
        assert_eq!(database.recovery().commands_rewritten, u64::from(accepted > 0));
        database.execute(Add { account: 7, amount: accepted as i64 + 1 }).unwrap();
        assert_eq!(bytes(&database), states[accepted + 1]);
        drop(database);
        assert_eq!(bytes(&open(&image).unwrap()), states[accepted + 1]);
    }
}

/// The last batch has several sectors, and is torn in every way at sector boundaries.
#[test]
fn a_torn_last_batch_is_cut_and_reported() {
    let (_directory, path) = temporary();
    let live = path.with_extension("live");
    let database = open(&live).unwrap();
    database.execute(Add { account: 1, amount: 1 }).unwrap();
    let expected = bytes(&database);
    database.execute(Carry((0..2000u32).map(|i| (i % 251 + 1) as u8).collect())).unwrap();
    copy_directory(&live, &path);
    remove_mark(&path);
    let last = segments(&path).pop().unwrap();
    let whole = std::fs::read(&last).unwrap();
    let (at, length) = frames(&whole)[1];
    let sectors: Vec<usize> = (at / 512..(at + length).div_ceil(512)).collect();
    assert!((4..8).contains(&sectors.len()));
    for lost in 1..1u32 << sectors.len() {
        let mut torn = whole.clone();
        for (index, sector) in sectors.iter().enumerate() {
            if lost & (1 << index) != 0 {
                let start = (sector * 512).max(at);
                torn[start..(sector + 1) * 512].fill(0);
            }
        }
        let image = path.with_extension(format!("torn-{lost}"));
        copy_directory(&path, &image);
        std::fs::write(image.join("journal").join(last.file_name().unwrap()), &torn).unwrap();
        let database = open(&image).unwrap();
        assert_eq!(bytes(&database), expected);
        let everything = lost == (1 << sectors.len()) - 1;
        match &database.recovery().torn_tail {
            Some(tail) => {
                assert_eq!(tail.position, at as u64);
                let used = torn.iter().rposition(|&byte| byte != 0).unwrap() + 1;
                assert_eq!(tail.bytes, (used - at) as u64);
            }
            None => assert!(everything, "lost {lost:b}"),
        }
        // What was torn stays behind in its segment and must not disturb the next opens.
        database.execute(Add { account: 2, amount: 2 }).unwrap();
        let after = bytes(&database);
        drop(database);
        assert_eq!(bytes(&open(&image).unwrap()), after);
        std::fs::remove_dir_all(&image).unwrap();
    }
}

fn assert_refused_and_unchanged(path: &Path, what: &str) -> Error {
    let before = content(path);
    let error = open(path).map(|_| ()).expect_err(what);
    let mut after = content(path);
    after.retain(|name, _| before.contains_key(name) || name != Path::new("LOCK"));
    assert_eq!(before, after, "{what}: a failed open must change nothing");
    error
}

fn with_image(path: &Path, body: impl FnOnce(&Path)) {
    let image = path.with_extension("image");
    copy_directory(path, &image);
    body(&image);
    std::fs::remove_dir_all(&image).unwrap();
}

/// The files are from the right database, but from the wrong time.
#[test]
fn files_of_another_past_are_refused() {
    let (_directory, path) = temporary();
    let other = path.with_extension("other");
    // So much that the next run begins a segment of its own.
    let run = |path: &Path, content| {
        open(path).unwrap().execute(Carry(vec![content; 150_000])).unwrap();
    };
    run(&path, 1);
    let old_manifest = std::fs::read(path.join("MANIFEST")).unwrap();
    copy_directory(&path, &other);
    for _ in 0..2 {
        run(&path, 1);
        run(&other, 2);
    }
    with_image(&path, |image| {
        std::fs::write(image.join("MANIFEST"), &old_manifest).unwrap();
        let error = assert_refused_and_unchanged(image, "a MANIFEST from before");
        assert!(error.to_string().contains("closed at sequence 1"), "{error}");
    });
    let second = Path::new("journal").join(segments(&path)[1].file_name().unwrap());
    with_image(&path, |image| {
        std::fs::copy(other.join(&second), image.join(&second)).unwrap();
        let error = assert_refused_and_unchanged(image, "a segment of another past");
        assert!(error.to_string().contains("chain"), "{error}");
    });
}

#[test]
fn files_of_another_database_are_refused() {
    let (_directory, path) = temporary();
    let other = path.with_extension("other");
    for path in [&path, &other] {
        open(path).unwrap().execute(Add { account: 1, amount: 1 }).unwrap();
    }
    for name in content(&path).keys().filter(|name| common::is_needed(name)) {
        with_image(&path, |image| {
            std::fs::copy(other.join(name), image.join(name)).unwrap();
            let error = assert_refused_and_unchanged(image, "foreign file");
            assert!(matches!(error, Error::ForeignFile { .. }), "{}: {error}", name.display());
        });
    }
}

#[test]
fn stray_files_are_left_alone_and_stale_temporaries_removed() {
    let (_directory, path) = temporary();
    open(&path).unwrap().execute(Add { account: 1, amount: 1 }).unwrap();
    let stray = [path.join("notes.txt"), path.join("journal/1.journal"), path.join("journal/x")];
    let stale = [path.join(".prevalence-abc.tmp"), path.join("journal/.prevalence-1.tmp")];
    for file in stray.iter().chain(&stale) {
        std::fs::write(file, "something").unwrap();
    }
    let database = open(&path).unwrap();
    assert_eq!(database.sequence(), 1);
    assert!(stray.iter().all(|file| file.exists()) && !stale.iter().any(|file| file.exists()));
}

#[test]
fn what_is_no_database_is_refused_and_left_alone() {
    let (_directory, path) = temporary();
    std::fs::write(&path, "a file").unwrap();
    assert!(matches!(open(&path), Err(Error::NotADirectory { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), b"a file");
    assert!(matches!(open(&path.join("below")), Err(Error::NotADirectory { .. })));
    let link = path.with_extension("link");
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    assert!(matches!(open(&link), Err(Error::NotADirectory { .. })));
}

#[test]
fn another_kind_of_file_in_place_of_ours_is_an_error_and_never_a_hang() {
    let (_directory, path) = temporary();
    open(&path).unwrap().execute(Add { account: 1, amount: 1 }).unwrap();
    for name in content(&path).keys().filter(|name| common::is_needed(name)) {
        with_image(&path, |image| {
            std::fs::remove_file(image.join(name)).unwrap();
            std::fs::create_dir(image.join(name)).unwrap();
            assert!(matches!(open(image), Err(Error::Io { .. })), "{}", name.display());
            std::fs::remove_dir(image.join(name)).unwrap();
            let made = std::process::Command::new("mkfifo").arg(image.join(name)).status();
            if made.is_ok_and(|status| status.success()) {
                assert!(matches!(open(image), Err(Error::Io { .. })), "{}", name.display());
            }
        });
    }
}

#[test]
fn a_given_initial_model_is_stored_once_and_for_all() {
    let (_directory, path) = temporary();
    let mut initial = Ledger::default();
    initial.add(9, 99);
    let expected = initial.bytes();
    let builder = || Database::<Ledger>::builder();
    drop(builder().initial(initial).open(&path).unwrap());
    assert_eq!(bytes(&builder().open(&path).unwrap()), expected);
    let mut other = Ledger::default();
    other.add(1, 1);
    assert_eq!(bytes(&builder().initial(other).open(&path).unwrap()), expected);
}

#[test]
fn progress_is_told_from_start_to_end() {
    let (_directory, path) = temporary();
    let database = open(&path).unwrap();
    for _ in 0..30 {
        database.execute(Carry(vec![1; 100_000])).unwrap();
    }
    drop(database);
    let told = Arc::new(Mutex::new(Vec::new()));
    let teller = told.clone();
    let builder = Database::<Ledger>::builder();
    let builder = builder.on_progress(move |progress| teller.lock().unwrap().push(progress));
    drop(builder.open(&path).unwrap());
    let told = told.lock().unwrap();
    for phase in [Phase::Snapshot, Phase::Journal] {
        let steps: Vec<_> = told.iter().filter(|step| step.phase == phase).collect();
        assert!(steps.is_sorted_by_key(|step| step.done));
        assert_eq!(steps[0].done, 0);
        assert_eq!(steps[steps.len() - 1].done, steps[0].total);
        assert!(steps.len() > if phase == Phase::Journal { 3 } else { 1 }, "{steps:?}");
    }
}

#[test]
fn an_interrupted_creation_starts_over() {
    let (_directory, path) = temporary();
    drop(open(&path).unwrap());
    say_creating(&path);
    let database = open(&path).unwrap();
    assert!(database.recovery().created);
    database.execute(Add { account: 1, amount: 1 }).unwrap();
    drop(database);
    assert_eq!(open(&path).unwrap().sequence(), 1);
    // What is more than an interrupted creation leaves is not removed for a word in a file.
    say_creating(&path);
    let before = content(&path);
    let error = open(&path).unwrap_err();
    assert!(matches!(error, Error::Corrupt { position: 32, .. }), "{error}");
    assert_eq!(content(&path), before);
    // A place for the archive may be made before everything else.
    let (_directory, path) = temporary();
    std::fs::create_dir_all(path.join("archive")).unwrap();
    drop(open(&path).unwrap());
    say_creating(&path);
    assert!(open(&path).unwrap().recovery().created);
}

fn say_creating(path: &Path) {
    // The state field of a MANIFEST that says `Creating`, with the checksum mended.
    let manifest = path.join("MANIFEST");
    let mut bytes_ = std::fs::read(&manifest).unwrap();
    bytes_[32..36].fill(0);
    let covered = bytes_.len() - 4;
    let checksum = crc32c::crc32c(&bytes_[..covered]);
    bytes_[covered..].copy_from_slice(&checksum.to_le_bytes());
    std::fs::write(&manifest, bytes_).unwrap();
}

#[test]
fn a_model_whose_default_would_differ_is_another_model_by_version() {
    mod other {
        use super::*;
        #[derive(Clone, Default, Serialize, Deserialize)]
        pub struct Ledger(pub u8);
        impl Model for Ledger {
            type Event = ();
            const VERSION: u32 = 2;
        }
        prevalence::commands! { Ledger {} }
    }
    let (_directory, path) = temporary();
    drop(open(&path).unwrap());
    let error = Database::<other::Ledger>::open(&path).unwrap_err();
    assert!(matches!(error, Error::WrongVersion { expected: 2, found: 1, .. }), "{error}");
}
