//! Measures what it costs to store events and to be followed, and how fast a follower gets them.
//! Prints its own figures.
//!
//! `cargo bench --bench followers -- WORD…` runs the parts with these words in their names
//! (`storing`, `delivery`, `history`); `-- --test` runs small forms of all of them.

#[path = "support/mod.rs"]
mod support;

use std::collections::VecDeque;
use std::hint::black_box;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use prevalence::{
    Command, Context, Database, Events, FollowerError, FollowerOptions, From, Model, Pending,
    Projection, Recorded, Retention, SnapshotPolicy,
};
use serde::{Deserialize, Serialize};
use support::comparison::verdict;
use support::run::median;
use support::{directory, is_short, is_wanted, resident_bytes};

const IN_FLIGHT: usize = 4096;
const ROUNDS: usize = 7;
const LONG: Duration = Duration::from_secs(600);

/// An event of 32 bytes.
type Fact = [u8; 32];

#[derive(Clone, Default, Serialize, Deserialize)]
struct Counter(u64);

impl Model for Counter {
    type Event = Fact;
}

#[derive(Serialize, Deserialize)]
struct Count;

impl Command<Counter> for Count {
    type Output = u64;
    type Rejection = std::convert::Infallible;

    fn apply(
        self,
        counter: &mut Counter,
        cx: &mut Context<'_, Counter>,
    ) -> Result<u64, Self::Rejection> {
        counter.0 += 1;
        cx.emit([7; 32]);
        Ok(counter.0)
    }
}

prevalence::commands! { Counter { 1 => Count } }

fn open(path: &Path, events: Events) -> Database<Counter> {
    Database::<Counter>::builder()
        .events(events)
        .retention(Retention::Archive)
        .snapshots(SnapshotPolicy::manual())
        .open(path)
        .expect("open")
}

/// Executes so many commands, with some thousand in flight. Returns how many a second.
fn run(database: &Database<Counter>, commands: u64) -> f64 {
    let began = Instant::now();
    let mut in_flight: VecDeque<Pending<_, _>> = VecDeque::with_capacity(IN_FLIGHT);
    for _ in 0..commands {
        if in_flight.len() == IN_FLIGHT {
            in_flight.pop_front().expect("not empty").wait().expect("accepted");
        }
        in_flight.push_back(database.submit(Count).expect("queued"));
    }
    in_flight.into_iter().for_each(|pending| assert!(pending.wait().is_ok()));
    commands as f64 / began.elapsed().as_secs_f64()
}

/// A read model: how many events there were, and their sum.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Summed {
    events: u64,
    sum: u64,
}

impl Projection<Counter> for Summed {
    fn apply(&mut self, recorded: &Recorded<Counter>) -> Result<(), FollowerError> {
        self.events += recorded.events.len() as u64;
        self.sum += recorded.events.iter().map(|event| u64::from(event[0])).sum::<u64>();
        Ok(())
    }
}

/// The rate of commands without stored events, with them, with a live subscriber, and with a
/// projection as well.
fn storing(commands: u64) {
    println!("\n== storing: {commands} commands with an event of 32 bytes, medians of {ROUNDS}");
    let mut rates = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        let rate = |events, is_followed: bool, is_projected: bool| {
            let directory = directory();
            let database = open(directory.path(), events);
            let following = is_followed.then(|| {
                let subscription = database.subscribe(From::Now).expect("it is open");
                std::thread::spawn(move || subscription.map(Result::unwrap).count())
            });
            let options = FollowerOptions::new();
            let start = || database.projection("summed", Summed::default(), options);
            let projection = is_projected.then(start).transpose().expect("it is open");
            let rate = run(&database, commands);
            if let Some(projection) = projection {
                projection.wait_for(commands, LONG).expect("it catches up");
                assert_eq!(projection.query(|summed| summed.events), commands);
            }
            database.close().expect("close");
            if let Some(following) = following {
                assert_eq!(following.join().expect("no panic") as u64, commands);
            }
            rate
        };
        rates[0].push(rate(Events::Off, false, false));
        rates[1].push(rate(Events::Stored, false, false));
        rates[2].push(rate(Events::Stored, true, false));
        rates[3].push(rate(Events::Stored, true, true));
    }
    let [off, stored, followed, projected] = rates;
    let ratio = |some: &[f64], all: &[f64]| median(some.iter().zip(all).map(|(s, a)| s / a));
    let (kept, live) = (ratio(&stored, &off), ratio(&followed, &stored));
    let both = ratio(&projected, &stored);
    for (name, rates) in [
        ("without", off),
        ("stored", stored),
        ("and one subscriber", followed),
        ("and one projection", projected),
    ] {
        println!("{name:>20} {:>12.0} commands a second", median(rates));
    }
    println!("ratio  stored {kept:.2} x without, target at least 0.85: {}", verdict(kept >= 0.85));
    println!("ratio  one subscriber {live:.2} x");
    println!("ratio  and a projection {both:.2} x, target at least 0.9: {}", verdict(both >= 0.9));
}

/// The time from the answer of a lone caller to the delivery of its event on another thread.
fn delivery(commands: usize) {
    println!("\n== delivery: {commands} commands of one caller");
    let directory = directory();
    let database = open(directory.path(), Events::Stored);
    let mut subscription = database.subscribe(From::Now).expect("it is open");
    let (sender, receiver) = channel();
    let following = std::thread::spawn(move || {
        for _ in 0..commands {
            black_box(subscription.next().expect("it is open").expect("sound"));
            sender.send(Instant::now()).expect("somebody receives");
        }
    });
    let mut after = Vec::new();
    for _ in 0..commands {
        database.execute(Count).expect("accepted");
        let answered = Instant::now();
        let delivered = receiver.recv().expect("delivered");
        after.push(delivered.saturating_duration_since(answered));
    }
    following.join().expect("no panic");
    after.sort_unstable();
    let at = |per_mille: usize| after[(after.len() - 1) * per_mille / 1000];
    let half = at(500);
    println!("after the answer: p50 {half:.1?}, p99 {:.1?}, p99.9 {:.1?}", at(990), at(999));
    let most = Duration::from_micros(30);
    println!("p50, target at most {most:?}: {}", verdict(half <= most));
}

/// Reading archived events, from the beginning and from the middle, and a subscriber that sleeps.
fn history(commands: u64) {
    println!("\n== history: {commands} archived commands");
    let directory = directory();
    let database = open(directory.path(), Events::Stored);
    let sleeping = database.subscribe(From::Now).expect("it is open");
    run(&database, 10_000);
    let before = resident_bytes();
    run(&database, commands - 10_000);
    let grown = resident_bytes().saturating_sub(before) >> 20;
    drop(sleeping);
    println!(
        "a subscriber slept meanwhile: {grown} MiB more, target at most 16: {}",
        verdict(grown <= 16)
    );
    database.snapshot().expect("snapshot");
    database.close().expect("close");
    let database = open(directory.path(), Events::Stored);
    let mut rates = Vec::new();
    for _ in 0..3 {
        let began = Instant::now();
        let mut subscription = database.subscribe(From::Beginning).expect("all is stored");
        let mut events = 0;
        while let Some(recorded) = subscription.try_next().expect("sound") {
            events += recorded.events.len() as u64;
        }
        assert_eq!(events, commands);
        rates.push(commands as f64 / began.elapsed().as_secs_f64());
    }
    let rate = median(rates) / 1e6;
    println!(
        "catching up: {rate:.2} million events a second, target at least 5: {}",
        verdict(rate >= 5.0)
    );
    let bare = bare_decode() / 1e6;
    let ratio = rate / bare;
    println!(
        "ratio  {ratio:.2} x a bare decode ({bare:.1}), target at least 0.7: {}",
        verdict(ratio >= 0.7)
    );
    let times = (1..6).map(|part| {
        let began = Instant::now();
        let mut subscription =
            database.subscribe(From::After(commands * part / 6)).expect("all is stored");
        let first: Recorded<Counter> = subscription.next().expect("there is one").expect("sound");
        assert_eq!(first.sequence, commands * part / 6 + 1);
        began.elapsed().as_secs_f64()
    });
    let first = Duration::from_secs_f64(median(times));
    let most = Duration::from_millis(5);
    println!(
        "from the middle, first event after {first:.1?}, target at most {most:?}: {}",
        verdict(first <= most)
    );
}

/// Decodes events from memory, and returns how many a second.
fn bare_decode() -> f64 {
    let config = bincode::config::standard();
    let one = bincode::serde::encode_to_vec([7_u8; 32], config).expect("encodes");
    let bytes: Vec<u8> = one.iter().copied().cycle().take(one.len() * 1_000_000).collect();
    let began = Instant::now();
    for event in bytes.chunks_exact(one.len()) {
        let decoded = bincode::serde::decode_from_slice::<Fact, _>(event, config);
        black_box(vec![decoded.expect("decodes").0]);
    }
    1e6 / began.elapsed().as_secs_f64()
}

fn main() {
    let short = is_short();
    if is_wanted("storing") {
        storing(if short { 20_000 } else { 2_000_000 });
    }
    if is_wanted("delivery") {
        delivery(if short { 200 } else { 20_000 });
    }
    if is_wanted("history") {
        history(if short { 50_000 } else { 10_000_000 });
    }
}
