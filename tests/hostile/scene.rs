//! The places of one cell: our database, another one, and where they go; and the templates that
//! they are copied from.

use std::path::{Path, PathBuf};

use prevalence::{Database, Retention};

use super::diary::{Diary, Enter, builder};
use crate::common::{content, copy_directory};

/// How often it is tried to copy a database before its end is marked.
const KILLED_TRIES: u32 = 100;

/// How large a command is that fills a third of a segment.
pub const LARGE_BYTES: usize = 20_000;

/// Where the numbers begin that are entered into the other databases.
pub const FIRST_OF_OTHERS: u64 = 1_000_000;

/// Where everything of one cell is.
#[derive(Clone, Debug)]
pub struct Scene {
    pub root: PathBuf,
    /// What our database stands in; in some cells a file system of its own.
    pub disk: PathBuf,
    pub path: PathBuf,
    /// Where ours, or a part of it, goes.
    pub away: PathBuf,
    /// Another database under the same relative path.
    pub theirs: PathBuf,
    /// A third one, which takes places.
    pub other: PathBuf,
    /// Where backups go, and what is restored.
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

    /// Before anything is mounted.
    pub fn make(&self) {
        for directory in [&self.disk, &self.root.join("theirs")] {
            std::fs::create_dir_all(directory).unwrap();
        }
        copy_directory(&self.templates.join("other.db"), &self.theirs);
    }

    /// Once everything is mounted.
    pub fn furnish(&self, ours: Option<&str>) {
        std::fs::create_dir(&self.copies).unwrap();
        copy_directory(&self.templates.join("other.db"), &self.other);
        if let Some(template) = ours {
            copy_directory(&self.templates.join(template), &self.path);
        }
    }

    /// What must be as it was made, byte for byte: where it stands, and what it was copied from.
    pub fn untouched(&self) -> Vec<(&Path, PathBuf)> {
        let template = self.templates.join("other.db");
        [&self.theirs, &self.other].map(|path| (path.as_path(), template.clone())).to_vec()
    }
}

/// What a template holds: the numbers 1 to this.
pub const IN_TEMPLATE: u64 = 12;

fn enter(database: &Database<Diary>, number: u64, bytes: usize) {
    database.execute(Enter { number, padding: vec![7; bytes] }).unwrap();
}

/// A closed database with snapshots, several segments and a tail.
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

/// As a killed process leaves it: nothing vouches for the last command.
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
