//! The service is killed again and again under load. Nothing that was acknowledged is lost, and no
//! request is applied twice.

mod client;

use std::sync::atomic::Ordering;

use client::{Load, Pace, agent, deposit};
use serde_json::Value;

fn get(load: &Load, path: &str) -> Value {
    agent().get(load.url(path)).call().unwrap().body_mut().read_json().unwrap()
}

/// Stops the clients, also when an assertion fails: else the test would wait for them for ever.
struct Stops<'a>(&'a Load);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

#[test]
fn kills_lose_nothing_and_double_nothing() {
    const CLIENTS: u32 = 50;
    const KILLS: u64 = 3;
    let directory = tempfile::tempdir().unwrap();
    // The queue is smaller than the number of clients, so it is full all the time.
    let load = Load::new(directory.path().join("bank.db"), 8);
    let applied: Vec<u64> = std::thread::scope(|scope| {
        let load = &load;
        let stops = Stops(load);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| scope.spawn(move || load.client(number, Pace::Flood)))
            .collect();
        for kill in 1..=KILLS {
            while load.acknowledged.load(Ordering::SeqCst) < kill * 500 {
                if clients.iter().any(|client| client.is_finished()) {
                    break; // its assertion failed, and the join tells it
                }
                std::thread::yield_now();
            }
            load.kill();
        }
        drop(stops);
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    for (number, applied) in applied.iter().enumerate() {
        let account = get(&load, &format!("/accounts/{number}"));
        assert_eq!(account["cents"], *applied, "client {number}");
    }
    let stats = get(&load, "/stats");
    assert_eq!(stats["database"]["sequence"], applied.iter().sum::<u64>());
}

#[test]
fn the_service_tells_what_became_of_a_request() {
    let directory = tempfile::tempdir().unwrap();
    let load = Load::new(directory.path().join("bank.db"), 8192);
    let agent = agent();
    let transfer = |key: &str, cents: u64| {
        let asked = agent.post(load.url("/transfers")).header("x-actor", "ann");
        let asked = asked.header("idempotency-key", key);
        let mut answer =
            asked.send_json(serde_json::json!({ "from": 1, "to": 2, "cents": cents })).unwrap();
        (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
    };
    let deposit = |key| deposit(&agent, &load.url("/accounts/1/deposits"), "ann", key).unwrap();
    let first = deposit("one");
    assert_eq!((first.sequence, first.output.cents, first.repeated), (1, 1, false));
    let (status, told) = transfer("two", 5);
    assert_eq!(
        (status, told.as_str()),
        (422, "the command was rejected: the account lacks 4 cents for this")
    );
    let status_of = |key: &str, actor: &str| -> Value {
        let asked = agent.get(load.url(&format!("/requests/{key}"))).header("x-actor", actor);
        asked.call().unwrap().body_mut().read_json().unwrap()
    };
    let rejected = status_of("two", "ann");
    assert_eq!(rejected["status"], "rejected");
    assert_eq!(rejected["reason"], "the account lacks 4 cents for this");
    let accepted = status_of("one", "ann");
    assert_eq!((&accepted["status"], &accepted["sequence"]), (&"accepted".into(), &1.into()));
    assert_eq!(status_of("one", "bob")["status"], "unknown", "keys belong to actors");
    // The key of a deposit for a transfer, whose answers have the same shape.
    let (status, told) = transfer("one", 1);
    assert_eq!(status, 409, "{told}");
    let without = agent.post(load.url("/transfers"));
    let without = without.send_json(serde_json::json!({ "from": 1, "to": 2, "cents": 1 })).unwrap();
    assert_eq!(without.status().as_u16(), 400);
    assert!(deposit("one").repeated);
    assert_eq!(get(&load, "/accounts/1")["cents"], 1);
}
