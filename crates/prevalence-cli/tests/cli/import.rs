//! `import`: what one database exports, another one takes through a service, and nobody is left in
//! doubt of what became of a line.

mod server;
mod trouble;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use prevalence::inspect::Inspection;
use prevalence::{Context, Database, Metadata, Model};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::common::{code, json as json_of, temporary, text, told};
use server::{Reply, Server, import};

#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Ledger {
    accounts: BTreeMap<u32, i64>,
    notes: Vec<String>,
}

impl Model for Ledger {
    type Event = ();
}

impl Ledger {
    fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap()
    }
}

#[derive(Serialize, Deserialize)]
pub struct Post {
    account: u32,
    cents: i64,
    note: String,
}

impl prevalence::Command<Ledger> for Post {
    type Output = i64;
    type Rejection = String;

    fn apply(self, ledger: &mut Ledger, _: &mut Context<'_, Ledger>) -> Result<i64, String> {
        if self.cents == 0 {
            return Err("nothing is no amount".to_owned());
        }
        let account = ledger.accounts.entry(self.account).or_default();
        // The order counts: an import that changes it leads to another value.
        *account = account.wrapping_mul(3).wrapping_add(self.cents);
        let balance = *account;
        ledger.notes.push(self.note);
        Ok(balance)
    }
}

prevalence::commands! { Ledger { 1 => Post } }

pub fn open(path: &Path) -> Database<Ledger> {
    Database::<Ledger>::open(path).unwrap()
}

/// Makes a closed database of so many commands, some of them long. Those of ann have request ids.
fn filled(path: &Path, count: u32, actor: &str) {
    let ledger = open(path);
    let submit = |number: u32| {
        let request_id = if actor == "ann" { format!("post {number}") } else { String::new() };
        let attributes = BTreeMap::from([("why".to_owned(), "\"so\"\n".to_owned())]);
        let asked = Metadata { actor: actor.to_owned(), request_id, attributes };
        let is_long = number.is_multiple_of(100);
        let note = if is_long { "ü".repeat(60_000) } else { format!("{number}") };
        let post = Post { account: number % 7, cents: i64::from(number) + 1, note };
        ledger.submit_with(&asked, post).unwrap()
    };
    let pending: Vec<_> = (0..count).map(submit).collect();
    for accepted in pending {
        accepted.wait().unwrap();
    }
    ledger.close().unwrap();
}

/// Exports a new database of so many commands with the tool. Returns its file.
fn exported(directory: &Path, count: u32, actor: &str) -> PathBuf {
    let path = directory.join("from.db");
    filled(&path, count, actor);
    let file = directory.join("commands.ndjson");
    let output = tool(&["export", path.to_str().unwrap(), "--output", file.to_str().unwrap()]);
    assert_eq!(code(&output), 0, "{}", told(&output));
    file
}

pub fn tool(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_prevalence"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let told = told(&output);
    assert!(!told.contains("panicked"), "{told}");
    output
}

pub fn send(file: &Path, server: &Server, more: &[&str]) -> Output {
    let url = server.url();
    tool(&[&["import", file.to_str().unwrap(), "--url", &url], more].concat())
}

/// The names, metadata and bytes of all commands.
fn stored(path: &Path) -> Vec<(String, Metadata, Vec<u8>)> {
    let look = Inspection::open(path).unwrap();
    let records = look.records(..).unwrap().map(Result::unwrap);
    records.map(|it| (it.command_name.to_string(), it.metadata, it.command)).collect()
}

fn assert_same(from: &Path, to: &Path) {
    assert!(stored(from) == stored(to), "other commands are stored");
    let (from, to) = (open(from).query(Ledger::bytes), open(to).query(Ledger::bytes));
    assert!(from == to, "the models differ");
}

/// A line that posts so much.
pub fn line(cents: i64) -> String {
    let post = Post { account: 1, cents, note: String::new() };
    format!("{}\n", json!({"command": "Post", "fields": post}))
}

fn written(directory: &Path, lines: &[String]) -> PathBuf {
    let file = directory.join("lines.ndjson");
    std::fs::write(&file, lines.concat()).unwrap();
    file
}

#[test]
fn what_one_database_exports_another_one_takes() {
    let (directory, to) = temporary();
    let file = exported(directory.path(), 2500, "bob");
    let (ledger, mut sent) = (open(&to), Vec::new());
    let (outbox, inbox) = std::sync::mpsc::channel();
    let server = Server::start(move |request| {
        let lines = request.body();
        outbox.send((request.head.clone(), lines.clone())).unwrap();
        let (status, body) = import(&ledger, &lines);
        Reply::Answer(status, body)
    });
    let more = ["--json", "--header", "Authorization: Bearer a:b", "--header", "x-actor: ann"];
    let output = send(&file, &server, &more);
    assert_eq!(code(&output), 0, "{}", told(&output));
    let summary = json_of(&output);
    assert_eq!((&summary["lines"], &summary["accepted"]), (&json!(2500), &json!(2500)));
    assert_eq!((&summary["next_line"], &summary["error"]), (&Value::Null, &Value::Null));
    drop(server);
    let mut counts = Vec::new();
    for (head, lines) in inbox {
        assert!(head.starts_with("post /import http/1.1\r\n"), "{head}");
        let headers =
            ["content-type: application/x-ndjson", "authorization: bearer a:b", "x-actor: ann"];
        assert!(headers.iter().all(|header| head.contains(header)), "{head}");
        assert!(lines.len() <= 1 << 20);
        counts.push(lines.iter().filter(|byte| **byte == b'\n').count());
        sent.extend(lines);
    }
    assert!(sent == std::fs::read(&file).unwrap(), "other lines were sent");
    // Here the bytes end a request, and in the next test the lines.
    assert!(counts.len() > 2 && counts.iter().all(|count| *count < 1000), "{counts:?}");
    assert_same(&directory.path().join("from.db"), &to);
    assert!(stored(&to)[7].1.actor == "bob");
}

#[test]
fn refused_lines_have_their_numbers_in_the_file() {
    let (directory, _) = temporary();
    let mut lines: Vec<String> = (1..=2400).map(line).collect();
    for refused in [1, 1000, 1001, 2400] {
        lines[refused - 1] = line(0);
    }
    lines[1] = "\n".to_owned();
    lines[1999] = " \r\n".to_owned();
    lines[2000] = "{\"command\":\"Nothing\",\"fields\":null}\n".to_owned();
    lines[2001] = "{\"command\":\"(redacted)\",\"fields\":null,\"is_redacted\":true}\n".to_owned();
    let file = written(directory.path(), &lines);
    let ledger = Database::<Ledger>::in_memory().unwrap();
    let answers = ledger.clone();
    let server = Server::start(move |request| {
        let (status, body) = import(&answers, &request.body());
        Reply::Answer(status, body)
    });
    let output = send(&file, &server, &["--json"]);
    assert_eq!((code(&output), told(&output).as_str()), (1, ""));
    assert_eq!(server.requests(), 3);
    let summary = json_of(&output);
    let figures = ["lines", "accepted", "redacted", "refused", "duplicates", "unreported"];
    let figures: Vec<_> = figures.iter().map(|name| summary[*name].as_u64().unwrap()).collect();
    assert_eq!(figures, [2400, 2392, 1, 5, 0, 0]);
    let refused = summary["refused_lines"].as_array().unwrap();
    let numbers: Vec<_> = refused.iter().map(|it| it["line"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [1, 1000, 1001, 2001, 2400]);
    assert!(refused[3]["reason"].as_str().unwrap().contains("`Nothing` is no command"));
    assert_eq!(ledger.query(|ledger| ledger.notes.len()), 2392);
    // From another line on, and for the eye.
    let output = send(&file, &server, &["--from-line", "1001"]);
    assert_eq!(code(&output), 1);
    let told = text(&output);
    assert!(told.starts_with("1400 lines answered: 1001 to 2400\n"), "{told}");
    let lines = ["line 1001: the command was rejected: nothing is no amount", "line 2400: "];
    assert!(lines.iter().all(|line| told.contains(line)) && !told.contains("line 1000"), "{told}");
}

#[test]
fn an_import_goes_on_where_the_service_died() {
    let (directory, to) = temporary();
    let file = exported(directory.path(), 2300, "bob");
    let (ledger, mut answered) = (open(&to), 0);
    let server = Server::start(move |request| {
        let answer = import(&ledger, &request.body());
        answered += 1;
        match answered {
            2 => Reply::Death(Some(answer)),
            _ => Reply::Answer(answer.0, answer.1),
        }
    });
    let output = send(&file, &server, &["--json"]);
    assert_eq!(code(&output), 3);
    server.died();
    let summary = json_of(&output);
    let next = summary["next_line"].as_u64().unwrap();
    assert_eq!(summary["lines"].as_u64(), Some(next - 1));
    assert_eq!(summary["unknown"], Value::Null, "nothing of the third request was sent");
    let error = told(&output);
    let parts = [
        format!("The lines up to {} are answered, and none behind them was executed", next - 1),
        format!("go on with --from-line {next}"),
        "nothing listens at http://127.0.0.1:".to_owned(),
        "Lines with a request id may also be repeated".to_owned(),
    ];
    assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    let ledger = open(&to); // the dead one has let it go
    assert_eq!(ledger.sequence(), next - 1);
    let server = Server::start(move |request| {
        let (status, body) = import(&ledger, &request.body());
        Reply::Answer(status, body)
    });
    let output = send(&file, &server, &["--from-line", &next.to_string()]);
    assert_eq!(code(&output), 0, "{}", told(&output));
    drop(server);
    assert_same(&directory.path().join("from.db"), &to);
}

#[test]
fn an_answer_that_is_lost_is_told_and_nothing_is_sent_again() {
    for (actor, advice) in [
        ("ann", "Lines with a request id may also be repeated"),
        ("bob", "some of these lines have no request id, and would be executed twice"),
    ] {
        let (directory, to) = temporary();
        let file = exported(directory.path(), 1700, actor);
        let (ledger, mut answered) = (open(&to), 0);
        let answers = ledger.clone();
        let server = Server::start(move |request| {
            let (status, body) = import(&answers, &request.body());
            answered += 1;
            match answered {
                2 => Reply::Raw(Vec::new()), // executed, and the connection is closed
                _ => Reply::Answer(status, body),
            }
        });
        let output = send(&file, &server, &["--json"]);
        assert_eq!((code(&output), server.requests()), (3, 2), "{}", told(&output));
        let (summary, executed) = (json_of(&output), ledger.sequence());
        let next = summary["next_line"].as_u64().unwrap();
        let unknown = &summary["unknown"];
        assert_eq!((&unknown["first"], &unknown["last"]), (&json!(next), &json!(executed)));
        let error = told(&output);
        let range = format!("Nobody knows which of the lines {next} to {executed} were executed");
        assert!(error.contains(&range) && error.contains(advice), "{error}");
        assert!(error.contains(&format!("go on with --from-line {next}")), "{error}");
        if actor == "ann" {
            // Those of which nobody knew were executed.
            let output = send(&file, &server, &["--json", "--from-line", &next.to_string()]);
            assert_eq!(code(&output), 0, "{}", told(&output));
            let summary = json_of(&output);
            assert_eq!(summary["duplicates"].as_u64(), Some(executed - next + 1));
            assert_eq!(summary["accepted"].as_u64(), Some(1700 - executed));
            // All of it again is no harm either.
            let output = send(&file, &server, &["--json"]);
            assert_eq!(code(&output), 0);
            assert_eq!(json_of(&output)["duplicates"], json!(1700));
            assert_eq!(json_of(&output)["accepted"], json!(0));
            drop(server);
            ledger.close().unwrap();
            assert_same(&directory.path().join("from.db"), &to);
        }
    }
}
