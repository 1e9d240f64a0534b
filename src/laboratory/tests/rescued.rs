//! Nothing is lost of what is whole, and chance finds damage of every kind.

use super::super::ruined::{CHANGE_BYTES, IS_KILLED};
use super::*;
use crate::storage::simulated::Random;

const KINDS: [(&str, u8); 4] = [
    ("closed", 0),
    ("archive", HAS_ARCHIVE),
    ("killed", IS_KILLED),
    ("archive-killed", HAS_ARCHIVE | IS_KILLED),
];

/// The seeds of the corpus: each kind of database as it is, with one change, and with a change
/// behind right checksums.
pub(in crate::laboratory) fn rescue_seeds() -> Vec<(String, Vec<u8>)> {
    let changes = [4, 7, 8, 10]; // a cut, a removed file, one of an earlier time, and a new name
    let mut seeds = Vec::new();
    for ((at, (name, how)), kind) in (0..).zip(KINDS).zip(changes) {
        seeds.push((name.to_owned(), vec![how, 3]));
        let change = [at * 3 + 1, 100, 16, kind, 5, 7];
        seeds.push((format!("{name}-changed"), [&[how, 2 + at][..], &change].concat()));
        if at % 3 == 0 {
            let change = [at * 4, 70, 0, 0, 1, 0];
            seeds.push((format!("{name}-forged"), [&[how | 15, 6][..], &change].concat()));
        }
    }
    seeds
}

#[test]
fn what_is_whole_is_saved_whole() {
    for (name, how) in KINDS {
        let lived = Lived::both(how)[0];
        let sequence = lived.states.len() as u8 - 1;
        let saved = rescue(&[how, sequence]);
        assert_eq!(saved, Saved { sound: 1, repaired: 1, restored: 2, backed_up: 1 }, "{name}");
    }
}

/// Spoils directories by chance: `PREVALENCE_RUINS` of them.
#[test]
fn chance_spoils_directories_in_which_something_is_saved() {
    let mut random = Random::new(7);
    let (mut unsound, mut saved) = (0, Saved::default());
    let asked = std::env::var("PREVALENCE_RUINS").ok().and_then(|runs| runs.parse().ok());
    let runs: u32 = asked.unwrap_or(if cfg!(debug_assertions) { 60 } else { 1000 });
    for _ in 0..runs {
        let changes = random.below(4);
        let mut data = random.bytes(HEAD_BYTES + changes * CHANGE_BYTES);
        // Most inputs forge nothing: then more must be right.
        if random.below(4) > 0 {
            data[0] &= !15;
        }
        let it = rescue(&data);
        unsound += 1 - it.sound;
        saved.repaired += it.repaired;
        saved.restored += it.restored;
        saved.backed_up += it.backed_up;
    }
    println!("{unsound} of {runs} were damaged: {saved:?}");
    assert!(unsound > runs / 4 && saved.repaired > runs / 4);
    assert!(saved.restored > runs / 4 && saved.backed_up > runs / 10);
}

/// A repair and a verification say of a snapshot of changes which file is the reason that it cannot
/// be loaded.
#[test]
fn a_damaged_or_missing_base_is_named_with_each_snapshot_that_rests_on_it() {
    let _sizes = Sizes::small();
    let lived = Lived::both(0)[0];
    let at = |state: &State| -> Arc<dyn Storage> {
        Arc::new(SimulatedDisk::new(state.clone(), 1, false))
    };
    let root = Path::new(DIRECTORY);
    let snapshots = look(&at(&lived.files), root).unwrap().snapshots().to_vec();
    let change = snapshots.iter().find(|it| it.base.is_some()).unwrap();
    let base = snapshots.iter().find(|it| Some(it.sequence) == change.base).unwrap();
    assert!(base.base.is_none(), "its damage may be that of another");
    let (base, change) = (&base.path, &change.path);
    let name = base.to_str().unwrap();
    let content = lived.files.content(name).unwrap();
    let header = u32::from_le_bytes(content[12..16].try_into().unwrap()) as usize;
    // In the content, in the header, and at its end.
    for (at_byte, what) in
        [(Some(header + 20), "damaged"), (Some(50), "damaged"), (None, "missing")]
    {
        let mut state = lived.files.clone();
        match at_byte {
            Some(at) => {
                let mut content = content.clone();
                content[at] ^= 1;
                state.replace(name, content);
            }
            None => state.remove(name),
        }
        let plan = plan(&at(&state), root).unwrap();
        let told = plan.unreadable().iter().find(|it| it.path == *change).unwrap();
        let expected = format!("it rests on {name}, which is {what}");
        assert_eq!(told.reason, expected);
        let verified = verify_with(at(&state), root, Depth::Deep, &mut |_| {}).unwrap();
        let finding = verified.findings.iter().find(|it| it.path == *change).unwrap();
        assert!(finding.expected.contains(name) && finding.advice.contains(name), "{finding:?}");
        assert!(verified.findings.iter().any(|it| it.path == *base), "{:?}", verified.findings);
    }
}
