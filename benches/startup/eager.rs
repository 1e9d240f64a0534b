//! Measures an open that has the whole model in memory, against decoding the same entries into
//! vectors.

use std::path::Path;
use std::time::{Duration, Instant};

use prevalence::{Database, SnapshotPolicy};

use crate::contents::{Contents, Fat};
use crate::support::comparison::verdict;
use crate::support::directory;
use crate::support::run::median;
use crate::support::value::Value;

const ROUNDS: usize = 7;
const CORES: u64 = 2;
const AT_MOST: f64 = 1.1;

type Entries = Vec<(u64, Value)>;

pub fn measure(entries: u64) {
    println!("\n== eager: open {entries} entries of 100 bytes, everything touched");
    let directory = directory();
    let builder = Database::<Fat>::builder().snapshots(SnapshotPolicy::manual());
    let database = builder.initial(Fat::of(entries)).open(directory.path()).expect("open");
    database.close().expect("close");
    let encoded: Vec<Vec<u8>> = (0..CORES).map(|core| half(core, entries)).collect();
    let (mut opens, mut decodes) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        decodes.push(decode(&encoded, entries));
        opens.push(open(directory.path(), entries));
    }
    let ratios = opens.iter().zip(&decodes).map(|(open, decode)| open / decode);
    let ratio = median(ratios);
    let ms = |times: Vec<f64>| Duration::from_secs_f64(median(times));
    println!("open {:.1?}, decoding into vectors on {CORES} cores {:.1?}", ms(opens), ms(decodes));
    println!(
        "ratio  open {ratio:.2} x decoding, target at most {AT_MOST}: {}",
        verdict(ratio <= AT_MOST)
    );
}

/// Encodes the entries of one core.
fn half(core: u64, entries: u64) -> Vec<u8> {
    let (begin, end) = (core * entries / CORES, (core + 1) * entries / CORES);
    let entries: Entries = (begin..end).map(|key| (key, Value::random(key))).collect();
    bincode::serde::encode_to_vec(entries, bincode::config::standard()).expect("encodes")
}

fn decode(encoded: &[Vec<u8>], entries: u64) -> f64 {
    let began = Instant::now();
    let decoded: Vec<Entries> = std::thread::scope(|scope| {
        let decode = |bytes: &[u8]| {
            let config = bincode::config::standard();
            let (entries, _): (Entries, _) =
                bincode::serde::decode_from_slice(bytes, config).expect("decodes");
            entries
        };
        let threads: Vec<_> =
            encoded.iter().map(|bytes| scope.spawn(move || decode(bytes))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let touched: u64 = decoded.iter().flatten().map(|(_, value)| value.first()).sum();
    let took = began.elapsed().as_secs_f64();
    let found: usize = decoded.iter().map(Vec::len).sum();
    assert!(touched > 0 && found as u64 == entries);
    took
}

fn open(path: &Path, entries: u64) -> f64 {
    let began = Instant::now();
    let database = Database::<Fat>::open(path).expect("open");
    let touched: u64 = database.query(|fat| fat.0.values().map(Value::first).sum());
    let took = began.elapsed().as_secs_f64();
    assert!(touched > 0 && database.query(|fat| fat.0.len()) as u64 == entries);
    database.close().expect("close");
    took
}
