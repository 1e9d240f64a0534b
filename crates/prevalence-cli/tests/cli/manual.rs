//! `man` and `completions`: all that `--help` tells is in them.

use std::process::{Command, Output};

use crate::common::{code, text};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_prevalence")).args(arguments).output().unwrap()
}

/// The subcommands, each with its long options, as `--help` tells them.
fn commands() -> Vec<(String, Vec<String>)> {
    let help = text(&run(&["--help"]));
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = names.map(|line| line.split_whitespace().next().unwrap().to_owned());
    let with_options = |name: String| {
        let help = text(&run(&[&name, "--help"]));
        let options = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
        let longs =
            options.filter_map(|line| line.split_whitespace().find(|it| it.starts_with("--")));
        let longs = longs.map(|long| long.trim_end_matches(',').to_owned());
        (name, longs.collect())
    };
    names.filter(|name| name != "help").map(with_options).collect()
}

#[test]
fn every_command_and_option_has_its_place_in_the_manual() {
    let all = commands();
    let names: Vec<_> = all.iter().map(|(name, _)| name.as_str()).collect();
    assert!(["info", "log", "verify", "man"].iter().all(|it| names.contains(it)), "{names:?}");
    let directory = tempfile::tempdir().unwrap();
    let output = run(&["man", directory.path().to_str().unwrap()]);
    assert_eq!((code(&output), text(&output).as_str()), (0, ""));
    let read = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap();
    let whole = read("prevalence.1");
    let plain = |page: &str| page.replace("\\-", "-").replace("\\fB", "").replace("\\fR", "");
    for (name, options) in &all {
        assert!(plain(&whole).contains(&format!("prevalence-{name}(1)")), "{name}\n{whole}");
        let page = plain(&read(&format!("prevalence-{name}.1")));
        assert!(page.starts_with(".ie") && page.contains(&format!(".TH prevalence-{name}")));
        assert!(!options.is_empty() && options.contains(&"--help".to_owned()), "{name}");
        for option in options {
            assert!(page.contains(option), "{option} is not in\n{page}");
        }
        for line in ["Exit codes:", "the arguments are wrong"] {
            assert!(page.contains(line), "{line} is not in\n{page}");
        }
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), all.len() + 1);
    let printed = text(&run(&["man"]));
    assert!(printed.starts_with(&whole) && printed.len() > whole.len());
    // A page is no result that may be lost.
    let output = run(&["man", directory.path().join("nowhere").to_str().unwrap()]);
    assert_eq!(code(&output), 3);
}

#[test]
fn every_command_and_option_is_completed() {
    let all = commands();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(&["completions", shell]);
        assert_eq!(code(&output), 0);
        let script = text(&output);
        for (name, options) in &all {
            assert!(script.contains(name.as_str()), "{shell}: {name}");
            for option in options {
                let bare = option.trim_start_matches('-');
                assert!(script.contains(bare), "{shell}: {name} {option}");
            }
        }
    }
    assert_eq!(code(&run(&["completions", "cmd"])), 2);
}
