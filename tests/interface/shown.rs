//! What a reader without the program's types sees of snapshots, commands and events is what serde
//! makes of them with the types.

use std::collections::BTreeMap;

use prevalence::collections::{Map, Set, Vector};
use prevalence::inspect::Inspection;
use prevalence::laboratory::Sizes;
use prevalence::{
    ArchivedSnapshots, Command, Context, Database, Metadata, Model, Retention, SnapshotPolicy,
};
use serde::{Deserialize, Serialize};

use crate::common::temporary;

#[derive(Clone, Default, Debug, Serialize, Deserialize)]
struct Shop {
    name: String,
    items: Map<u32, Item>,
    by_name: Map<String, Map<i64, bool>>,
    tags: Set<(u8, String)>,
    log: Vector<Option<Event>>,
    plain: BTreeMap<Kind, Vec<u16>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Item {
    price: u64,
    notes: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Kind {
    Small,
    Large,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Event {
    Sold { item: u32, price: u64 },
    Named(String),
    Nothing,
}

impl Model for Shop {
    type Event = Event;
}

#[derive(Debug, Serialize, Deserialize)]
struct Sell {
    item: u32,
    price: u64,
    tags: Vec<(u8, String)>,
}

impl Command<Shop> for Sell {
    type Output = ();
    type Rejection = ();
    fn apply(self, shop: &mut Shop, cx: &mut Context<'_, Shop>) -> Result<(), ()> {
        let Self { item, price, tags } = self;
        let notes = tags.iter().map(|(_, text)| text.clone()).collect();
        shop.items.insert(item, Item { price, notes });
        if item.is_multiple_of(3) {
            shop.items.remove(&(item / 2));
            shop.log.pop_back();
        }
        let mut inner = shop.by_name.get(&format!("n{}", item % 40)).cloned().unwrap_or_default();
        inner.insert(-i64::from(item), item.is_multiple_of(2));
        shop.by_name.insert(format!("n{}", item % 40), inner);
        for tag in tags {
            shop.tags.insert(tag);
        }
        shop.log.push_back(Some(Event::Sold { item, price }));
        shop.log.push_back(None);
        let kind = if price > 500 { Kind::Large } else { Kind::Small };
        shop.plain.entry(kind).or_default().push(item as u16);
        cx.emit(Event::Sold { item, price });
        if item.is_multiple_of(5) {
            cx.emit(Event::Nothing);
            cx.emit(Event::Named("ü".to_owned()));
        }
        Ok(())
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Rename(String);

impl Command<Shop> for Rename {
    type Output = ();
    type Rejection = ();
    fn apply(self, shop: &mut Shop, _: &mut Context<'_, Shop>) -> Result<(), ()> {
        shop.name = self.0;
        Ok(())
    }
}

prevalence::commands! { Shop { 1 => Sell, 2 => Rename } }

/// Numbers without a pattern that would hide a mistake.
fn mixed(number: u64) -> u64 {
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) >> 40
}

fn sell(number: u64) -> Sell {
    let item = (mixed(number) % 700) as u32;
    let tags = (0..number % 3).map(|at| (at as u8, format!("t{}", mixed(number + at) % 50)));
    Sell { item, price: mixed(number) % 1000, tags: tags.collect() }
}

#[test]
fn every_snapshot_whole_or_of_changes_is_shown_as_it_is() {
    let (_directory, path) = temporary();
    let _sizes = Sizes::small();
    let shop = Database::<Shop>::builder()
        .snapshots(SnapshotPolicy::manual())
        .retention(Retention::Archive)
        .archive_snapshots(ArchivedSnapshots::All)
        .open(&path)
        .unwrap();
    let mut number = 0;
    let mut expected = BTreeMap::from([(0, serde_json::to_string(&*shop.view()).unwrap())]);
    for commands in [400, 1, 7, 30, 2, 300, 5, 5, 1] {
        for _ in 0..commands {
            number += 1;
            shop.execute(sell(number)).unwrap();
        }
        shop.execute(Rename(format!("\"{number}\""))).unwrap();
        let sequence = shop.snapshot().unwrap().sequence;
        expected.insert(sequence, serde_json::to_string(&*shop.view()).unwrap());
    }
    // Beside the running database, and after it.
    for _ in 0..2 {
        let look = Inspection::open(&path).unwrap();
        let mut changes = 0;
        for snapshot in look.snapshots() {
            let mut json = Vec::new();
            assert!(look.write_model(snapshot, &[], &mut json).unwrap());
            let json = String::from_utf8(json).unwrap();
            assert!(json == expected[&snapshot.sequence], "snapshot {}", snapshot.sequence);
            changes += usize::from(snapshot.base.is_some());
            check_parts(&look, snapshot, &json);
        }
        assert_eq!(look.snapshots().len(), expected.len());
        assert!(changes > 3, "only {changes} hold changes");
        shop.clone().close().ok();
    }
}

/// Each part of the model, by its path.
fn check_parts(look: &Inspection, snapshot: &prevalence::inspect::SnapshotFile, whole: &str) {
    let whole: serde_json::Value = serde_json::from_str(whole).unwrap();
    let part = |path: &[&str]| {
        let path: Vec<String> = path.iter().map(|&step| step.to_owned()).collect();
        let mut json = Vec::new();
        let found = look.write_model(snapshot, &path, &mut json).unwrap();
        assert_eq!(found, !json.is_empty());
        let json = String::from_utf8(json).unwrap();
        found.then(|| serde_json::from_str::<serde_json::Value>(&json).expect(&json))
    };
    assert_eq!(part(&["name"]).as_ref(), whole.get("name"));
    for (key, item) in whole["items"].as_object().unwrap().iter().step_by(29) {
        assert_eq!(part(&["items", key]).as_ref(), Some(item));
        assert_eq!(part(&["items", key, "price"]).as_ref(), item.get("price"));
        assert_eq!(part(&["items", key, "notes", "1"]).as_ref(), item["notes"].get(1));
    }
    for (name, inner) in whole["by_name"].as_object().unwrap().iter().step_by(7) {
        assert_eq!(part(&["by_name", name]).as_ref(), Some(inner));
    }
    for (at, event) in whole["log"].as_array().unwrap().iter().enumerate().step_by(83) {
        let at = at.to_string();
        assert_eq!(part(&["log", &at]).as_ref(), Some(event));
        assert_eq!(part(&["log", &at, "Sold", "item"]), event["Sold"].get("item").cloned());
        assert_eq!(part(&["log", &at, "Named"]), None);
    }
    assert_eq!(part(&["plain", "Large", "0"]), whole["plain"]["Large"].get(0).cloned());
    assert_eq!(part(&["tags", "3", "1"]), whole["tags"].get(3).map(|tag| tag[1].clone()));
    for nowhere in [&["nowhere"][..], &["items", "x"], &["name", "0"], &["log", "-1"]] {
        assert_eq!(part(nowhere), None);
    }
}

#[test]
fn every_command_and_event_is_shown_as_it_is() {
    let (_directory, path) = temporary();
    let shop = Database::<Shop>::builder()
        .snapshots(SnapshotPolicy::manual())
        .retention(Retention::Archive)
        .segment_bytes(64 << 10)
        .open(&path)
        .unwrap();
    for number in 0..3_000 {
        let metadata = Metadata { actor: format!("a{}", number % 7), ..Metadata::default() };
        shop.execute_with(&metadata, sell(number)).unwrap();
        if number % 1_000 == 999 {
            shop.execute(Rename(number.to_string())).unwrap();
            shop.snapshot().unwrap();
        }
    }
    let history = shop.history();
    let mut expected = history.records(..).unwrap().map(Result::unwrap);
    let look = Inspection::open(&path).unwrap();
    assert!(!look.archives().is_empty());
    let mut types = look.types();
    for record in look.records(..).unwrap() {
        let (record, expected) = (record.unwrap(), expected.next().unwrap());
        assert_eq!(record.sequence, expected.sequence());
        assert_eq!(types.command_json(&record).unwrap(), expected.command_json().unwrap());
        let events = expected.events().unwrap().unwrap();
        let events: Vec<_> = events.iter().map(|it| serde_json::to_string(it).unwrap()).collect();
        assert_eq!(types.events_json(&record).unwrap(), Some(events));
    }
    assert!(expected.next().is_none());
}
