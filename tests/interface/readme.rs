//! Tests that the README's example builds and runs in a new crate. (Its text is also a doctest, but
//! a doctest has all the dependencies of this crate's own tests.)

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const README: &str = include_str!("../../README.md");
const FRONT_PAGE: &str = include_str!("../../src/lib.rs");

/// Returns the first block of code in this language.
fn block<'a>(text: &'a str, language: &str) -> &'a str {
    let begin = format!("```{language}\n");
    let (_, behind) = text.split_once(&begin).unwrap_or_else(|| panic!("there is no {begin}"));
    behind.split_once("```").expect("a block has an end").0
}

/// Makes a manifest with the README's dependencies, but with this crate from here, in the version
/// that the README asks for.
fn manifest() -> String {
    let ours = r#"prevalence = ""#;
    let dependencies = block(README, "toml");
    let line = dependencies.lines().find(|line| line.starts_with(ours)).expect("it names us");
    let version = line.strip_prefix(ours).and_then(|rest| rest.strip_suffix('"')).unwrap();
    let here = env!("CARGO_MANIFEST_DIR");
    let from_here = format!("prevalence = {{ version = {version:?}, path = {here:?} }}");
    let dependencies = dependencies.replace(line, &from_here);
    format!("[package]\nname = \"fresh\"\nedition = \"2024\"\n\n{dependencies}\n[workspace]\n")
}

/// Makes a directory for a new crate. It is outside this crate's directory, whose settings must not
/// count, but uses its target directory.
fn fresh_crate() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_path_buf();
    std::fs::create_dir(root.join("src")).unwrap();
    std::fs::write(root.join("src/main.rs"), block(README, "rust")).unwrap();
    std::fs::write(root.join("Cargo.toml"), manifest()).unwrap();
    // So that it takes what is here already.
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock");
    std::fs::copy(lock, root.join("Cargo.lock")).ok();
    (directory, root)
}

fn run(root: &Path, more: &[&str]) -> Output {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("readme");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    Command::new(cargo)
        .args(["run", "--quiet"])
        .args(more)
        .arg("--target-dir")
        .arg(target)
        .current_dir(root)
        .output()
        .unwrap()
}

#[test]
fn the_example_builds_and_runs_in_a_new_crate() {
    let (_directory, root) = fresh_crate();
    let mut output = run(&root, &["--offline"]);
    if String::from_utf8_lossy(&output.stderr).contains("--offline") {
        output = run(&root, &[]); // something is not here yet
    }
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\nof {}", manifest());
}

/// A further snippet would not be built here.
#[test]
fn every_snippet_is_built() {
    for (language, count) in [("rust", 1), ("toml", 1)] {
        let begin = format!("```{language}");
        assert_eq!(README.matches(&begin).count(), count, "blocks of {language}");
    }
    // What is not marked as code of another kind would be Rust, too. A recorded session is text.
    let kinds = README.lines().filter_map(|line| line.strip_prefix("```"));
    for kind in kinds.step_by(2) {
        assert!(["rust", "toml", "sh", "text"].contains(&kind), "a block of {kind:?}");
    }
}

#[test]
fn the_front_page_of_the_documentation_asks_for_the_same() {
    let page: Vec<_> = FRONT_PAGE.lines().map_while(|line| line.strip_prefix("//!")).collect();
    let page: Vec<_> = page.iter().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
    assert_eq!(block(&page.join("\n"), "toml"), block(README, "toml"));
}
