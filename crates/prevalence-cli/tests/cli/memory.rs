//! `show` reads a snapshot piece by piece: its memory does not grow with the model.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};

use prevalence::collections::Map;
use prevalence::{Context, Database, Model, SnapshotPolicy};
use serde::{Deserialize, Serialize};

use crate::common::temporary;

/// As large as what a pipe holds, and what the tool has ready for it, with room.
const AHEAD_BYTES: u64 = 512 << 10;

#[derive(Clone, Default, Serialize, Deserialize)]
struct Library {
    shared: Map<u64, String>,
    plain: BTreeMap<u64, String>,
}

impl Model for Library {
    type Event = ();
}

#[derive(Serialize, Deserialize)]
struct Add {
    from: u64,
    count: u64,
}

impl prevalence::Command<Library> for Add {
    type Output = ();
    type Rejection = std::convert::Infallible;

    fn apply(
        self,
        library: &mut Library,
        _: &mut Context<'_, Library>,
    ) -> Result<(), Self::Rejection> {
        for number in self.from..self.from + self.count {
            let text = format!("{number:0>300}");
            library.shared.insert(number, text.clone());
            library.plain.insert(number, text);
        }
        Ok(())
    }
}

prevalence::commands! { Library { 1 => Add } }

/// Makes a snapshot with so many entries, and one of changes that rests on it.
fn library(path: &Path, entries: u64) {
    let builder = Database::<Library>::builder().snapshots(SnapshotPolicy::manual());
    let library = builder.open(path).unwrap();
    library.execute(Add { from: 0, count: entries }).unwrap();
    library.snapshot().unwrap();
    library.execute(Add { from: entries, count: 10 }).unwrap();
    library.snapshot().unwrap();
    library.close().unwrap();
}

fn show(path: &Path, at: &str) -> (std::process::Child, ChildStdout) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_prevalence"))
        .args(["show", "--at", at])
        .arg(path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let out = child.stdout.take().unwrap();
    (child, out)
}

/// Returns how many bytes `show` prints, and how much memory it has needed for them, but for the
/// last ones: until they are read, it waits.
fn needed(path: &Path, at: &str) -> (u64, u64) {
    let (mut child, mut out) = show(path, at);
    let length = std::io::copy(&mut out, &mut std::io::sink()).unwrap();
    assert!(child.wait().unwrap().success());
    let (mut child, mut out) = show(path, at);
    std::io::copy(&mut (&mut out).take(length - AHEAD_BYTES), &mut std::io::sink()).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    std::io::copy(&mut out, &mut std::io::sink()).unwrap();
    assert!(child.wait().unwrap().success());
    (length, peak * 1024)
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "only Linux tells how much memory another needed")]
fn the_memory_of_show_does_not_grow_with_the_model() {
    let sizes = [2_000, 40_000];
    let mut all = Vec::new();
    for entries in sizes {
        let (_directory, path) = temporary();
        library(&path, entries);
        all.push([needed(&path, "1"), needed(&path, "2")]);
    }
    for (small, large) in all[0].into_iter().zip(all[1]) {
        let more_printed = large.0 - small.0;
        let more_memory = large.1.saturating_sub(small.1);
        assert!(more_printed > 20 << 20, "{small:?} {large:?}");
        // The index of chunks and parts is in memory, and the buffers are full in both cases.
        assert!(more_memory < 4 << 20, "{small:?} {large:?}");
    }
}
