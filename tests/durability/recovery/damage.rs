//! Damaged, missing and shortened files: an error that changes nothing, or the exact state.

use super::*;

#[test]
fn damage_to_anything_but_the_last_batch_is_an_error() {
    let (_directory, path) = temporary();
    killed(&path, 4, false);
    let last = segments(&path).pop().unwrap();
    let whole = std::fs::read(&last).unwrap();
    for (at, length) in frames(&whole).into_iter().take(3) {
        for damaged in [at, at + 12, at + 20, at + 28, at + 40, at + length - 5] {
            let mut bytes = whole.clone();
            bytes[damaged] ^= 0x10;
            std::fs::write(&last, &bytes).unwrap();
            let error = assert_refused_and_unchanged(&path, "damaged frame");
            assert!(
                matches!(&error, Error::Corrupt { path, position, .. }
                    if path == &last && (at as u64..(at + length) as u64).contains(position)),
                "{error}"
            );
        }
        let mut bytes = whole.clone();
        bytes[at..at + length].fill(0);
        std::fs::write(&last, &bytes).unwrap();
        let error = assert_refused_and_unchanged(&path, "zeroed frame");
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    }
}

#[test]
fn a_mark_tells_damage_to_the_last_batch_from_a_torn_write() {
    let (_directory, path) = temporary();
    let states = killed(&path, 4, true);
    let last = segments(&path).pop().unwrap();
    let whole = std::fs::read(&last).unwrap();
    let all = frames(&whole);
    assert_eq!(all.len(), 4);
    let mut bytes_ = whole.clone();
    bytes_[all[3].0 + 40] ^= 1;
    std::fs::write(&last, &bytes_).unwrap();
    let error = assert_refused_and_unchanged(&path, "damaged last batch");
    assert!(error.to_string().contains("sequence 4 was durable"), "{error}");
    std::fs::write(&last, &whole).unwrap();
    let database = open(&path).unwrap();
    assert_eq!(bytes(&database), states[4]);
    assert_eq!(
        database.recovery().commands_rewritten,
        0,
        "the mark states that everything is durable"
    );
}

/// This flips one bit in every byte that is not zero or is near such a byte, cuts every file at
/// many lengths, and removes each file of a closed database. An open gives the exact state or an
/// error, and never less.
#[test]
fn no_damage_to_a_closed_database_goes_unnoticed() {
    let (_directory, path) = temporary();
    let database = open(&path).unwrap();
    for index in 0..5 {
        database.execute(Add { account: index, amount: 1 }).unwrap();
    }
    let expected = bytes(&database);
    database.close().unwrap();
    let files = content(&path);
    let check = |image: &Path, what: String| match open(image) {
        Ok(database) => assert_eq!(bytes(&database), expected, "{what}"),
        Err(error) => assert!(!error.to_string().is_empty(), "{what}"),
    };
    for (name, whole) in &files {
        let used = whole.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 20);
        let places: Vec<usize> = (0..whole.len())
            .filter(|&at| whole[at] != 0 || (at < used && at % 97 == 0) || at % 9973 == 0)
            .collect();
        for at in places {
            with_image(&path, |image| {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << (at % 8);
                std::fs::write(image.join(name), flipped).unwrap();
                check(image, format!("bit {} of byte {at} of {}", at % 8, name.display()));
            });
        }
        for length in (0..whole.len()).filter(|&length| length < 300 || length % 4001 == 0) {
            with_image(&path, |image| {
                std::fs::write(image.join(name), &whole[..length]).unwrap();
                check(image, format!("{} cut to {length}", name.display()));
            });
        }
        with_image(&path, |image| {
            std::fs::remove_file(image.join(name)).unwrap();
            if common::is_needed(name) {
                let error = assert_refused_and_unchanged(image, "missing file");
                assert!(matches!(error, Error::Missing { .. }), "{}: {error}", name.display());
            }
        });
    }
}

#[test]
fn a_missing_segment_is_named_whether_closed_or_killed() {
    for killed in [false, true] {
        let (_directory, path) = temporary();
        let live = path.with_extension("live");
        let database = open(&live).unwrap();
        for _ in 0..40 {
            database.execute(Carry(vec![1; 10_000])).unwrap();
        }
        if killed {
            copy_directory(&live, &path);
        }
        drop(database);
        if !killed {
            copy_directory(&live, &path);
        }
        check_missing_segments(&path);
    }
}

fn check_missing_segments(path: &Path) {
    let all = segments(path);
    assert!(all.len() > 4, "{all:?}");
    for missing in &all {
        let kept = std::fs::read(missing).unwrap();
        std::fs::remove_file(missing).unwrap();
        let error = assert_refused_and_unchanged(path, "missing segment");
        assert!(matches!(error, Error::Missing { .. } | Error::Corrupt { .. }), "{error}");
        std::fs::write(missing, kept).unwrap();
    }
    open(path).unwrap();
}

/// What is known durable must exist, even if it was removed without a trace.
#[test]
fn a_shortened_journal_is_an_error() {
    // Closed: the last frame's place holds zeros, as if it had never been.
    let (_directory, path) = temporary();
    let database = open(&path).unwrap();
    for _ in 0..3 {
        database.execute(Add { account: 1, amount: 1 }).unwrap();
    }
    database.close().unwrap();
    let last = segments(&path).pop().unwrap();
    let mut bytes_ = std::fs::read(&last).unwrap();
    let at = frames(&bytes_)[2].0;
    bytes_[at..].fill(0);
    std::fs::write(&last, bytes_).unwrap();
    let error = assert_refused_and_unchanged(&path, "zeroed last frame");
    assert!(
        matches!(&error, Error::Corrupt { path, position, .. }
            if path == &last && *position == at as u64),
        "{error}"
    );
    // Killed: the file ends where the last frame began. Nothing states that this frame was durable,
    // but the file had another length when it was published.
    let path = path.with_extension("killed");
    killed(&path, 3, false);
    let last = segments(&path).pop().unwrap();
    let bytes_ = std::fs::read(&last).unwrap();
    std::fs::write(&last, &bytes_[..frames(&bytes_)[2].0]).unwrap();
    let error = assert_refused_and_unchanged(&path, "shortened file");
    assert!(matches!(&error, Error::Corrupt { path, .. } if path == &last), "{error}");
}
