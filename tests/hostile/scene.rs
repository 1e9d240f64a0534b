//! The directories of one cell: our database, other ones, and where they are moved; and the
//! templates from which they are copied.

use std::path::{Path, PathBuf};

use prevalence::{Database, Retention};

use super::diary::{Diary, Enter, builder};
use crate::common::{content, copy_directory};

/// How often the test tries to copy a database before the commit marker is written.
const KILLED_TRIES: u32 = 100;

/// The size of a command that fills a third of a segment.
pub const LARGE_BYTES: usize = 20_000;

/// The first number that is entered into the other databases.
pub const FIRST_OF_OTHERS: u64 = 1_000_000;

/// The paths of one cell.
#[derive(Clone, Debug)]
pub struct Scene {
    pub root: PathBuf,
    /// The directory that holds our database; in some cells a file system of its own.
    pub disk: PathBuf,
    pub path: PathBuf,
    /// Where our database, or a part of it, is moved.
    pub away: PathBuf,
    /// Another database under the same relative path.
    pub theirs: PathBuf,
    /// A third database, which takes the place of ours.
    pub other: PathBuf,
    /// Where backups and restored databases go.
    pub copies: PathBuf,
    templates: PathBuf,
}

impl Scene {
    pub fn at(root: &Path, templates: &Path) -> Self {
        let disk = root.join("disk");
        Self {
            path: disk.join("app.db"),
            away: disk.join("away"),
            theirs: root.join("theirs/app.db"),
            other: disk.join("other.db"),
            copies: disk.join("copies"),
            root: root.to_path_buf(),
            disk,
            templates: templates.to_path_buf(),
        }
    }

    /// Makes the directories, before anything is mounted.
    pub fn make(&self) {
        for directory in [&self.disk, &self.root.join("theirs")] {
            std::fs::create_dir_all(directory).unwrap();
        }
        copy_directory(&self.templates.join("other.db"), &self.theirs);
    }

    /// Copies the databases, after everything is mounted.
    pub fn furnish(&self, ours: Option<&str>) {
        std::fs::create_dir(&self.copies).unwrap();
        copy_directory(&self.templates.join("other.db"), &self.other);
        if let Some(template) = ours {
            copy_directory(&self.templates.join(template), &self.path);
        }
    }

    /// Returns the databases that must be unchanged, byte for byte: where each stands, and its
    /// template.
    pub fn untouched(&self) -> Vec<(&Path, PathBuf)> {
        let template = self.templates.join("other.db");
        [&self.theirs, &self.other].map(|path| (path.as_path(), template.clone())).to_vec()
    }
}

/// The last number in a template, which holds the numbers from 1 on.
pub const IN_TEMPLATE: u64 = 12;

fn enter(database: &Database<Diary>, number: u64, bytes: usize) {
    database.execute(Enter { number, padding: vec![7; bytes] }).unwrap();
}

/// Makes a closed database with snapshots, several segments and a tail.
fn closed(path: &Path, first: u64, retention: Retention) {
    for run in 0..3 {
        let database = builder(retention).open(path).unwrap();
        for number in 0..4 {
            let bytes = if number == 1 { LARGE_BYTES } else { 10 };
            enter(&database, first + run * 4 + number, bytes);
        }
        if run < 2 {
            database.snapshot().unwrap();
        }
        database.close().unwrap();
    }
}

/// Makes a database as a killed process leaves it: nothing states that the last command is durable.
fn killed(templates: &Path) {
    let (work, probe) = (templates.join("work"), templates.join("probe"));
    let killed = templates.join("killed.db");
    for _ in 0..KILLED_TRIES {
        copy_directory(&templates.join("archive.db"), &work);
        let database = builder(Retention::Archive).open(&work).unwrap();
        enter(&database, IN_TEMPLATE + 1, 10);
        copy_directory(&work, &killed);
        database.close().unwrap();
        copy_directory(&killed, &probe);
        let before = content(&probe);
        let opened = builder(Retention::Archive).open(&probe).unwrap();
        assert_eq!(opened.query(Diary::entries).len() as u64, IN_TEMPLATE + 1);
        let rewritten = content(&probe) != before;
        drop(opened);
        for directory in [&work, &probe] {
            std::fs::remove_dir_all(directory).unwrap();
        }
        if rewritten {
            return;
        }
        std::fs::remove_dir_all(&killed).unwrap();
    }
    panic!("the end was marked each time before it was copied");
}

/// Makes all templates in a directory.
pub fn make_templates(templates: &Path) {
    closed(&templates.join("archive.db"), 1, Retention::Archive);
    closed(&templates.join("truncate.db"), 1, Retention::Truncate);
    closed(&templates.join("other.db"), FIRST_OF_OTHERS, Retention::Archive);
    killed(templates);
}
