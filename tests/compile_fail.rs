//! Mistakes in the vocabulary that must not compile, and that the message says what to do.
//!
//! Calls `rustc` itself instead of comparing whole messages: their wording is the compiler's and
//! changes from release to release; that ours is in them does not.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

const MODEL: &str = r#"
    use prevalence::{Command, Context, Database, Model};
    use prevalence::__private::serde::{Deserialize, Serialize};

    #[derive(Clone, Default, Serialize, Deserialize)]
    #[serde(crate = "prevalence::__private::serde")]
    struct Bank;
    impl Model for Bank { type Event = (); }

    macro_rules! command { ($name:ident) => {
        #[derive(Serialize, Deserialize)]
        #[serde(crate = "prevalence::__private::serde")]
        struct $name;
        impl Command<Bank> for $name {
            type Output = ();
            type Rejection = ();
            fn apply(self, _: &mut Bank, _: &mut Context<'_, Bank>) -> Result<(), ()> { Ok(()) }
        }
    } }
    command!(Deposit);
    command!(Withdraw);
    fn run(bank: &Database<Bank>) {
        bank.execute(Deposit).unwrap();
        bank.execute(Withdraw).unwrap();
    }
"#;

/// What cargo built `prevalence` as for these tests: the newest library beside this binary.
fn library() -> (PathBuf, PathBuf) {
    let deps = std::env::current_exe().unwrap().parent().unwrap().to_path_buf();
    let modified = |path: &Path| path.metadata().and_then(|m| m.modified()).ok();
    let newest = std::fs::read_dir(&deps)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.starts_with("libprevalence-") && name.ends_with(".rlib")
        })
        .max_by_key(|path| modified(path).unwrap_or(SystemTime::UNIX_EPOCH));
    (deps, newest.expect("cargo builds the library before its tests"))
}

/// Compiles the model with this vocabulary; `Err` is what the compiler said.
fn compile(name: &str, vocabulary: &str) -> Result<(), String> {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join(format!("{name}.rs"));
    std::fs::write(&source, format!("{MODEL}\n{vocabulary}")).unwrap();
    let (deps, library) = library();
    let output = Command::new(std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned()))
        .args(["--edition", "2024", "--crate-type", "lib", "--emit", "metadata", "-A", "warnings"])
        .arg("--out-dir")
        .arg(directory.path())
        .arg("-L")
        .arg(format!("dependency={}", deps.display()))
        .arg("--extern")
        .arg(format!("prevalence={}", library.display()))
        .arg(&source)
        .output()
        .unwrap();
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn assert_refused(name: &str, vocabulary: &str, says: &[&str]) {
    let said = compile(name, vocabulary).expect_err("it must not compile");
    for expected in says {
        assert!(said.contains(expected), "{expected:?} is not in:\n{said}");
    }
}

#[test]
fn a_right_vocabulary_compiles() {
    let right = "prevalence::commands! { Bank { 1 => Deposit, 2 => Withdraw } }";
    compile("right", right).unwrap_or_else(|said| panic!("{said}"));
}

#[test]
fn a_command_that_is_not_listed_does_not_compile() {
    assert_refused(
        "unlisted",
        "prevalence::commands! { Bank { 1 => Deposit } }",
        &["`Withdraw` is not listed in `commands!` of model `Bank`", "add a line `N => Withdraw`"],
    );
}

#[test]
fn two_commands_under_one_tag_do_not_compile() {
    assert_refused(
        "shared",
        "prevalence::commands! { Bank { 1 => Deposit, 1 => Withdraw } }",
        &["two commands share one tag"],
    );
}

#[test]
fn two_commands_under_one_name_do_not_compile() {
    assert_refused(
        "names",
        "prevalence::commands! { Bank { 1 => Deposit, 2 => Withdraw = \"Deposit\" } }",
        &["two commands share one name"],
    );
}

#[test]
fn the_tag_of_erased_commands_does_not_compile() {
    assert_refused(
        "reserved",
        "prevalence::commands! { Bank { 1 => Deposit, 65535 => Withdraw } }",
        &["tag 65535 is reserved"],
    );
}

#[test]
fn one_command_under_two_tags_does_not_compile() {
    assert_refused(
        "twice",
        "prevalence::commands! { Bank { 1 => Deposit, 2 => Withdraw, 3 => Deposit } }",
        &["conflicting implementations", "Deposit"],
    );
}

#[test]
fn a_model_without_a_vocabulary_does_not_compile() {
    assert_refused("none", "", &["`Bank` has no vocabulary of commands", "prevalence::commands!"]);
}
