//! `info` and `du`.

use crate::common::{code, content, filled, json, open, temporary, text, tool};

#[test]
fn info_tells_what_the_program_did() {
    let (_directory, path) = temporary();
    filled(&path);
    let output = tool("info", &path, &["--json"]);
    assert_eq!(code(&output), 0);
    let info = json(&output);
    assert_eq!(info["model"], "Bank");
    assert_eq!(info["state"], "clean");
    assert_eq!((&info["newest_sequence"], &info["oldest_sequence"]), (&9.into(), &1.into()));
    assert_eq!(info["open"]["snapshot"], 6);
    assert_eq!(info["open"]["commands"], 3);
    assert_eq!(info["open"]["problem"], serde_json::Value::Null);
    assert!(info["open"]["least_seconds"].as_f64().unwrap() > 0.0);
    let told = text(&tool("info", &path, &[]));
    for part in [
        "Bank, version 1",
        "sequence 9",
        "load snapshot 6",
        "apply 3 commands",
        "clean",
        "at least",
    ] {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
    let bank = open(&path);
    assert_eq!(bank.recovery().commands_replayed, 3);
    assert_eq!(bank.recovery().snapshot_bytes, info["open"]["snapshot_bytes"]);
    let open = json(&tool("info", &path, &["--json"]));
    assert_eq!(open["is_open"], cfg!(target_os = "linux"));
    bank.close().unwrap();
}

#[test]
fn du_adds_up_to_the_files() {
    let (_directory, path) = temporary();
    filled(&path);
    std::fs::write(path.join("mine.txt"), [7; 5000]).unwrap();
    let output = tool("du", &path, &["--json"]);
    assert_eq!(code(&output), 0);
    let du = json(&output);
    let files = content(&path);
    let sum: usize = files.values().flatten().map(Vec::len).sum();
    assert_eq!(du["total_bytes"], sum);
    let below = |name: &str| -> usize {
        let root = path.join(name);
        let inside = files.iter().filter(|(path, _)| path.starts_with(&root));
        inside.filter_map(|(_, content)| content.as_ref()).map(Vec::len).sum()
    };
    assert_eq!(du["parts"]["journal"]["bytes"], below("journal"));
    assert_eq!(du["parts"]["snapshots"]["bytes"], below("snapshots"));
    assert_eq!(du["parts"]["other files"]["bytes"], 5000);
    let told = text(&tool("du", &path, &[]));
    assert!(told.contains("total") && told.contains("4.8 KiB"), "{told}");
}
