//! The service takes what the tool sends, and each of them understands the other.

mod client;

use std::path::Path;

use client::{Service, agent};
use serde_json::{Value, json};

/// Lines without a number are commands of the bank, and all of them have request ids.
fn line(number: u32, command: &str, fields: &Value) -> String {
    let line = json!({
        "sequence": number, "command": command, "fields": fields,
        "actor": "ann", "request_id": format!("line {number}"),
    });
    format!("{line}\n")
}

fn deposit(number: u32) -> String {
    line(number, "Deposit", &json!({ "account": 7, "cents": 1 }))
}

/// Imports with the tool. Returns its exit code and what it tells.
fn import(service: &Service, file: &Path) -> (u8, Value) {
    let url = service.url("/import");
    let mut told = Vec::new();
    let file = file.to_str().unwrap();
    let arguments = ["prevalence", "import", file, "--url", &url, "--json"];
    let code = prevalence_cli::run(arguments.map(Into::into), &mut told);
    (code, serde_json::from_slice(&told).unwrap())
}

fn figures(told: &Value) -> [u64; 4] {
    ["lines", "accepted", "duplicates", "refused"].map(|name| told[name].as_u64().unwrap())
}

fn cents(service: &Service) -> Value {
    let mut answer = agent().get(service.url("/accounts/7")).call().unwrap();
    let answer: Value = answer.body_mut().read_json().unwrap();
    answer["cents"].clone()
}

#[test]
fn the_tool_imports_through_the_service_once() {
    let directory = tempfile::tempdir().unwrap();
    let (data, file) = (directory.path().join("bank.db"), directory.path().join("lines"));
    let mut lines: Vec<String> = (1..=2500).map(deposit).collect();
    lines[1199] = line(1200, "Transfer", &json!({ "from": 8, "to": 7, "cents": 1 }));
    std::fs::write(&file, lines.concat()).unwrap();
    let service = Service::start(&data, 8); // the queue is full all the time
    let (code, told) = import(&service, &file);
    assert_eq!((code, figures(&told)), (1, [2500, 2499, 0, 1]), "{told}");
    assert_eq!(told["refused_lines"][0]["line"], 1200);
    let reason = told["refused_lines"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("the account lacks 1 cents for this"), "{reason}");
    assert_eq!(cents(&service), 2499);
    // The next service knows what the killed one has accepted.
    drop(service);
    let service = Service::start(&data, 8);
    let (_, told) = import(&service, &file);
    assert_eq!(figures(&told), [2500, 0, 2499, 1], "{told}");
    assert_eq!(cents(&service), 2499);
}

#[test]
fn the_answer_to_a_wrong_line_has_those_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(&directory.path().join("bank.db"), 8192);
    let agent = agent();
    let asked = agent.post(service.url("/import")).header("content-type", "application/x-ndjson");
    let lines = format!("\n{}{}no command\n{}", deposit(2), deposit(2), deposit(5));
    let mut answer = asked.send(lines.as_bytes()).unwrap();
    assert_eq!(answer.status().as_u16(), 422);
    let told: Value = answer.body_mut().read_json().unwrap();
    assert_eq!(told["line"], 4, "{told}");
    assert!(told["error"].as_str().unwrap().contains("expected ident"), "{told}");
    assert_eq!(figures(&told["report"]), [3, 1, 1, 0]);
    assert_eq!(cents(&service), 1);
}

#[test]
fn a_body_that_is_too_long_is_refused_as_a_whole() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(&directory.path().join("bank.db"), 8192);
    let file = directory.path().join("lines");
    let long =
        line(2, "Deposit", &json!({ "account": 7, "cents": 1, "pad": "x".repeat(17 << 20) }));
    std::fs::write(&file, deposit(1) + &long).unwrap();
    let (code, told) = import(&service, &file);
    assert_eq!(
        (code, &told["next_line"], &told["unknown"]),
        (3, &json!(2), &Value::Null),
        "{told}"
    );
    let error = told["error"].as_str().unwrap();
    assert!(error.contains("413"), "{error}");
    assert_eq!(cents(&service), 1);
}
