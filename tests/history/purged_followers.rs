//! A purge reaches what durable followers keep.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prevalence::collections::Map;
use prevalence::{
    Error, FollowerError, FollowerOptions, From, OnFailure, Projection, Reaction, Reactor,
    Recorded, purge,
};
use serde::{Deserialize, Serialize};

use super::purged::{Arrive, House, SECRET, builder, erase, party};
use crate::common::{content, temporary};

const LONG: Duration = Duration::from_secs(120);

/// All names, and where they came.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Names(Map<u64, String>);

fn arrived(recorded: &Recorded<House>) -> Option<Arrive> {
    recorded.command.command::<Arrive>().map(Result::unwrap)
}

impl Projection<House> for Names {
    fn apply(&mut self, recorded: &Recorded<House>) -> Result<(), FollowerError> {
        if let Some(arrive) = arrived(recorded) {
            self.0.insert(recorded.sequence, arrive.name);
        }
        Ok(())
    }
}

/// Fails at the secret, for a while.
struct Porter(Arc<AtomicBool>);

impl Reactor<House> for Porter {
    fn react(
        &mut self,
        recorded: &Recorded<House>,
        _: &mut Reaction<'_, House>,
    ) -> Result<(), FollowerError> {
        let fails = arrived(recorded).is_some_and(|arrive| arrive.name == SECRET);
        if fails && self.0.load(Ordering::SeqCst) {
            return Err("nobody of that name is expected".into());
        }
        Ok(())
    }
}

fn options() -> FollowerOptions {
    let options = FollowerOptions::new().begin(From::Beginning).attempts(1);
    options.on_failure(OnFailure::DeadLetter)
}

#[test]
fn projections_are_built_anew_and_dead_letters_are_in_the_way() {
    let (_directory, path) = temporary();
    let house = party(&path);
    let last = house.sequence();
    let names = house.projection("names", Names::default(), options()).unwrap();
    let fails = Arc::new(AtomicBool::new(true));
    let porter = house.reactor("porter", Porter(fails.clone()), options()).unwrap();
    names.wait_for(last, LONG).unwrap();
    porter.wait_for(last, LONG).unwrap();
    assert!(names.query(|names| names.0.values().any(|name| name == SECRET)));
    assert_eq!(porter.dead_letters().unwrap().len(), 2);
    drop((names, porter, house));

    let before = content(&path);
    let refused = purge::<House>(&path, erase);
    assert!(matches!(refused, Err(Error::FollowerRefuses { .. })), "{refused:?}");
    assert!(content(&path) == before, "nothing was changed");

    let house = builder().open(&path).unwrap();
    fails.store(false, Ordering::SeqCst);
    let porter = house.reactor("porter", Porter(fails), options()).unwrap();
    for letter in porter.dead_letters().unwrap() {
        porter.replay(letter.sequence).unwrap();
    }
    drop((porter, house));
    let report = purge::<House>(&path, erase).unwrap();
    assert_eq!((report.redacted, report.projections_reset), (2, 1));
    let is_checkpoint = |name: &std::path::PathBuf| name.to_string_lossy().contains(".checkpoint");
    assert!(!content(&path).keys().any(is_checkpoint));

    let house = builder().open(&path).unwrap();
    let names = house.projection("names", Names::default(), options()).unwrap();
    assert_eq!(names.status().unwrap().damage, None);
    names.wait_for(last, LONG).unwrap();
    let found = names.query(|names| names.0.values().cloned().collect::<Vec<_>>());
    assert!(found.len() > 3 && !found.iter().any(|name| name == SECRET), "{found:?}");
}

/// Nobody can say what a damaged file holds, so a purge leaves nothing of it.
#[test]
fn a_damaged_projection_is_purged_as_a_whole() {
    let (_directory, path) = temporary();
    let house = party(&path);
    let last = house.sequence();
    let names = house.projection("names", Names::default(), options()).unwrap();
    names.wait_for(last, LONG).unwrap();
    drop((names, house));
    let own = path.join("projections/names");
    let mut standing = std::fs::read(own.join("STANDING")).unwrap();
    standing[40] ^= 1;
    std::fs::write(own.join("STANDING"), standing).unwrap();
    assert_eq!(purge::<House>(&path, erase).unwrap().projections_reset, 1);
    assert_eq!(std::fs::read_dir(&own).unwrap().count(), 0);
    let house = builder().open(&path).unwrap();
    let names = house.projection("names", Names::default(), options()).unwrap();
    names.wait_for(last, LONG).unwrap();
    assert!(!names.query(|names| names.0.values().any(|name| name == SECRET)));
}
