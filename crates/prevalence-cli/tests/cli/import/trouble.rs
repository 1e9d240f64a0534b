//! Services, lines and arguments that are not as they should be: an error that says what to do,
//! never a panic, and a true word on what was executed.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;

use prevalence::Database;
use serde_json::Value;

use super::server::{Reply, Server, import};
use super::{Ledger, line, open, send, tool, written};
use crate::common::{code, json as json_of, temporary, text, told};

/// Imports into a database in memory.
fn ledger() -> (Database<Ledger>, Server) {
    let ledger = Database::<Ledger>::in_memory().unwrap();
    let answers = ledger.clone();
    let server = Server::start(move |request| {
        let (status, body) = import(&answers, &request.body());
        Reply::Answer(status, body)
    });
    (ledger, server)
}

#[test]
fn a_wrong_line_ends_it_and_those_before_it_are_told() {
    let (directory, _) = temporary();
    let mut lines: Vec<String> = (1..=1500).map(line).collect();
    lines[1199] = line(0);
    lines[1299] = "sequence,time\n".to_owned();
    let file = written(directory.path(), &lines);
    let (ledger, server) = ledger();
    let output = send(&file, &server, &["--json"]);
    assert_eq!((code(&output), server.requests()), (3, 2));
    let summary = json_of(&output);
    let figures = ["lines", "accepted", "refused", "next_line"].map(|name| summary[name].as_u64());
    assert_eq!(figures, [1299, 1298, 1, 1300].map(Some));
    assert_eq!(summary["refused_lines"][0]["line"], 1200);
    let error = told(&output);
    assert!(error.contains("line 1300 of ") && error.contains("is no command"), "{error}");
    assert!(error.contains("Correct it, and go on with --from-line 1300"), "{error}");
    assert_eq!(ledger.sequence(), 1298);
}

#[test]
fn a_line_that_only_the_service_takes_for_wrong_is_told_the_same_way() {
    let (directory, _) = temporary();
    let mut lines: Vec<String> = (1..=1500).map(line).collect();
    lines[1199] = line(0);
    let file = written(directory.path(), &lines);
    for has_report in [true, false] {
        let ledger = Database::<Ledger>::in_memory().unwrap();
        let answers = ledger.clone();
        let server = Server::start(move |request| {
            // The service knows another form of this line.
            let sent = String::from_utf8(request.body()).unwrap();
            let sent = sent.replace("\"cents\":1300,", "\"cents\":1300 ");
            let (status, body) = import(&answers, sent.as_bytes());
            let mut body: Value = serde_json::from_str(&body).unwrap();
            if !has_report && status == 422 {
                body.as_object_mut().unwrap().remove("report");
            }
            Reply::Answer(status, body.to_string())
        });
        let output = send(&file, &server, &["--json"]);
        assert_eq!((code(&output), server.requests()), (3, 2));
        let summary = json_of(&output);
        assert_eq!(summary["next_line"], 1300, "{summary}");
        assert_eq!((summary["lines"].as_u64(), &summary["unknown"]), (Some(1299), &Value::Null));
        let expected = if has_report { [1298, 1, 0] } else { [1000, 0, 299] };
        let figures = ["accepted", "refused", "unreported"].map(|name| summary[name].as_u64());
        assert_eq!(figures, expected.map(Some));
        let error = told(&output);
        assert!(error.contains("the service does not take line 1300 of "), "{error}");
        assert_eq!(ledger.sequence(), 1298, "none behind the line was executed");
    }
}

/// A service that answers each request in some wrong way, and a part of what is told.
type Wrong = (&'static str, fn() -> Reply, bool);

const WRONG: [Wrong; 11] = [
    ("404", || Reply::Answer(404, "<html><p>not\nfound</html>".to_owned()), false),
    ("401", || Reply::Answer(401, "who?".to_owned()), false),
    ("500", || Reply::Answer(500, "{\"error\":\"no\"}".to_owned()), true),
    ("no report of an import", || Reply::Answer(200, "<html>hello</html>".to_owned()), true),
    ("is not one of these 2 lines", || Reply::Answer(200, REPORT_OF_3.to_owned()), true),
    ("is longer than", || Reply::Endless("HTTP/1.1 200 OK\r\n\r\n", &[b' '; 4096]), true),
    ("has not answered", || Reply::Endless("HTTP/1.1 200 OK\r\n", b"a: bcdefghijk\r\n"), true),
    ("has no end", || Reply::Raw(CUT.to_vec()), true),
    ("has not answered", || Reply::Raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec()), true),
    ("not followed", || Reply::Raw(MOVED.to_vec()), false),
    ("has not answered within 5s. --timeout", || Reply::Silence, true),
];

const REPORT_OF_3: &str = r#"{"lines":3,"accepted":3,"duplicates":0,"redacted":0,"refused":0,
    "refused_lines":[]}"#;
const CUT: &[u8] = b"HTTP/1.1 422 No\r\ncontent-length: 99\r\n\r\n{\"error\":\"no\",\"line\":1}";
const MOVED: &[u8] =
    b"HTTP/1.1 307 Moved\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";

#[test]
fn answers_that_are_none_end_it() {
    let (directory, _) = temporary();
    let file = written(directory.path(), &[line(1), line(2)]);
    for (part, reply, is_unknown) in WRONG {
        let server = Server::start(move |request| {
            request.body();
            reply()
        });
        let timeout = if part.contains("5s") { "5s" } else { "5m" };
        let output = send(&file, &server, &["--json", "--timeout", timeout]);
        let error = told(&output);
        assert_eq!((code(&output), server.requests()), (3, 1), "{part}: {error}");
        assert!(error.starts_with("error: lines 1 to 2 of ") && error.contains(part), "{error}");
        assert!(error.len() < 2000 && error.contains("--from-line 1"), "{error}");
        let summary = json_of(&output);
        assert_eq!(summary["unknown"].is_object(), is_unknown, "{part}: {summary}");
        assert_eq!((summary["lines"].as_u64(), summary["next_line"].as_u64()), (Some(0), Some(1)));
    }
}

#[test]
fn a_service_may_refuse_the_first_request_before_it_has_the_lines() {
    let (directory, _) = temporary();
    // No connection has buffers for this: whoever sends it notices that nobody reads it.
    let long = line(1).replacen('{', &("{".to_owned() + &" ".repeat(32 << 20)), 1);
    let file = written(directory.path(), &[long]);
    for status in [401, 503] {
        // It closes the connection without having read a line.
        let server = Server::start(move |_| Reply::Answer(status, "who are you?".to_owned()));
        let output = send(&file, &server, &["--json"]);
        let error = told(&output);
        assert!(error.contains(&format!("{status} ")) && error.contains("who are you?"), "{error}");
        assert_eq!((code(&output), &json_of(&output)["unknown"]), (3, &Value::Null));
    }
}

#[test]
fn files_and_arguments_that_are_wrong_are_told_before_anything_is_sent() {
    let (directory, path) = temporary();
    open(&path).close().unwrap();
    let file = written(directory.path(), &[line(1), "\n".to_owned()]);
    let (ledger, server) = ledger();
    for (file, part) in [
        (&directory.path().join("nothing"), "cannot read "),
        (&directory.path().to_path_buf(), "is a directory"),
        (&path, "Export it first: prevalence export "),
    ] {
        let output = send(file, &server, &[]);
        let error = told(&output);
        assert_eq!((code(&output), text(&output).as_str()), (3, ""), "{error}");
        assert!(error.contains(part) && error.contains("Nothing was sent"), "{error}");
    }
    let (url, name) = (server.url(), file.to_str().unwrap());
    for (wrong, part) in [
        (&["import", name][..], "--url"),
        (&["import", name, "--url", "https://bank/import"], "tunnel"),
        (&["import", name, "--url", "bank"], "http://127.0.0.1:8080/import"),
        (&["import", name, "--url", &url, "--from-line", "0"], "from-line"),
        (&["import", name, "--url", &url, "--from-line", "4"], "is behind the end of"),
        (&["import", name, "--url", &url, "--timeout", "0s"], "more than nothing"),
        (&["import", name, "--url", &url, "--timeout", "99999y"], "a hundred years"),
        (&["import", name, "--url", &url, "--header", "Content-Length: 3"], "the tool itself"),
    ] {
        let output = tool(wrong);
        let error = told(&output);
        assert_eq!(code(&output), 2, "{wrong:?}: {error}");
        assert!(error.contains(part), "{error}");
    }
    assert_eq!((server.requests(), ledger.sequence()), (0, 0));
    let output = send(&file, &server, &["--from-line", "3"]);
    assert_eq!((code(&output), server.requests()), (0, 0), "there is nothing behind the end");
    assert!(text(&output).starts_with("0 lines answered\n"), "{}", text(&output));
}

#[test]
fn lines_may_come_from_the_standard_input() {
    let (ledger, server) = ledger();
    let mut child = Command::new(env!("CARGO_BIN_EXE_prevalence"))
        .args(["import", "-", "--url", &server.url()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: Vec<String> = (1..=1500).map(line).collect();
    child.stdin.take().unwrap().write_all(lines.concat().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 0);
    assert!(text(&output).starts_with("1500 lines answered: 1 to 1500\n"), "{}", text(&output));
    assert_eq!(ledger.sequence(), 1500);
}

#[test]
#[cfg_attr(not(unix), ignore = "there is no kill(1)")]
fn an_interrupted_import_waits_for_its_answer_and_says_where_to_go_on() {
    let (directory, _) = temporary();
    let file = written(directory.path(), &(1..=3000).map(line).collect::<Vec<_>>());
    let ledger = Database::<Ledger>::in_memory().unwrap();
    let (answers, mut answered) = (ledger.clone(), 0);
    let (outbox, process) = channel::<u32>();
    let server = Server::start(move |request| {
        let (status, body) = import(&answers, &request.body());
        answered += 1;
        if answered == 2 {
            // The signal is there before the answer.
            let id = process.recv().unwrap().to_string();
            assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
        }
        Reply::Answer(status, body)
    });
    let child = Command::new(env!("CARGO_BIN_EXE_prevalence"))
        .args(["import", file.to_str().unwrap(), "--url", &server.url(), "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    outbox.send(child.id()).unwrap();
    let output = child.wait_with_output().unwrap();
    let error = told(&output);
    assert_eq!((code(&output), server.requests()), (3, 2), "{error}");
    assert!(error.contains("interrupted. The lines up to 2000 are answered"), "{error}");
    assert_eq!((json_of(&output)["next_line"].as_u64(), ledger.sequence()), (Some(2001), 2000));
}
