//! What the damage tests stand on: a directory that is damaged and put right again thousands of
//! times, the judgement of each open, and a watchdog.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prevalence::inspect::{Depth, verify};
use prevalence::{Builder, Database, Error};

use super::memory;
use crate::common::faults::scene::workshop;
use crate::common::{self, Add, Ledger, bytes, content};

/// The content of the files of a directory, by path relative to it.
pub type Files = BTreeMap<PathBuf, Vec<u8>>;

/// The time after which an open hangs. No open of these small directories takes this long, even on
/// a very busy machine.
const HANGS_AFTER: Duration = Duration::from_secs(120);
const LARGEST_PEAK: usize = 64 << 20;

/// A closed (or killed) database, with what an open of it must give.
pub struct Specimen {
    pub files: Files,
    pub expected: Vec<u8>,
    pub builder: fn() -> Builder<Ledger>,
}

impl Specimen {
    pub fn of(path: &Path, expected: Vec<u8>, builder: fn() -> Builder<Ledger>) -> Self {
        let files = content(path);
        Self { files, expected, builder }
    }

    pub fn names(&self) -> Vec<PathBuf> {
        self.files.keys().filter(|name| common::is_content(name)).cloned().collect()
    }
}

/// One damage: its name, and a closure that does it.
pub struct Damage {
    pub what: String,
    pub change: Box<dyn FnOnce(&mut Files) + Send>,
}

impl Damage {
    pub fn new(what: String, change: impl FnOnce(&mut Files) + Send + 'static) -> Self {
        Self { what, change: Box::new(change) }
    }
}

/// The results of all the damage.
#[derive(Default)]
pub struct Tally {
    pub directories: u64,
    pub exact: u64,
    /// How many of the exact ones used an older snapshot and reported that.
    pub reported: u64,
    /// The errors, by the name of the variant.
    pub errors: BTreeMap<String, u64>,
    pub violations: Vec<String>,
}

impl Tally {
    pub fn add(&mut self, other: Self) {
        self.directories += other.directories;
        self.exact += other.exact;
        self.reported += other.reported;
        for (kind, count) in other.errors {
            *self.errors.entry(kind).or_default() += count;
        }
        self.violations.extend(other.violations);
    }

    fn refused(&mut self, error: &Error) {
        let shown = format!("{error:?}");
        let kind = shown.split([' ', '(']).next().unwrap_or_default().to_owned();
        *self.errors.entry(kind).or_default() += 1;
    }

    /// Prints the summary, and fails if anything was wrong.
    pub fn conclude(self) {
        let Self { directories, exact, reported, errors, violations } = self;
        let refused: u64 = errors.values().sum();
        println!(
            "damaged directories: {directories} exact: {exact} errors: {refused} violations: {}",
            violations.len()
        );
        println!("  fell back to an older snapshot: {reported}; errors: {errors:?}");
        println!("  peak memory: {} KiB", memory::peak() >> 10);
        for violation in violations.iter().take(20) {
            println!("  violation: {violation}");
        }
        assert_eq!(violations.len(), 0);
        assert_eq!(directories, exact + refused, "every case has one outcome");
    }
}

/// A directory on disk, with what it should hold, and what it holds as far as we know.
struct Image {
    root: PathBuf,
    files: Files,
    on_disk: Files,
    buffer: Vec<u8>,
}

impl Image {
    fn new(root: PathBuf, files: Files) -> Self {
        let mut image = Self { root, files, on_disk: Files::new(), buffer: Vec::new() };
        image.put_right();
        image
    }

    /// Makes the directory hold `files`, if nobody else has changed it.
    fn write(&mut self) {
        let surplus: Vec<_> =
            self.on_disk.keys().filter(|name| !self.files.contains_key(*name)).cloned().collect();
        for name in surplus {
            std::fs::remove_file(self.root.join(&name)).unwrap();
            self.on_disk.remove(&name);
        }
        for (name, wanted) in &self.files {
            let found = self.on_disk.get(name);
            if found == Some(wanted) {
                continue;
            }
            let path = self.root.join(name);
            match found {
                // Where only a bit differs, only what differs is written: it is the usual case.
                Some(found) if found.len() == wanted.len() => {
                    write_difference(&path, found, wanted)
                }
                _ => {
                    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                    std::fs::write(&path, wanted).unwrap();
                }
            }
            self.on_disk.insert(name.clone(), wanted.clone());
        }
    }

    /// Makes the directory hold exactly `files`, whatever an open has changed in it.
    fn put_right(&mut self) {
        for name in self.there() {
            if !self.files.contains_key(&name) {
                std::fs::remove_file(self.root.join(&name)).unwrap();
            }
        }
        for (name, wanted) in &self.files {
            if !holds(&self.root.join(name), wanted, &mut self.buffer) {
                self.on_disk.remove(name);
            }
        }
        self.on_disk.retain(|name, _| self.files.contains_key(name));
        self.write();
    }

    fn there(&self) -> Vec<PathBuf> {
        let mut names = Vec::new();
        let mut open = vec![PathBuf::new()];
        while let Some(directory) = open.pop() {
            let Ok(entries) = std::fs::read_dir(self.root.join(&directory)) else { continue };
            for entry in entries.map(Result::unwrap) {
                let name = directory.join(entry.file_name());
                let is_directory = entry.file_type().unwrap().is_dir();
                if is_directory { open.push(name) } else { names.push(name) }
            }
        }
        names
    }

    /// Returns what differs between the directory and `files`, except a new `LOCK`.
    fn difference(&mut self) -> Option<String> {
        self.differs(Some(Path::new("LOCK")))
    }

    /// Returns what differs between the directory and `files`, except a new file with that name.
    fn differs(&mut self, but: Option<&Path>) -> Option<String> {
        for name in self.there() {
            if !self.files.contains_key(&name) && Some(&*name) != but {
                return Some(format!("{} appeared", name.display()));
            }
        }
        for (name, wanted) in &self.files {
            if !holds(&self.root.join(name), wanted, &mut self.buffer) {
                return Some(format!("{} changed", name.display()));
            }
        }
        None
    }
}

fn write_difference(path: &Path, found: &[u8], wanted: &[u8]) {
    let differs = |at: &usize| found[*at] != wanted[*at];
    let first = (0..wanted.len()).step_by(512).find(|&at| {
        let end = wanted.len().min(at + 512);
        found[at..end] != wanted[at..end]
    });
    let first = first.and_then(|block| (block..wanted.len()).find(differs)).unwrap();
    let same_end = (first + 1..wanted.len())
        .step_by(512)
        .find(|&at| found[at..] == wanted[at..])
        .unwrap_or(wanted.len());
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&wanted[first..same_end], first as u64).unwrap();
}

fn holds(path: &Path, wanted: &[u8], buffer: &mut Vec<u8>) -> bool {
    let Ok(mut file) = std::fs::File::open(path) else { return false };
    buffer.clear();
    file.read_to_end(buffer).unwrap();
    buffer == wanted
}

/// Damages the specimen in every way that `damages` gives, on all cores, and judges each open.
/// `also` decides whether another state is right for the given files.
pub fn judge_all(
    specimen: &Specimen,
    damages: impl Iterator<Item = Damage> + Send,
    also: &(dyn Fn(&Files, &[u8]) -> bool + Sync),
) -> Tally {
    let workshop = workshop();
    let damages = Mutex::new(damages);
    let total = Mutex::new(Tally::default());
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let root = workshop.path().join(worker.to_string());
            let (damages, total) = (&damages, &total);
            scope.spawn(move || {
                let tally = work(specimen, &root, damages, also);
                total.lock().unwrap().add(tally);
            });
        }
    });
    total.into_inner().unwrap()
}

fn work(
    specimen: &Specimen,
    root: &Path,
    damages: &Mutex<impl Iterator<Item = Damage>>,
    also: &(dyn Fn(&Files, &[u8]) -> bool + Sync),
) -> Tally {
    let mut image = Image::new(root.to_path_buf(), specimen.files.clone());
    let watchdog = Watchdog::start();
    let mut tally = Tally::default();
    loop {
        let Some(Damage { what, change }) = damages.lock().unwrap().next() else { return tally };
        watchdog.next(&what);
        change(&mut image.files);
        image.write();
        // Every so often the way on is tried as well: a command, and another open.
        let thorough = tally.directories.is_multiple_of(16);
        let judged = judge(specimen, &mut image, thorough, &mut tally, also);
        tally.directories += 1;
        restore(&mut image.files, &specimen.files);
        match judged {
            Ok(Left::Untouched) => image.write(),
            Ok(Left::Changed) => image.put_right(),
            Err(violation) => {
                image.put_right();
                tally.violations.push(format!("{what}: {violation}"));
            }
        }
    }
}

/// What an open has left in the directory.
enum Left {
    /// The open failed, and a check showed that it changed nothing.
    Untouched,
    Changed,
}

/// Undoes a damage. It copies only what differs.
fn restore(damaged: &mut Files, whole: &Files) {
    damaged.retain(|name, _| whole.contains_key(name));
    for (name, content) in whole {
        if damaged.get(name) != Some(content) {
            damaged.insert(name.clone(), content.clone());
        }
    }
}

/// Opens a damaged directory, and checks for the exact state or an error that has changed nothing.
fn judge(
    specimen: &Specimen,
    image: &mut Image,
    thorough: bool,
    tally: &mut Tally,
    also: &(dyn Fn(&Files, &[u8]) -> bool + Sync),
) -> Result<Left, String> {
    let largest = image.files.values().map(Vec::len).max().unwrap_or(0);
    let verified = verified(image)?;
    let opened = catch_unwind(AssertUnwindSafe(|| (specimen.builder)().open(&image.root)))
        .map_err(|_| "it panicked".to_owned())?;
    let peak = memory::peak();
    if peak > LARGEST_PEAK + largest {
        return Err(format!("{peak} bytes were allocated at once"));
    }
    let database = match opened {
        Ok(database) => database,
        Err(error) => {
            tally.refused(&error);
            assert!(!error.to_string().is_empty());
            if verified {
                return Err(format!("a verification finds nothing, but: {error}"));
            }
            return image
                .difference()
                .map_or(Ok(Left::Untouched), |what| Err(format!("{error}: {what}")));
        }
    };
    let found = bytes(&database);
    if found != specimen.expected && !also(&image.files, &found) {
        let sequence = database.sequence();
        return Err(format!("another state, at sequence {sequence}: {:?}", database.recovery()));
    }
    tally.exact += 1;
    let has_reported = !database.recovery().damaged_snapshots.is_empty();
    tally.reported += u64::from(has_reported);
    if has_reported && verified {
        return Err(format!("a verification finds nothing: {:?}", database.recovery()));
    }
    if thorough {
        goes_on(specimen, &image.root, database)?;
    }
    Ok(Left::Changed)
}

/// Verifies a damaged directory without the program's types: it must neither panic nor change
/// anything. Returns whether it finds the directory sound.
fn verified(image: &mut Image) -> Result<bool, String> {
    let verify = || verify(&image.root, Depth::Deep, |_| {});
    let verified = catch_unwind(AssertUnwindSafe(verify))
        .map_err(|_| "the verification panicked".to_owned())?;
    if let Some(what) = image.differs(None) {
        return Err(format!("after the verification, {what}"));
    }
    Ok(verified.is_ok_and(|found| found.is_sound()))
}

/// Executes one more command, closes and opens again, and checks for exactly that command.
fn goes_on(specimen: &Specimen, root: &Path, database: Database<Ledger>) -> Result<(), String> {
    let mut model = database.query(Clone::clone);
    model.add(1, 1);
    database.execute(Add { account: 1, amount: 1 }).map_err(|error| error.to_string())?;
    database.close().map_err(|error| error.to_string())?;
    let again = (specimen.builder)().open(root).map_err(|error| format!("afterwards: {error}"))?;
    if bytes(&again) == model.bytes() { Ok(()) } else { Err("afterwards another state".into()) }
}

/// Ends the whole process and names the case when an open hangs, because a test that hangs prints
/// nothing.
struct Watchdog {
    case: Arc<Mutex<String>>,
    started: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
}

impl Watchdog {
    fn start() -> Self {
        let watchdog = Self { case: Arc::default(), started: Arc::default(), done: Arc::default() };
        let (case, started, done) =
            (watchdog.case.clone(), watchdog.started.clone(), watchdog.done.clone());
        std::thread::spawn(move || {
            let (mut seen, mut since) = (0, std::time::Instant::now());
            while !done.load(Ordering::Relaxed) {
                std::thread::park_timeout(Duration::from_millis(500));
                let now = started.load(Ordering::Relaxed);
                if now != seen {
                    (seen, since) = (now, std::time::Instant::now());
                } else if since.elapsed() > HANGS_AFTER {
                    eprintln!("hangs: {}", case.lock().unwrap());
                    std::process::abort();
                }
            }
        });
        watchdog
    }

    fn next(&self, what: &str) {
        what.clone_into(&mut self.case.lock().unwrap());
        self.started.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
    }
}
