//! `verify`: exit codes and what it tells.

use crate::common::{code, filled, json, temporary, text, told, tool};

#[test]
fn a_sound_database_has_no_findings() {
    let (_directory, path) = temporary();
    filled(&path);
    for more in [&["--json"][..], &["--json", "--deep"]] {
        let output = tool("verify", &path, more);
        assert_eq!((code(&output), told(&output)), (0, String::new()));
        let verified = json(&output);
        assert_eq!(verified["is_sound"], true);
        assert_eq!(verified["commands"], 9);
        assert_eq!(verified["findings"], serde_json::json!([]));
    }
    assert!(text(&tool("verify", &path, &[])).ends_with("no damage was found\n"));
}

#[test]
fn damage_is_told_with_its_place_and_ends_with_1() {
    let (_directory, path) = temporary();
    filled(&path);
    let segment = path.join("journal/00000000000000000001.journal");
    let mut bytes = std::fs::read(&segment).unwrap();
    let length = u32::from_le_bytes(bytes[4100..4104].try_into().unwrap());
    let first = (36 + u64::from(length)).next_multiple_of(8);
    bytes[4096 + 40] ^= 1; // in the first batch
    std::fs::write(&segment, bytes).unwrap();
    let output = tool("verify", &path, &["--json"]);
    assert_eq!(code(&output), 1);
    let verified = json(&output);
    assert_eq!(verified["is_sound"], false);
    let finding = &verified["findings"][0];
    assert_eq!((&finding["begin"], &finding["end"]), (&4096.into(), &(4096 + first).into()));
    assert_eq!((&finding["lost_first"], &finding["lost_last"]), (&1.into(), &1.into()));
    assert_eq!(finding["path"], segment.to_str().unwrap());
    assert_eq!(verified["commands"], 8);
    let output = tool("verify", &path, &[]);
    assert_eq!(code(&output), 1);
    let told = text(&output);
    assert!(told.contains("lost      sequence 1\n") && told.contains("1 damage found"));
}
