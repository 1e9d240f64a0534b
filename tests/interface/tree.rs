//! The tree tells the data flow, so imports point one way: each folder of `src/` uses only those
//! that stand before it here. A name that a low folder needs from a high one belongs further down.

use std::path::{Path, PathBuf};

/// From the lowest to the highest.
const ORDER: [&str; 31] = [
    "panics",
    "trace",
    "faults",
    "mutex",
    "execute_error",
    "stats",
    "import_report",
    "storage",
    "process",
    "codec",
    "collections",
    "json",
    "schema",
    "files",
    "error",
    "model",
    "journal",
    "options",
    "engine",
    "snapshot",
    "recovery",
    "history",
    "events",
    "read_only",
    "database",
    "followers",
    "purge",
    "inspect",
    "rescue",
    "docs",
    "testing",
];

/// Code of tests may look at everything.
fn is_of_tests(path: &Path) -> bool {
    let named = |name: &str| path.iter().any(|part| part == name);
    ["tests", "tests.rs", "shuttled", "laboratory", "simulated", "faulty.rs", "test_support.rs"]
        .into_iter()
        .any(named)
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn rank(folder: &str) -> Option<usize> {
    ORDER.iter().position(|known| *known == folder)
}

/// The first names behind `crate::` in code, `use crate::{a, b}` included.
fn imports(text: &str) -> Vec<String> {
    let code = text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<String>();
    let mut found = Vec::new();
    for (at, matched) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|before| before.is_alphanumeric() || "_$".contains(before)) {
            continue;
        }
        let behind = &code[at + matched.len()..];
        let name: String =
            behind.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        found.push(name);
    }
    found
}

#[test]
fn imports_point_one_way() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut seen = 0;
    let mut wrong = Vec::new();
    for path in files {
        let inside = path.strip_prefix(&root).unwrap();
        if is_of_tests(inside) || inside == Path::new("lib.rs") {
            continue;
        }
        let folder = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        let from = rank(folder).unwrap_or_else(|| panic!("{folder} has no place in the order"));
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        for name in imports(text) {
            let Some(to) = rank(&name) else { continue };
            seen += 1;
            if to > from {
                wrong.push(format!("{} uses crate::{name}", inside.display()));
            }
        }
    }
    assert!(seen > 300, "only {seen} imports were found: does this test still read them?");
    assert!(wrong.is_empty(), "a folder uses one above it:\n{}", wrong.join("\n"));
}
