//! 50 HTTP clients for a minute, while the service is killed ten times. At first they send a
//! thousand requests a second, one after the other. Then they send as many, but all 50 at the same
//! moment to a queue that has room for 8. At last they send as fast as they can; then the cores,
//! which clients and service share, are never free. Prints the rate, the latencies beside those of
//! the disk, and the longest poll that tokio has seen; and before each run the same of clients that
//! only read.
//!
//! ```sh
//! cargo bench --bench load
//! ```

#[path = "../tests/client/mod.rs"]
mod client;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use client::{Load, Pace, agent};

const CLIENTS: u32 = 50;
const KILLS: u32 = 10;
const PACE: Duration = Duration::from_millis(50);
const QUEUE: usize = 8192;
const RUNS: [(usize, Pace); 3] =
    [(QUEUE, Pace::Spread(PACE)), (8, Pace::Together(PACE)), (8, Pace::Flood)];

fn main() {
    let is_short = !std::env::args().any(|argument| argument == "--bench");
    let time = Duration::from_secs(if is_short { 4 } else { 60 });
    for (queue, pace) in RUNS {
        only_read(pace, time / 3);
        run(queue, pace, time, is_short);
    }
}

/// The floor: the same clients, and no command.
fn only_read(pace: Pace, time: Duration) {
    let directory = tempfile::tempdir_in(".").expect("this directory can be written");
    let load = Load::new(directory.path().join("bank.db"), QUEUE);
    std::thread::scope(|scope| {
        let load = &load;
        (0..CLIENTS).for_each(|number| drop(scope.spawn(move || load.reader(number, pace))));
        std::thread::sleep(time);
        load.stop();
    });
    let mut latencies_us =
        std::mem::take(&mut *load.latencies_us.lock().expect("all clients are done"));
    let (p50, p99) = (at(&mut latencies_us, 0.5), at(&mut latencies_us, 0.99));
    let longest_poll_us = poll_us(&load);
    println!(
        "only reads: pace={pace:?} p50={p50} us p99={p99} us longest poll < {longest_poll_us} us"
    );
}

fn run(queue: usize, pace: Pace, time: Duration, is_short: bool) {
    let directory = tempfile::tempdir_in(".").expect("the disk of this directory is measured");
    let disk_before = disk(directory.path(), is_short);
    let load = Load::new(directory.path().join("bank.db"), queue);
    let mut longest_poll_us = 0;
    let began = Instant::now();
    let applied: u64 = std::thread::scope(|scope| {
        let load = &load;
        let clients: Vec<_> =
            (0..CLIENTS).map(|number| scope.spawn(move || load.client(number, pace))).collect();
        for _ in 0..KILLS {
            std::thread::sleep(time / (KILLS + 1));
            longest_poll_us = longest_poll_us.max(poll_us(load));
            load.kill();
        }
        std::thread::sleep(time / (KILLS + 1));
        longest_poll_us = longest_poll_us.max(poll_us(load));
        load.stop();
        clients.into_iter().map(|client| client.join().expect("each answer was right")).sum()
    });
    let took = began.elapsed();
    let disk_after = disk(directory.path(), is_short);
    let mut latencies_us =
        std::mem::take(&mut *load.latencies_us.lock().expect("all clients are done"));
    let (p50, p99) = (at(&mut latencies_us, 0.5), at(&mut latencies_us, 0.99));
    let disk_p99 = disk_before.1.max(disk_after.1);
    println!(
        "queue={queue} pace={pace:?} clients={CLIENTS} kills={KILLS} seconds={:.1}",
        took.as_secs_f64()
    );
    println!("acknowledged={applied} rate={:.0}/s", applied as f64 / took.as_secs_f64());
    println!("answered again={}", load.repeated.load(Ordering::SeqCst));
    println!("lost=0 twice=0 (each client checks each answer)");
    println!("latency p50={p50} us p99={p99} us");
    println!("disk p50={} us p99={} us before", disk_before.0, disk_before.1);
    println!("disk p50={} us p99={} us after", disk_after.0, disk_after.1);
    println!("p99 / disk p99 = {:.2}", p99 as f64 / disk_p99 as f64);
    println!("longest poll < {longest_poll_us} us (0: tokio was built without its metrics)");
}

fn poll_us(load: &Load) -> u64 {
    let mut answer = agent().get(load.url("/stats")).call().expect("the service runs");
    let stats: serde_json::Value = answer.body_mut().read_json().expect("its stats are JSON");
    stats["longest_poll_us"].as_u64().expect("the service tells it")
}

/// Writes and syncs 4 KiB again and again, as fast as it goes. Returns p50 and p99 in microseconds.
fn disk(directory: &Path, is_short: bool) -> (u64, u64) {
    let mut file = File::create(directory.join("disk")).expect("the directory can be written");
    let mut times_us: Vec<u64> = (0..if is_short { 100 } else { 2000 })
        .map(|_| {
            let began = Instant::now();
            file.write_all(&[7; 4096]).and_then(|()| file.sync_data()).expect("the disk works");
            u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX)
        })
        .collect();
    (at(&mut times_us, 0.5), at(&mut times_us, 0.99))
}

fn at(times_us: &mut [u64], part: f64) -> u64 {
    times_us.sort_unstable();
    let at = (times_us.len() as f64 * part) as usize;
    times_us.get(at).copied().unwrap_or_default()
}
