//! What the `metrics` recorder of a program is told.

use std::collections::BTreeMap;

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use prevalence::Database;

use crate::common::{Fail, Failure, Ledger, Mix, quiet_panics, temporary};

/// Returns what was told, by name, with the label `database`.
fn told(recorder: &DebuggingRecorder, report: impl FnOnce()) -> BTreeMap<String, (String, f64)> {
    metrics::with_local_recorder(recorder, report);
    let snapshot = recorder.snapshotter().snapshot().into_vec();
    let told = snapshot.into_iter().map(|(key, unit, description, value)| {
        let key = key.key();
        let label = key.labels().next().unwrap();
        assert_eq!(label.key(), "database");
        assert!(unit.is_some() && description.is_some(), "{key}");
        let value = match value {
            DebugValue::Counter(value) => value as f64,
            DebugValue::Gauge(value) => value.into_inner(),
            DebugValue::Histogram(_) => panic!("{key}"),
        };
        (key.name().to_owned(), (label.value().to_owned(), value))
    });
    told.collect()
}

#[test]
fn all_figures_are_told_with_the_name_of_the_database() {
    quiet_panics();
    let (_directory, path) = temporary();
    let database = Database::<Ledger>::open(&path).unwrap();
    for value in 0..7 {
        database.execute(Mix(value)).unwrap();
    }
    database.execute(Fail { account: 1, how: Failure::Reject }).unwrap_err();
    database.execute(Fail { account: 1, how: Failure::Panic }).unwrap_err();
    let recorder = DebuggingRecorder::new();
    let figures = told(&recorder, || database.report_metrics("books"));
    let stats = database.stats();
    let expected = serde_json::to_value(&stats).unwrap();
    for (field, value) in expected.as_object().unwrap() {
        let is_time = value.is_object(); // as serde writes a `Duration`
        let name = format!("prevalence_{field}{}", if is_time { "_seconds" } else { "" });
        let (database, told) = &figures[&name];
        assert_eq!(database, "books");
        if let Some(value) = value.as_u64() {
            assert_eq!(*told, value as f64, "{name}");
        }
    }
    assert_eq!(figures.len(), expected.as_object().unwrap().len() + 1);
    assert_eq!(figures["prevalence_accepted"].1, 7.0);
    assert_eq!(figures["prevalence_rejected"].1, 1.0);
    assert_eq!(figures["prevalence_healthy"].1, 1.0);
    let other = database.clone();
    database.close().unwrap();
    let figures = told(&recorder, || other.report_metrics("books"));
    assert_eq!(figures["prevalence_healthy"].1, 0.0);
}
