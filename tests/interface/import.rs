//! Commands that come in as JSON: as lines of an export, and one by one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Mutex;

use prevalence::inspect::Inspection;
use prevalence::{Command, Context, Database, Error, ExecuteError, ImportReport, Metadata, Model};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::common::temporary;

#[derive(Clone, Default, Serialize, Deserialize)]
struct Notes(Vec<Everything>);

impl Model for Notes {
    type Event = ();
}

impl Notes {
    fn bytes(&self) -> Vec<u8> {
        bincode::serde::encode_to_vec(self, bincode::config::standard()).unwrap()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Color {
    Red,
    Green,
}

#[derive(Clone, Serialize, Deserialize)]
enum Shape {
    Dot,
    Circle(f64),
    Line(i32, i32),
    Named { name: String, color: Option<Color> },
}

#[derive(Clone, Serialize, Deserialize)]
struct Everything {
    truth: bool,
    small: (u8, i8, u16, i16),
    large: (u32, i32, u64, i64, u128, i128),
    floats: (f32, f64),
    letter: char,
    text: String,
    unit: (),
    option: Option<u32>,
    nested: Option<Box<Everything>>,
    shapes: Vec<Shape>,
    by_number: BTreeMap<i64, String>,
    by_color: BTreeMap<Color, u8>,
    by_pair: BTreeMap<(u8, u8), bool>,
    address: IpAddr,
}

fn everything(seed: u64) -> Everything {
    let text = ["", "plain", "with \"quotes\" and\nlines", "ünï 🎈"][seed as usize % 4];
    Everything {
        truth: seed.is_multiple_of(2),
        small: (seed as u8, -(seed as i8 / 2), seed as u16 * 300, -3),
        large: (
            u32::MAX - seed as u32,
            i32::MIN + seed as i32,
            u64::MAX - seed,
            i64::MIN + seed as i64,
            u128::MAX - u128::from(seed),
            i128::MIN + i128::from(seed),
        ),
        floats: (
            [0.1, -3.5e30, f32::MIN_POSITIVE, f32::INFINITY][seed as usize % 4],
            [0.1 + 0.2, f64::NEG_INFINITY, f64::MAX, 5e-324][seed as usize % 4],
        ),
        letter: ['a', '"', '\\', '🎈'][seed as usize % 4],
        text: text.to_owned(),
        unit: (),
        option: (!seed.is_multiple_of(3)).then_some(7),
        nested: (seed > 2).then(|| Box::new(everything(seed / 2))),
        shapes: vec![
            Shape::Dot,
            Shape::Circle(1.5),
            Shape::Line(-1, 1),
            Shape::Named { name: text.to_owned(), color: Some(Color::Green) },
            Shape::Named { name: String::new(), color: None },
        ],
        by_number: BTreeMap::from([(-7, "a".to_owned()), (8, text.to_owned())]),
        by_color: BTreeMap::from([(Color::Red, 1), (Color::Green, 2)]),
        by_pair: BTreeMap::from([((1, 2), true)]),
        address: IpAddr::from([10, 0, 0, seed as u8]),
    }
}

#[derive(Serialize, Deserialize)]
struct Write(Everything);

impl Command<Notes> for Write {
    type Output = usize;
    type Rejection = String;

    fn apply(self, notes: &mut Notes, _: &mut Context<'_, Notes>) -> Result<usize, String> {
        if self.0.text == "refuse" {
            return Err("this text is not wanted".to_owned());
        }
        assert_ne!(self.0.text, "panic", "on purpose");
        notes.0.push(self.0);
        Ok(notes.0.len())
    }
}

/// As it was stored once.
#[derive(Serialize, Deserialize)]
struct Forget {
    number: u8,
}

#[derive(Serialize, Deserialize)]
struct ForgetAt {
    at: u64,
}

impl From<Forget> for ForgetAt {
    fn from(old: Forget) -> Self {
        Self { at: old.number.into() }
    }
}

impl Command<Notes> for ForgetAt {
    type Output = ();
    type Rejection = ();

    fn apply(self, notes: &mut Notes, _: &mut Context<'_, Notes>) -> Result<(), ()> {
        let at = usize::try_from(self.at).map_err(|_| ())?;
        if at >= notes.0.len() {
            return Err(());
        }
        notes.0.remove(at);
        Ok(())
    }
}

prevalence::commands! { Notes { 1 => Write, 2 => Forget as ForgetAt, 3 => ForgetAt } }

/// Writes the stored commands as `prevalence log --json` does, as far as an import reads it.
fn exported(path: &Path) -> String {
    let look = Inspection::open(path).unwrap();
    let mut types = look.types();
    let mut lines = String::new();
    for record in look.records(..).unwrap() {
        let record = record.unwrap();
        let fields = types.command_json(&record).unwrap();
        let line = serde_json::json!({
            "sequence": record.sequence,
            "command": &*record.command_name,
            "actor": record.metadata.actor,
            "request_id": record.metadata.request_id,
            "attributes": record.metadata.attributes,
        });
        let line = line.to_string();
        lines += &format!("{},\"fields\":{fields}}}\n", line.strip_suffix('}').unwrap());
    }
    lines
}

fn stored(path: &Path) -> Vec<(String, Metadata, Vec<u8>)> {
    let look = Inspection::open(path).unwrap();
    let records = look.records(..).unwrap().map(Result::unwrap);
    records.map(|it| (it.command_name.to_string(), it.metadata, it.command)).collect()
}

fn report(database: &Database<Notes>, lines: &str) -> ImportReport {
    database.import(lines.as_bytes()).unwrap()
}

#[test]
fn an_import_stores_what_was_exported_byte_by_byte() {
    let (_directory, path) = temporary();
    let notes = Database::<Notes>::open(&path).unwrap();
    for seed in 0..40 {
        let metadata = Metadata {
            actor: format!("actor {}", seed % 3),
            request_id: if seed % 2 == 0 { format!("request {seed}") } else { String::new() },
            attributes: BTreeMap::from([("why".to_owned(), "\"so\"".to_owned())]),
        };
        notes.execute_with(&metadata, Write(everything(seed))).unwrap();
    }
    notes.execute(ForgetAt { at: 3 }).unwrap();
    let model = notes.query(Notes::bytes);
    notes.close().unwrap();
    let lines = exported(&path);
    let (_other, copy) = temporary();
    let notes = Database::<Notes>::open(&copy).unwrap();
    let first = report(&notes, &lines);
    assert_eq!((first.lines, first.accepted, first.refused), (41, 41, 0), "{first:?}");
    assert!(notes.query(Notes::bytes) == model);
    notes.close().unwrap();
    assert!(stored(&copy) == stored(&path));
    // Those with request ids are not executed again.
    let notes = Database::<Notes>::open(&copy).unwrap();
    let again = report(&notes, &lines);
    assert_eq!((again.accepted, again.duplicates), (21, 20));
}

#[test]
fn refused_commands_are_told_with_their_lines_and_the_rest_goes_on() {
    let notes = Database::<Notes>::in_memory().unwrap();
    let line = |text: &str| {
        let fields = serde_json::to_value(stored_like(text)).unwrap();
        format!("{}\n", serde_json::json!({"command": "Write", "fields": fields}))
    };
    let lines = [
        line("fine"),
        line("refuse"),
        "\n".to_owned(),
        line("panic"),
        r#"{"command":"Nothing","fields":{}}"#.to_owned() + "\n",
        r#"{"command":"ForgetAt","fields":{"at":"seven"}}"#.to_owned() + "\n",
        r#"{"command":"ForgetAt","fields":{}}"#.to_owned() + "\n",
        r#"{"command":"ForgetAt","fields":{"at":0,"by":1}}"#.to_owned() + "\n",
        r#"{"command":"(redacted)","fields":null,"is_redacted":true}"#.to_owned() + "\n",
        r#"{"command":"Forget","fields":{"number":0}}"#.to_owned(),
    ];
    crate::common::quiet_panics();
    let report = report(&notes, &lines.concat());
    assert_eq!((report.lines, report.accepted, report.redacted), (10, 2, 1), "{report:?}");
    assert_eq!(report.refused, 6);
    let told: Vec<_> = report.refused_lines.iter().map(|it| (it.line, &*it.reason)).collect();
    for ((line, reason), (expected, part)) in told.iter().zip([
        (5, "`Nothing` is no command"),
        (6, "invalid type: string"),
        (7, "the field `at` is missing"),
        (8, "there is no field `by`"),
        (2, "this text is not wanted"),
        (4, "panicked"),
    ]) {
        assert!(*line == expected && reason.contains(part), "{told:?}");
    }
    assert_eq!(notes.query(|notes| notes.0.len()), 0, "the old command was imported, too");
}

/// What the schema's JSON of the command is: an address is not a text there.
fn stored_like(text: &str) -> serde_json::Value {
    let mut value = serde_json::to_value(Everything {
        floats: (0.5, 0.5),
        large: (1, -1, 1, -1, 1, -1), // `Value` holds no larger ones
        text: text.to_owned(),
        by_pair: BTreeMap::new(),
        ..everything(0)
    })
    .unwrap();
    value["address"] = serde_json::json!({"V4": [10, 0, 0, 1]});
    value["by_pair"] = serde_json::json!([[[1, 2], true]]);
    value
}

#[test]
fn a_line_that_is_none_ends_the_import_with_its_number() {
    let notes = Database::<Notes>::in_memory().unwrap();
    for wrong in ["[]", "{", "{\"fields\":{}}", "\u{1}"] {
        let lines = format!("\n{wrong}\n");
        let error = notes.import(lines.as_bytes()).unwrap_err();
        assert!(matches!(error, Error::ImportLine { line: 2, .. }), "{error}");
        assert!(error.to_string().contains("line 2 of the import"), "{error}");
    }
    notes.clone().close().unwrap();
    let line = br#"{"command":"ForgetAt","fields":{"at":0}}"#;
    let error = notes.import(&line[..]).unwrap_err();
    assert!(matches!(error, Error::Stopped), "{error}");
}

#[test]
fn a_wrong_line_does_not_hide_what_became_of_those_before_it() {
    let notes = Database::<Notes>::in_memory().unwrap();
    let write = |text: &str| json!({"command": "Write", "fields": stored_like(text)});
    let lines = format!("{}\n\n{}\nno command\n", write("fine"), write("refuse"));
    let Error::ImportLine { line, before, .. } = notes.import(lines.as_bytes()).unwrap_err() else {
        panic!("the last line is no command")
    };
    assert_eq!((line, before.lines, before.accepted, before.refused), (4, 3, 1, 1));
    assert_eq!(before.refused_lines[0].line, 3);
    let text = serde_json::to_string(&*before).unwrap();
    assert!(
        text.starts_with(r#"{"lines":3,"accepted":1,"duplicates":0,"redacted":0,"refused":1,"#)
    );
    let read: ImportReport = serde_json::from_str(&text).unwrap();
    assert_eq!(read, *before, "it is the answer of a service, too");
}

#[test]
fn a_command_may_be_submitted_by_its_name() {
    let notes = Database::<Notes>::in_memory().unwrap();
    let fields = stored_like("one").to_string();
    let output = notes.submit_json("Write", &fields).unwrap().wait().unwrap();
    assert_eq!(output.as_deref(), Some("1"));
    let refused = stored_like("refuse").to_string();
    let error = notes.submit_json("Write", &refused).unwrap().wait().unwrap_err();
    assert!(matches!(&error, ExecuteError::Rejected(why) if why.0 == "this text is not wanted"));
    assert!(error.to_string().contains("this text is not wanted"), "{error}");
    let error = notes.submit_json("Unknown", "{}").unwrap_err();
    assert!(matches!(error, ExecuteError::NotACommand { .. }), "{error}");
    assert!(error.to_string().contains("`Unknown` is no command"), "{error}");
}

static HANDLE: Mutex<Option<Database<Nested>>> = Mutex::new(None);

#[derive(Clone, Default, Serialize, Deserialize)]
struct Nested;

impl Model for Nested {
    type Event = ();
}

/// A command that misuses a handle to its own database, and a rejection that cannot be shown.
#[derive(Serialize, Deserialize)]
enum Misuse {
    Handle,
    Rejection,
}

#[derive(Debug)]
struct Unshowable;

impl std::fmt::Display for Unshowable {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("on purpose")
    }
}

impl Command<Nested> for Misuse {
    type Output = bool;
    type Rejection = Unshowable;

    fn apply(self, _: &mut Nested, _: &mut Context<'_, Nested>) -> Result<bool, Unshowable> {
        if matches!(self, Self::Rejection) {
            return Err(Unshowable);
        }
        let handle = HANDLE.lock().unwrap().take().unwrap();
        let line = br#"{"command":"Misuse","fields":"Handle"}"#;
        Ok(matches!(handle.submit_json("Misuse", "\"Handle\""), Err(ExecuteError::Reentrant))
            && matches!(handle.import(&line[..]), Err(Error::Reentrant))
            && matches!(handle.backup_with_history("/nowhere/at/all"), Err(Error::Reentrant)))
    }
}

prevalence::commands! { Nested { 1 => Misuse } }

#[test]
fn a_command_cannot_wait_for_itself_and_may_have_a_rejection_that_panics() {
    crate::common::quiet_panics();
    let (_directory, path) = temporary();
    let nested = Database::<Nested>::open(&path).unwrap();
    *HANDLE.lock().unwrap() = Some(nested.clone());
    assert!(nested.execute(Misuse::Handle).unwrap());
    let error = nested.submit_json("Misuse", "\"Rejection\"").unwrap().wait().unwrap_err();
    assert!(matches!(error, ExecuteError::Rejected(_)), "it is refused all the same: {error}");
    assert_eq!(nested.stats().rejected, 1);
}
