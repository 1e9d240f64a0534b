//! Commits whose outcome the client cannot know.

use std::sync::mpsc::channel;
use std::time::Duration;

use prevalence_sinks::SinkError;

use super::Fed;
use super::cluster::{Cluster, until};
use super::proxy::{Fate, Proxy};
use crate::common::{Manner, Other, behind, expected, feed, open, pay, source};

fn by_proxy(proxy: &Proxy, name: &str) -> Fed {
    Fed::by(format!("host=127.0.0.1 port={} user=postgres dbname={name}", proxy.port))
}

#[test]
fn the_position_tells_what_became_of_a_lost_commit() {
    let Some(cluster) = Cluster::start() else { return };
    let directory = tempfile::tempdir().unwrap();
    let till = open(directory.path());
    pay(&till, 12);
    let proxy = Proxy::new(cluster.directory());
    for (name, fate, stored) in [("never", Fate::Lost, 4), ("unheard", Fate::AnswerLost, 8)] {
        let fed = Fed::new(&cluster, name);
        let mut sink = by_proxy(&proxy, name).sink(Manner::Good);
        assert_eq!(sink.position(&source()).unwrap(), 0);
        let all = behind(&till, 0);
        sink.apply_batch(&all[..4]).unwrap();
        proxy.next_commit(fate);
        let error = sink.apply_batch(&all[4..8]).unwrap_err();
        assert!(matches!(error, SinkError::Commit { last: 8, .. }), "{name}: {error}");
        assert_eq!(sink.position(&source()).unwrap(), stored, "{name}");
        assert_eq!(fed.payments(), expected(&till, stored), "{name}");
        assert_eq!(feed(&till, &mut sink, 3), 12);
        assert_eq!(fed.payments(), expected(&till, 12), "{name}");
    }
}

/// The client is gone, and the server has the commit still before it. Who asked for the position
/// now, and did not wait, would hear the old one.
#[test]
fn the_position_waits_for_a_commit_on_its_way() {
    let Some(cluster) = Cluster::start() else { return };
    let directory = tempfile::tempdir().unwrap();
    let till = open(directory.path());
    pay(&till, 6);
    let proxy = Proxy::new(cluster.directory());
    let fed = Fed::new(&cluster, "late");
    let mut sink = by_proxy(&proxy, "late").sink(Manner::Good);
    assert_eq!(sink.position(&source()).unwrap(), 0);
    let (now, told) = channel();
    proxy.next_commit(Fate::Late(told));
    let error = sink.apply_batch(&behind(&till, 0)).unwrap_err();
    assert!(matches!(error, SinkError::Commit { last: 6, .. }), "{error}");
    let position = std::thread::scope(|scope| {
        let asked = scope.spawn(|| sink.position(&source()));
        let mut watcher = fed.connect();
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
        until("somebody waits for a lock", || {
            let waits = watcher.query_one(waiting, &[]).unwrap().get::<_, i64>(0);
            waits > 0 || asked.is_finished()
        });
        now.send(()).unwrap();
        asked.join().unwrap()
    });
    assert_eq!(position.unwrap(), 6);
    assert_eq!(feed(&till, &mut sink, 3), 6);
    assert_eq!(fed.payments(), expected(&till, 6));
}

/// The same, but the commit never comes: the wait has an end, and so has what the client left open.
#[test]
fn the_position_does_not_wait_without_end() {
    let Some(cluster) = Cluster::start() else { return };
    let directory = tempfile::tempdir().unwrap();
    let till = open(directory.path());
    pay(&till, 6);
    let proxy = Proxy::new(cluster.directory());
    let fed = Fed::new(&cluster, "held");
    let mut patient = by_proxy(&proxy, "held").sink(Manner::Good);
    assert_eq!(patient.position(&source()).unwrap(), 0);
    let timeout = Duration::from_secs(1);
    let mut hasty = Fed { timeout, ..by_proxy(&proxy, "held") }.sink(Manner::Good);
    // On a busy machine anything may take so long.
    until("a position", || hasty.position(&source()).is_ok());
    let mut holder = fed.connect();
    let mut held = holder.transaction().unwrap();
    held.execute("SELECT * FROM prevalence_positions FOR UPDATE", &[]).unwrap();
    for error in
        [hasty.apply_batch(&behind(&till, 0)).unwrap_err(), hasty.position(&source()).unwrap_err()]
    {
        assert!(error.to_string().contains("timeout"), "{error}");
    }
    held.rollback().unwrap();

    // Nobody ever says that the commit may go on, and `now` keeps the proxy from giving up.
    until("a position", || hasty.position(&source()).is_ok());
    let (now, told) = channel();
    proxy.next_commit(Fate::Late(told));
    assert!(hasty.apply_batch(&behind(&till, 0)).is_err());
    // The server ends the transaction of a client that is gone.
    assert_eq!(patient.position(&source()).unwrap(), 0);
    patient.apply_batch(&behind(&till, 0)).unwrap();
    drop(now);
    assert_eq!(patient.position(&source()).unwrap(), 6);
    assert_eq!(fed.payments(), expected(&till, 6));
}
