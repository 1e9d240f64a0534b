//! Places that are no database, or not a whole one.

use std::path::Path;

use prevalence::inspect::{Depth, Inspection, Severity, verify};
use prevalence::{Database, Error, SnapshotPolicy};

use crate::common::{Ledger, Mix, copy_directory, segments, temporary};
use crate::{deep, unchanged};

/// Makes a closed database with three listed snapshots and three segments.
fn closed(path: &Path) {
    let open = || {
        let builder = Database::<Ledger>::builder().segment_bytes(64 << 10);
        builder.keep_snapshots(3).snapshots(SnapshotPolicy::manual()).open(path).unwrap()
    };
    for run in 0..2 {
        let database = open();
        for value in 0..4 {
            database.execute(Mix(run * 10 + value)).unwrap();
        }
        database.execute(crate::common::Carry(vec![0; 31_000])).unwrap();
        database.snapshot().unwrap();
        database.close().unwrap();
    }
    let database = open();
    database.execute(Mix(99)).unwrap();
    database.close().unwrap();
}

fn both(path: &Path) -> (Error, Error) {
    let look = Inspection::open(path).unwrap_err();
    let verified = verify(path, Depth::Deep, |_| {}).unwrap_err();
    assert!(!look.to_string().is_empty() && !verified.to_string().is_empty());
    (look, verified)
}

#[test]
fn an_empty_directory_is_no_database() {
    let directory = tempfile::tempdir().unwrap();
    let errors = unchanged(directory.path(), || both(directory.path()));
    assert!(matches!(errors, (Error::Missing { .. }, Error::Missing { .. })), "{errors:?}");
    std::fs::write(directory.path().join("notes.txt"), "mine").unwrap();
    std::fs::create_dir(directory.path().join("journal")).unwrap();
    let errors = unchanged(directory.path(), || both(directory.path()));
    assert!(matches!(errors, (Error::Missing { .. }, Error::Missing { .. })), "{errors:?}");
}

#[test]
fn nothing_and_a_file_are_no_database() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x");
    let errors = unchanged(directory.path(), || both(&path));
    assert!(matches!(errors, (Error::Missing { .. }, Error::Missing { .. })), "{errors:?}");
    std::fs::write(&path, "PREVMANI").unwrap();
    let errors = unchanged(directory.path(), || both(&path));
    assert!(
        matches!(errors, (Error::NotADirectory { .. }, Error::NotADirectory { .. })),
        "{errors:?}"
    );
}

#[test]
fn a_directory_that_may_not_be_read_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let (_directory, path) = temporary();
    closed(&path);
    let permissions = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path.join("MANIFEST"), permissions(0)).unwrap();
    if std::fs::read(path.join("MANIFEST")).is_ok() {
        println!("skipped: this user may read everything");
        return;
    }
    let errors = both(&path);
    assert!(matches!(errors, (Error::Io { .. }, Error::Io { .. })), "{errors:?}");
    std::fs::set_permissions(path.join("MANIFEST"), permissions(0o600)).unwrap();
    std::fs::set_permissions(path.join("journal"), permissions(0)).unwrap();
    assert!(matches!(both(&path), (Error::Io { .. }, Error::Io { .. })));
    std::fs::set_permissions(path.join("journal"), permissions(0o700)).unwrap();
}

#[test]
fn a_copy_without_its_manifest_says_so() {
    let (_directory, path) = temporary();
    closed(&path);
    std::fs::remove_file(path.join("MANIFEST")).unwrap();
    let error = unchanged(&path, || Inspection::open(&path).unwrap_err());
    assert!(matches!(&error, Error::Missing { path, .. } if path.ends_with("MANIFEST")), "{error}");
    assert!(error.to_string().contains("half-finished copy"), "{error}");
    let verified = deep(&path);
    let [finding] = &verified.findings[..] else { panic!("{:?}", verified.findings) };
    assert!(finding.path.ends_with("MANIFEST") && finding.bytes == (0..0));
    assert_eq!(verified.commands, 11, "the commands can still be read");
}

#[test]
fn a_missing_snapshot_is_told_with_what_an_open_would_do() {
    let (directory, path) = temporary();
    closed(&path);
    let look = crate::look(&path);
    let listed: Vec<_> = look.snapshots().iter().filter(|it| it.is_listed).cloned().collect();
    let [_, older, newer] = &listed[..] else { panic!("{listed:?}") };
    let copy = directory.path().join("copy.db");
    copy_directory(&path, &copy);
    let missing = copy.join("snapshots").join(newer.path.file_name().unwrap());
    std::fs::remove_file(&missing).unwrap();
    let look = crate::look(&copy);
    let told = look.snapshots().iter().find(|it| it.sequence == newer.sequence).unwrap();
    assert!(told.is_listed && told.problem.as_ref().unwrap().contains("missing"));
    assert_eq!(look.open_plan().snapshot, Some(older.sequence));
    assert_eq!(look.open_plan().skipped_snapshots, [newer.sequence]);
    assert_eq!(look.open_plan().commands, 11 - older.sequence);
    let verified = deep(&copy);
    let [finding] = &verified.findings[..] else { panic!("{:?}", verified.findings) };
    assert_eq!((&finding.path, finding.severity), (&missing, Severity::Damage));
    assert!(finding.meaning.contains(&format!("snapshot {}", older.sequence)));
    let opened = Database::<Ledger>::open(&copy).unwrap();
    assert_eq!(opened.recovery().snapshot_sequence, older.sequence);
    assert_eq!(opened.recovery().commands_replayed, 11 - older.sequence);
}

#[test]
fn a_missing_segment_is_told_with_its_commands() {
    let (directory, path) = temporary();
    closed(&path);
    let firsts: Vec<u64> =
        crate::look(&path).segments().iter().map(|it| it.first_sequence).collect();
    assert_eq!(firsts.len(), 3, "{firsts:?}");
    for gone in 0..3 {
        let copy = directory.path().join(format!("{gone}.db"));
        copy_directory(&path, &copy);
        std::fs::remove_file(&segments(&copy)[gone]).unwrap();
        let verified = deep(&copy);
        assert!(!verified.is_sound());
        let lost: Vec<_> = verified.findings.iter().filter_map(|it| it.sequences.clone()).collect();
        let expected = firsts[gone]..=firsts.get(gone + 1).map_or(11, |next| next - 1);
        match gone {
            0 => assert!(verified.findings.iter().all(|it| it.severity == Severity::Damage)),
            _ => assert_eq!(lost, [expected], "{:?}", verified.findings),
        }
        let look = crate::look(&copy);
        let fails = Database::<Ledger>::open(&copy).is_err();
        assert_eq!(look.open_plan().problem.is_some(), fails, "{gone}: {:?}", look.open_plan());
    }
}

#[test]
fn a_newer_format_is_told() {
    let (directory, path) = temporary();
    closed(&path);
    for name in ["MANIFEST", "journal/00000000000000000011.journal"] {
        let copy = directory.path().join("newer.db");
        copy_directory(&path, &copy);
        let mut bytes = std::fs::read(copy.join(name)).unwrap();
        bytes[8] = 2;
        std::fs::write(copy.join(name), bytes).unwrap();
        if name == "MANIFEST" {
            let errors = unchanged(&copy, || both(&copy));
            let is_format = |error: &Error| matches!(error, Error::UnsupportedFormat { .. });
            assert!(is_format(&errors.0) && is_format(&errors.1), "{errors:?}");
        } else {
            let verified = deep(&copy);
            let finding = &verified.findings[0];
            assert!(finding.path.ends_with(name) && finding.bytes == (8..12), "{finding:?}");
            let segment = crate::look(&copy).segments().last().unwrap().clone();
            assert!(segment.problem.unwrap().contains("format version 2"));
        }
        std::fs::remove_dir_all(&copy).unwrap();
    }
}

#[test]
fn files_of_another_database_are_told() {
    let (directory, path) = temporary();
    closed(&path);
    let other = directory.path().join("other.db");
    closed(&other);
    let segment = segments(&other).pop().unwrap();
    std::fs::copy(&segment, path.join("journal").join(segment.file_name().unwrap())).unwrap();
    let theirs = crate::look(&other).database();
    let verified = deep(&path);
    let finding = &verified.findings[0];
    assert_eq!((finding.bytes.clone(), &finding.found), (16..32, &theirs.to_string()));
    let look = crate::look(&path);
    let problem = look.segments().last().unwrap().problem.clone().unwrap();
    assert!(problem.contains("belongs to database"), "{problem}");
    assert!(look.open_plan().problem.is_some());
}

#[test]
fn an_interrupted_purge_is_told() {
    let (_directory, path) = temporary();
    closed(&path);
    let manifest = path.join("MANIFEST");
    let mut bytes = std::fs::read(&manifest).unwrap();
    bytes[32] = 3; // swapping
    let end = bytes.len() - 4;
    let checksum = crc32c::crc32c(&bytes[..end]);
    bytes[end..].copy_from_slice(&checksum.to_le_bytes());
    std::fs::write(&manifest, bytes).unwrap();
    let errors = unchanged(&path, || both(&path));
    assert!(
        matches!(errors, (Error::PurgeUnfinished { .. }, Error::PurgeUnfinished { .. })),
        "{errors:?}"
    );
    // A backup makes such an exchange, too.
    let told = errors.0.to_string();
    assert!(told.contains("a purge of") && told.contains("repeat the backup"), "{told}");
}
