//! The commands that read, in this process, on directories whose files were spoiled at many places:
//! they end, they never panic, and they never write. Neither do those that write another directory,
//! and what they make there is what the program has done.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::Duration;

use prevalence::inspect::Inspection;
use prevalence::rescue::{Loss, plan_repair};
use prevalence::{Database, Retention, SnapshotPolicy};

use crate::common::{Bank, Deposit, Note, content, filled, temporary};

const CALLS: [&[&str]; 7] = [
    &["info"],
    &["info", "--json"],
    &["du"],
    &["log", "--json"],
    &["show"],
    &["verify", "--json"],
    &["verify", "--deep"],
];

/// Far more than any of these calls takes. It is no measurement: it tells an endless loop.
const ENDLESS: Duration = Duration::from_secs(120);

/// A sequence of numbers that looks like chance, and is the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        ((self.0 >> 33) as usize) % bound.max(1)
    }
}

type Files = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// Makes a database with archives, several snapshots, several segments, and stored events.
fn archived(path: &Path) {
    for run in 0..3 {
        let builder = Database::<Bank>::builder().segment_bytes(64 << 10);
        let builder = builder.retention(Retention::Archive).keep_snapshots(1);
        let bank = builder.snapshots(SnapshotPolicy::manual()).open(path).unwrap();
        for number in 0..40 {
            bank.execute(Deposit(number)).unwrap();
            bank.execute(Note(format!("{run} {number} {}", "y".repeat(900)))).unwrap();
        }
        bank.snapshot().unwrap();
        bank.execute(Deposit(run)).unwrap();
        bank.close().unwrap();
    }
}

/// Spoils one file, and says how.
fn spoil(files: &mut Files, random: &mut Random) -> String {
    let all: Vec<PathBuf> =
        files.iter().filter(|(_, it)| it.is_some()).map(|(path, _)| path.clone()).collect();
    let path = all[random.below(all.len())].clone();
    let other = all[random.below(all.len())].clone();
    let mut bytes = files[&path].clone().unwrap();
    // Most of a segment is zeros, which are of little interest.
    let used = bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count();
    let at = random.below((used + 16).min(bytes.len()));
    let kind = random.below(8);
    match kind {
        0 | 1 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
        2 => bytes.truncate(at),
        3 => bytes.extend((0..=random.below(5000)).map(|number| (number * 7) as u8)),
        4 => {
            let end = bytes.len().min(at + 64);
            bytes[at..end].fill(random.below(256) as u8);
        }
        5 => bytes = files[&other].clone().unwrap(),
        // A length that nobody has.
        6 if bytes.len() >= at + 4 => bytes[at..at + 4].fill(0xff),
        _ => {
            files.remove(&path);
            return format!("{} removed", path.display());
        }
    }
    files.insert(path.clone(), Some(bytes));
    format!("{} spoiled at {at}, kind {kind}, other {}", path.display(), other.display())
}

fn write(root: &Path, files: &Files) {
    std::fs::remove_dir_all(root).unwrap();
    std::fs::create_dir(root).unwrap();
    for (path, content) in files {
        match content {
            None => std::fs::create_dir_all(path).unwrap(),
            Some(content) => std::fs::write(path, content).unwrap(),
        }
    }
}

/// Calls the tool. An endless loop or a panic is an error.
fn call(root: &Path, wanted: &[&str], what: &str) -> u8 {
    let (outbox, inbox) = channel();
    let mut arguments: Vec<OsString> = vec!["prevalence".into(), wanted[0].into(), root.into()];
    arguments.extend(wanted[1..].iter().map(OsString::from));
    let thread = std::thread::spawn(move || {
        let code = prevalence_cli::run(arguments, &mut Vec::new());
        outbox.send(code).ok();
    });
    let code = inbox.recv_timeout(ENDLESS);
    code.unwrap_or_else(|error| {
        let has_panicked = thread.is_finished();
        panic!("{wanted:?} has panicked: {has_panicked} ({error}); {what}")
    })
}

/// Returns what the bank holds after each command.
fn balances(root: &Path) -> Vec<i64> {
    let look = Inspection::open(root).unwrap();
    let mut types = look.types();
    let mut balances = vec![0];
    for record in look.records(1..).unwrap().map(Result::unwrap) {
        let deposit = match &*record.command_name {
            "Deposit" => types.command_json(&record).unwrap().parse().unwrap(),
            _ => 0,
        };
        balances.push(balances.last().unwrap() + deposit);
    }
    balances
}

/// Repairs, restores and backs up. What succeeds must be what the program has done.
fn rescue(root: &Path, balances: &[i64], what: &str) -> u32 {
    let target = root.with_extension("target");
    let to = target.to_str().unwrap();
    let mut done = 0;
    for wanted in [
        &["repair", "--yes", "--into", to][..],
        &["restore", to],
        &["restore", to, "--to", "5"],
        &["backup", to, "--history"],
    ] {
        let code = call(root, wanted, what);
        assert!([0, 1, 3].contains(&code), "{wanted:?} ends with {code}: {what}");
        if code == 3 {
            // Only a backup may have begun: it says so, and goes on.
            assert!(wanted[0] == "backup" || !target.exists(), "{wanted:?} has left something");
        } else {
            let bank = Database::<Bank>::open(&target).unwrap();
            let at = usize::try_from(bank.sequence()).unwrap();
            assert_eq!(bank.query(Bank::cents), balances[at], "{wanted:?} to {at}: {what}");
            assert!(!wanted.contains(&"--to") || at == 5);
            done += 1;
        }
        std::fs::remove_dir_all(&target).ok();
    }
    done
}

/// What a repair would lose; `None` if there is nothing to repair with.
fn lost(root: &Path) -> Option<Vec<String>> {
    let plan = plan_repair(root, |_| {}).ok()?;
    let told = |it: &Loss| format!("{:?} {:?}", it.kind, it.sequences);
    Some(plan.losses().iter().map(told).collect())
}

/// Compacts the archive. Whether this succeeds or not, no command is lost that was not lost before.
/// Returns whether it has merged something. Then the directory is written again.
fn compact(root: &Path, files: &Files, what: &str) -> bool {
    let before = lost(root);
    let code = call(root, &["compact-archive", "--repack"], what);
    assert!([0, 3].contains(&code), "compact-archive ends with {code}: {what}");
    assert_eq!(lost(root), before, "{what}");
    let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
    let has_merged = names(&content(root)) != names(files);
    write(root, files);
    has_merged
}

#[test]
fn spoiled_directories_are_read_without_a_panic_or_a_write() {
    let (mut sound, mut damaged, mut rescued, mut compacted) = (0, 0, 0, 0);
    for (seed, fill) in [(1, filled as fn(&Path)), (2, archived)] {
        let (_directory, root) = temporary();
        fill(&root);
        let original = content(&root);
        let balances = balances(&root);
        assert_eq!(call(&root, &["verify", "--deep"], "nothing"), 0);
        let mut random = Random(seed);
        for _ in 0..80 {
            let mut files = original.clone();
            let mut what = spoil(&mut files, &mut random);
            if random.below(3) == 0 {
                what += "; ";
                what += &spoil(&mut files, &mut random);
            }
            write(&root, &files);
            for wanted in CALLS {
                let code = call(&root, wanted, &what);
                assert!([0, 1, 3].contains(&code), "{wanted:?} ends with {code}: {what}");
                if wanted == ["verify", "--deep"] {
                    *(if code == 0 { &mut sound } else { &mut damaged }) += 1;
                }
            }
            rescued += rescue(&root, &balances, &what);
            assert!(content(&root) == files, "a call has written: {what}");
            compacted += u32::from(compact(&root, &files, &what));
        }
    }
    // Behind a segment's end, and in a file that is not needed, nothing is damaged.
    assert!(damaged > 80 && sound > 0, "{damaged} are damaged, {sound} are not");
    assert!(rescued > 300, "{rescued}");
    assert!(compacted > 30, "{compacted}");
}
