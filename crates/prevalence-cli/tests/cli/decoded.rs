//! What the tool makes of stored bytes: fields, conditions, the model of a snapshot; and what it
//! says where the directory does not say enough.

use serde_json::{Value, json};

use crate::common::{filled, temporary, text, tool};

#[test]
fn the_model_of_a_snapshot_is_shown() {
    let (_directory, path) = temporary();
    filled(&path);
    let shown = |more: &[&str]| {
        let output = tool("show", &path, more);
        let told = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), told)
    };
    let (code, out, told) = shown(&[]);
    assert_eq!((code, out.as_str()), (Some(0), "{\"cents\":21}\n"));
    assert!(told.starts_with("the model at sequence 6 of 20"), "{told}");
    assert!(told.contains("; 3 commands since then are not in it"), "{told}");
    assert_eq!(shown(&["cents"]).1, "21\n");
    assert_eq!(shown(&["--at", "5"]).1, "{\"cents\":0}\n");
    assert!(!shown(&["--at", "6"]).2.contains("since then"));
    assert_eq!(shown(&["--at", "2001-01-01"]).0, Some(1));
    assert_eq!((shown(&["nowhere"]).0, shown(&["nowhere"]).1), (Some(1), String::new()));
    assert_eq!(shown(&["--at", "yesterday"]).0, Some(2));
}

#[test]
fn a_condition_chooses_by_fields() {
    let (_directory, path) = temporary();
    filled(&path);
    // The fields of a newtype are its content: a number, or a text.
    let output = tool("log", &path, &["--where", "x = 1 or (", "--json"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("--where"));
    let none = tool("log", &path, &["--where", "amount > 5"]);
    assert_eq!((none.status.code(), none.stdout.len()), (Some(1), 0));
    let all = tool("log", &path, &["--where", "amount = null", "--json"]);
    assert_eq!(text(&all).lines().count(), 9);
}

#[test]
fn without_schemas_the_bytes_are_shown_and_why() {
    let (_directory, path) = temporary();
    filled(&path);
    std::fs::remove_dir_all(path.join("schemas")).unwrap();
    let lines = text(&tool("log", &path, &["--json"]));
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!((&first["fields"], &first["undecoded"]["command"]), (&Value::Null, &json!("01")));
    let reason = first["undecoded"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("schemas/") && reason.ends_with(".json is missing"), "{reason}");
    assert!(text(&tool("log", &path, &["--limit", "1"])).ends_with(" hex=01\n"));
    let none = tool("log", &path, &["--where", "amount > 5"]);
    assert!(String::from_utf8(none.stderr).unwrap().contains("leaves out commands"));
    let shown = tool("show", &path, &[]);
    assert_eq!((shown.status.code(), shown.stdout.len()), (Some(3), 0));
    assert!(String::from_utf8(shown.stderr).unwrap().contains("is missing"));
    // Nothing is lost, so it is no damage.
    let verified = tool("verify", &path, &["--json"]);
    assert_eq!(verified.status.code(), Some(0));
    assert!(text(&verified).contains("tools cannot decode"), "{}", text(&verified));
}
