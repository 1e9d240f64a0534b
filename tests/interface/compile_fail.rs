//! Tests that mistakes in the vocabulary do not compile, and that the message says what to do.
//!
//! It calls `rustc` itself and does not compare whole messages: the compiler's words change from
//! release to release, but our message in them does not.

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
    #[derive(Serialize, Deserialize)]
    #[serde(crate = "prevalence::__private::serde")]
    struct Old;
    impl From<Old> for Deposit { fn from(_: Old) -> Self { Deposit } }
    fn run(bank: &Database<Bank>) {
        bank.execute(Deposit).unwrap();
        bank.execute(Withdraw).unwrap();
    }
"#;

/// Finds the library that cargo built from `prevalence` for these tests: the newest one beside this
/// binary.
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

/// Compiles the model with this vocabulary. The error is the compiler's message.
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

/// Its commands would be in the journal, and no file would name them.
#[test]
fn a_list_that_is_left_out_does_not_compile() {
    let lists = "mod more { use super::*;
         prevalence::commands! { pub list More for Bank { 2 => Withdraw } } }";
    let right =
        format!("{lists} prevalence::commands! {{ Bank {{ ..more::More, 1 => Deposit }} }}");
    compile("included", &right).unwrap_or_else(|said| panic!("{said}"));
    assert_refused(
        "left_out",
        &format!("{lists} prevalence::commands! {{ Bank {{ 1 => Deposit }} }}"),
        &["the list `More` is not in `commands!` of model `Bank`", "add `..More`"],
    );
}

/// Whatever names the user's types and traits have.
#[test]
fn names_of_the_macros_own_are_not_in_the_way() {
    let names = ["Rejection", "Output", "OfRejection", "OfOutput", "Entry", "Shown", "Line"];
    let commands: String = names.iter().map(|name| format!("command!({name}); ")).collect();
    let lines: Vec<_> =
        names.iter().zip(3..).map(|(name, tag)| format!("{tag} => {name}")).collect();
    let lines = lines.join(", ");
    compile(
        "names_of_ours",
        &format!(
            "{commands} trait Shows {{ fn shown(&self) {{}} fn to_json(&self) {{}} }}
             impl<T> Shows for T {{}}
             prevalence::commands! {{ Bank {{ 1 => Deposit, 2 => Withdraw, {lines} }} }}"
        ),
    )
    .unwrap_or_else(|said| panic!("{said}"));
}

#[test]
fn two_commands_under_one_tag_do_not_compile() {
    assert_refused(
        "shared",
        "prevalence::commands! { Bank { 1 => Deposit, 1 => Withdraw } }",
        &["two commands share one tag, 1: `1 => Deposit` and `1 => Withdraw`; give each"],
    );
    assert_refused(
        "shared_by_far",
        "prevalence::commands! { Bank { 0x10 => Deposit, 2 => Withdraw, 16 => Old as Deposit } }",
        &["two commands share one tag, 16: `0x10 => Deposit` and `16 => Old as Deposit`; give"],
    );
}

#[test]
fn two_commands_under_one_name_do_not_compile() {
    assert_refused(
        "names",
        "prevalence::commands! { Bank { 1 => Deposit, 2 => Withdraw = \"Deposit\" } }",
        &["two commands share one name in the journal, `Deposit`: `1 => Deposit` and \
           `2 => Withdraw = \"Deposit\"`; a mix-up"],
    );
    // As it comes about: the old type is to be read under the name that it had.
    assert_refused(
        "upcast_names",
        "prevalence::commands! { Bank { 1 => Deposit, 3 => Withdraw,
             2 => Old as Deposit = \"Deposit\" | \"PayIn\" } }",
        &["share one name in the journal, `Deposit`: `1 => Deposit` and \
           `2 => Old as Deposit = \"Deposit\" | \"PayIn\"`; a mix-up of their tags would go \
           unnoticed, so give one of them another name: `tag => Type = \"Name\"`"],
    );
}

/// The author of a helper has no line to add to `commands!`.
#[test]
fn a_parameter_that_is_not_known_to_be_listed_is_told_its_bound() {
    let right = "prevalence::commands! { Bank { 1 => Deposit, 2 => Withdraw } }";
    for bound in ["Command<Bank>", "'static"] {
        let helper = format!(
            "{right} fn helper<C: {bound}>(bank: &Database<Bank>, command: C) {{
                 bank.execute(command).ok();
             }}"
        );
        assert_refused(
            "generic",
            &helper,
            &["where `C` is a type parameter, bound it by `prevalence::Listed<Bank>`"],
        );
    }
    let bound = format!(
        "{right} fn helper<C: prevalence::Listed<Bank>>(bank: &Database<Bank>, command: C) {{
             bank.execute(command).ok();
         }}"
    );
    compile("bound", &bound).unwrap_or_else(|said| panic!("{said}"));
}

#[test]
fn the_tag_of_erased_commands_does_not_compile() {
    assert_refused(
        "reserved",
        "prevalence::commands! { Bank { 1 => Deposit, 65535 => Withdraw } }",
        &[
            "tag 65535 is reserved for commands that were erased; use another in `65535 => Withdraw`",
        ],
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

/// The lists are in two modules, so the message says where each line is.
#[test]
fn lines_of_two_lists_that_conflict_do_not_compile() {
    let lists = |second: &str| {
        format!(
            "mod accounts {{ use super::*;
                 prevalence::commands! {{ pub list Accounts for Bank {{ 1 => Deposit }} }} }}
             mod loans {{ use super::*;
                 prevalence::commands! {{ pub list Loans for Bank {{ {second} }} }} }}
             prevalence::commands! {{ Bank {{ ..accounts::Accounts, ..loans::Loans }} }}"
        )
    };
    compile("lists", &lists("2 => Withdraw")).unwrap_or_else(|said| panic!("{said}"));
    assert_refused(
        "lists_share_a_tag",
        &lists("1 => Withdraw"),
        &["two commands share one tag, 1: `1 => Deposit (in lists_share_a_tag::accounts)` and \
           `1 => Withdraw (in lists_share_a_tag::loans)`; give each"],
    );
    assert_refused(
        "lists_share_a_name",
        &lists("2 => Withdraw = \"Deposit\""),
        &["share one name in the journal, `Deposit`", "(in lists_share_a_name::loans)`; a mix-up"],
    );
    assert_refused(
        "lists_share_a_type",
        &lists("2 => Withdraw, 3 => Deposit"),
        &["conflicting implementations", "Deposit"],
    );
}

#[test]
fn a_vocabulary_for_all_types_of_a_generic_model_is_told_why_not() {
    assert_refused(
        "every_type",
        "struct Store<K>(K);
         prevalence::commands! { impl<K> Store<K> { 1 => Deposit } }
         prevalence::commands! { Bank { 1 => Deposit, 2 => Withdraw } }",
        &["a model with type parameters cannot have one vocabulary", "commands! { Store<u32> {"],
    );
}

#[test]
fn a_model_without_a_vocabulary_does_not_compile() {
    assert_refused("none", "", &["`Bank` has no vocabulary of commands", "prevalence::commands!"]);
}
