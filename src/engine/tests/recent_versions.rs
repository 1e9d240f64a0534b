//! Which recent versions are kept, and for how long.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Makes versions at these sequences, one second apart. Each version is its own sequence.
fn recent(limits: RecentVersions, sequences: &[u64]) -> (Recent<u64>, Instant) {
    let recent = Recent { limits, kept: Mutex::default() };
    let mut now = Instant::now();
    for &sequence in sequences {
        now += SECOND;
        recent.push(sequence, sequence, now, &mut Vec::new());
    }
    (recent, now)
}

fn limits(count: usize, seconds: u64, commands: u64) -> RecentVersions {
    RecentVersions { count, age: SECOND * seconds as u32, commands }
}

/// Checks that exactly the expected versions can be read, before and after old versions are
/// taken out.
fn check(limits: RecentVersions, sequences: &[u64], later_s: u32, expected: &[u64]) {
    let (recent, now) = recent(limits, sequences);
    let now = now + SECOND * later_s;
    let newest = *sequences.last().unwrap();
    for _ in 0..2 {
        let found = sequences.iter().filter_map(|&one| recent.at(one, newest, now).ok());
        assert!(found.eq(expected.iter().copied()), "{limits:?} {later_s}");
        let oldest = expected[0];
        for wanted in 0..newest {
            let answer = recent.at(wanted, newest, now);
            let after = expected.iter().find(|&&one| one >= wanted).copied().unwrap();
            let right = match &answer {
                Ok(found) => *found == wanted,
                Err(AtError::Forgotten { oldest: told, newest: last, .. }) => {
                    wanted < oldest && (*told, *last) == (oldest, newest)
                }
                Err(AtError::AmidBatch { before, after: told, .. }) => {
                    *before < wanted && wanted < *told && *told == after
                }
                Err(AtError::NotYet { .. } | AtError::Forked) => false,
            };
            assert!(right, "{wanted}: {answer:?}");
        }
        drop(recent.forget_old(now));
        assert_eq!(recent.state(newest), (expected.len() - 1, oldest));
    }
}

#[test]
fn each_limit_holds_by_itself() {
    let all = [0, 3, 4, 10, 12];
    check(limits(9, 100, 100), &all, 0, &all);
    check(limits(2, 100, 100), &all, 0, &[4, 10, 12]);
    check(limits(9, 100, 8), &all, 0, &[4, 10, 12]);
    check(limits(9, 100, 7), &all, 0, &[10, 12]);
    // The version at 4 was replaced by the version at 10, one second before the last one came.
    check(limits(9, 1, 100), &all, 0, &[4, 10, 12]);
    check(limits(9, 1, 100), &all, 1, &[10, 12]);
    check(limits(9, 1, 100), &all, 2, &[12]);
    check(limits(9, 1, 100), &all, 1000, &[12]);
    check(limits(9, 100, 1), &all, 0, &[12]);
}

#[test]
fn the_current_version_may_not_be_among_them_yet() {
    let (recent, now) = recent(limits(9, 100, 100), &[1, 5]);
    let amid = AtError::AmidBatch { wanted: 7, before: 5, after: 9 };
    assert_eq!(recent.at(7, 9, now), Err(amid));
    assert_eq!((recent.at(5, 9, now), recent.state(9)), (Ok(5), (2, 1)));
    assert_eq!((recent.forget_all(), recent.state(5)), (vec![1], (0, 5)));
}

#[test]
fn nothing_is_kept_when_the_option_is_off() {
    let recent = Recent::new(RecentVersions::OFF, 0, 0);
    recent.push(1, 1, Instant::now(), &mut Vec::new());
    let forgotten = AtError::Forgotten { wanted: 0, oldest: 1, newest: 1 };
    assert_eq!(recent.at(0, 1, Instant::now()), Err(forgotten));
    assert_eq!((recent.state(1), recent.pause()), ((0, 1), None));
}
