//! `diff`: whoever applies what it tells to the first model has the second one.

use std::collections::BTreeMap;
use std::path::Path;

use prevalence::collections::{Map, Vector};
use prevalence::{Context, Database, Model, SnapshotPolicy};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::common::{code, temporary, text, told, tool};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Kind {
    Zebra,
    Ant,
    Mole,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Zoo {
    cages: Map<u64, Vec<String>>,
    names: BTreeMap<String, Option<u32>>,
    kinds: BTreeMap<Kind, BTreeMap<i32, String>>,
    /// In no order.
    loose: Vec<(String, u8)>,
    #[serde(serialize_with = "as_map", deserialize_with = "from_map")]
    scattered: Vec<(String, u64)>,
    list: Vector<u64>,
    pairs: BTreeMap<(u8, u8), u8>,
    pi: f64,
}

/// As a HashMap: in the order in which they are.
fn as_map<S: serde::Serializer>(all: &[(String, u64)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(all.iter().map(|(key, value)| (key, value)))
}

fn from_map<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<(String, u64)>, D::Error> {
    BTreeMap::<String, u64>::deserialize(from).map(|all| all.into_iter().collect())
}

impl Model for Zoo {
    type Event = ();
}

#[derive(Serialize, Deserialize)]
struct Shake(u64);

impl prevalence::Command<Zoo> for Shake {
    type Output = ();
    type Rejection = std::convert::Infallible;

    fn apply(self, zoo: &mut Zoo, _: &mut Context<'_, Zoo>) -> Result<(), Self::Rejection> {
        let mut state = self.0;
        let mut below = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888);
            (state >> 33) % bound
        };
        for _ in 0..60 {
            let (key, value) = (below(300), below(9));
            match below(9) {
                0 => drop(zoo.cages.remove(&key)),
                1 | 2 => drop(zoo.cages.insert(key, vec![format!("\"{value}\""); value as usize])),
                3 => drop(zoo.names.insert(format!("n{key}\n.{value}"), Some(value as u32))),
                4 => drop(zoo.names.pop_first()),
                5 => {
                    let kind = [Kind::Zebra, Kind::Ant, Kind::Mole][key as usize % 3].clone();
                    let inner = zoo.kinds.entry(kind).or_default();
                    inner.insert(value as i32 - 4, key.to_string());
                }
                6 => zoo.loose.push((key.to_string(), value as u8)),
                7 => {
                    zoo.scattered.retain(|(known, _)| *known != key.to_string());
                    let at = below(zoo.scattered.len() as u64 + 1) as usize;
                    zoo.scattered.insert(at, (key.to_string(), value));
                }
                _ => {
                    zoo.list.push_back(key);
                    zoo.pairs.insert((value as u8, key as u8 % 3), 1);
                    zoo.pi += 0.1;
                }
            }
        }
        Ok(())
    }
}

prevalence::commands! { Zoo { 1 => Shake } }

fn open(path: &Path) -> Database<Zoo> {
    let builder = Database::<Zoo>::builder().snapshots(SnapshotPolicy::manual());
    builder.retention(prevalence::Retention::Archive).keep_snapshots(4).open(path).unwrap()
}

fn shown(path: &Path, sequence: u64) -> Value {
    serde_json::from_str(&text(&tool("show", path, &["--at", &sequence.to_string()]))).unwrap()
}

/// Applies one line of `--json`.
fn apply(model: &mut Value, line: &Value) {
    let path: Vec<&str> =
        line["path"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    let (last, way) = path.split_last().expect("the whole model has not changed its kind");
    let mut place = model;
    for step in way {
        place = match place {
            Value::Array(all) => &mut all[step.parse::<usize>().unwrap()],
            other => other.get_mut(*step).unwrap(),
        };
    }
    let (kind, after) = (line["kind"].as_str().unwrap(), line.get("after").cloned());
    match place {
        Value::Object(all) => {
            let before = match after {
                Some(after) => all.insert((*last).to_owned(), after),
                None => all.remove(*last),
            };
            assert_eq!((before.as_ref(), kind == "added"), (line.get("before"), before.is_none()));
        }
        Value::Array(all) => {
            let at: usize = last.parse().unwrap();
            match kind {
                "added" => {
                    assert_eq!(at, all.len());
                    all.push(after.unwrap());
                }
                "changed" => assert_eq!(
                    Some(&std::mem::replace(&mut all[at], after.unwrap())),
                    line.get("before")
                ),
                // Elements at the end go one after the other, from the first of them on.
                _ => all[at] = Value::String("removed".to_owned()),
            }
        }
        other => panic!("{path:?} is in {other}"),
    }
}

/// Removes the elements that were removed.
fn settle(value: &mut Value) {
    match value {
        Value::Array(all) => {
            all.retain(|it| *it != Value::String("removed".to_owned()));
            all.iter_mut().for_each(settle);
        }
        Value::Object(all) => all.values_mut().for_each(settle),
        _ => {}
    }
}

#[test]
fn the_first_model_with_the_differences_is_the_second() {
    let (_directory, path) = temporary();
    let mut sequences = vec![0];
    for seed in 0..8 {
        let zoo = open(&path);
        zoo.execute(Shake(seed)).unwrap();
        zoo.snapshot().unwrap();
        sequences.push(zoo.sequence());
        zoo.close().unwrap();
    }
    let (mut added, mut removed, mut changed) = (0, 0, 0);
    for (first, second) in [(0, 8), (1, 2), (2, 1), (3, 7), (8, 4), (5, 5)] {
        let (first, second): (u64, u64) = (sequences[first], sequences[second]);
        let (a, b) = (first.to_string(), second.to_string());
        let output = tool("diff", &path, &[&a, &b, "--json"]);
        assert_eq!(code(&output), i32::from(first != second), "{}", told(&output));
        let mut model = shown(&path, first);
        for line in text(&output).lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            match line["kind"].as_str().unwrap() {
                "added" => added += 1,
                "removed" => removed += 1,
                _ => changed += 1,
            }
            apply(&mut model, &line);
        }
        settle(&mut model);
        assert_eq!(model, shown(&path, second));
        let part = tool("diff", &path, &[&a, &b, "names", "--json"]);
        let all = text(&output);
        let expected: Vec<_> = all.lines().filter(|it| it.contains("[\"names\"")).collect();
        assert_eq!(text(&part).lines().collect::<Vec<_>>(), expected);
    }
    assert!(added > 50 && removed > 50 && changed > 20, "{added} {removed} {changed}");
}

#[test]
fn a_difference_is_told_for_the_eye_and_what_is_not_there_is_an_error() {
    let (_directory, path) = temporary();
    crate::common::filled(&path);
    let output = tool("diff", &path, &["0", "6"]);
    assert_eq!((code(&output), &*text(&output)), (1, "- cents: 0\n+ cents: 21\n"));
    assert!(told(&output).starts_with("from the model at sequence 0 of "), "{}", told(&output));
    assert_eq!(code(&tool("diff", &path, &["6", "6"])), 0);
    let output = tool("diff", &path, &["5", "6"]);
    assert_eq!((code(&output), &*text(&output)), (2, ""));
    assert!(
        told(&output).contains("no undamaged snapshot of sequence 5; the newest before it is 0")
    );
    assert_eq!(code(&tool("diff", &path, &["0", "2099-01-01", "nowhere"])), 0);
}

/// Without memory, sorted maps are compared nevertheless, and others are refused.
#[test]
fn what_has_no_order_is_refused_beyond_the_memory() {
    let (_directory, path) = temporary();
    let zoo = open(&path);
    for seed in 0..9 {
        zoo.execute(Shake(seed)).unwrap();
        zoo.snapshot().unwrap();
    }
    zoo.close().unwrap();
    let diff = |part, memory| tool("diff", &path, &["7", "9", part, "--json", "--memory", memory]);
    assert_eq!(
        text(&diff("cages", "0")).lines().count(),
        text(&diff("cages", "9")).lines().count()
    );
    assert_eq!(code(&diff("cages", "0")), 1);
    let refused = diff("scattered", "0");
    assert_eq!(code(&refused), 2);
    assert!(told(&refused).contains("the entries of `scattered` cannot be compared within 0 MiB"));
    assert_eq!(code(&diff("scattered", "1")), 1);
}
