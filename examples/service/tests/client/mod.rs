//! The service as a process that can be killed, and clients that try again until they are told.
//! Each client has an account of its own and deposits one cent at a time. So each answer says how
//! many of its deposits were applied, and the client knows how many there must be.

#![allow(dead_code, reason = "a test and a bench share this, and each leaves something out")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Deserialize;

/// The service. It is killed when this is dropped.
pub struct Service {
    child: Child,
    address: String,
}

impl Service {
    pub fn start(data: &Path, queue: usize) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_service"))
            .args(["--listen", "127.0.0.1:0", "--queue", &queue.to_string(), "--data"])
            .arg(data)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the service is built with its tests");
        let mut line = String::new();
        let told = child.stdout.take().expect("it is piped");
        BufReader::new(told).read_line(&mut line).expect("it says where it listens");
        let address = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}"));
        let address = address.trim().to_owned();
        Self { child, address }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[derive(Debug, Deserialize)]
pub struct Answer {
    pub sequence: u64,
    pub output: Balance,
    pub repeated: bool,
}

#[derive(Debug, Deserialize)]
pub struct Balance {
    pub cents: u64,
}

pub fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false);
    // A service that is killed in the middle of an answer must not hold its client.
    config.timeout_global(Some(Duration::from_secs(10))).build().into()
}

/// Deposits a cent. `None` says that there was no answer: nobody knows what became of it.
pub fn deposit(agent: &ureq::Agent, url: &str, actor: &str, key: &str) -> Option<Answer> {
    let asked = agent.post(url).header("x-actor", actor).header("idempotency-key", key);
    let mut response = asked.send_json(serde_json::json!({ "cents": 1 })).ok()?;
    match response.status().as_u16() {
        200 => response.body_mut().read_json().ok(),
        503 => None,
        status => panic!("{status}: {:?}", response.body_mut().read_to_string()),
    }
}

/// When clients send.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// As soon as they have their answer.
    Flood,
    /// Once in such a time, all at the same moment.
    Together(Duration),
    /// Once in such a time, one after the other.
    Spread(Duration),
}

impl Pace {
    /// Returns for how long a client waits before it sends again.
    fn wait(self, number: u32, now: Duration) -> Duration {
        let (pace, offset) = match self {
            Self::Flood => return Duration::ZERO,
            Self::Together(pace) => (pace, Duration::ZERO),
            Self::Spread(pace) => (pace, pace * (number % 50) / 50),
        };
        let passed = now.saturating_sub(offset).as_nanos() / pace.as_nanos().max(1);
        let next = pace.saturating_mul(u32::try_from(passed + 1).unwrap_or(u32::MAX));
        (next + offset).saturating_sub(now)
    }
}

/// What the clients share.
pub struct Load {
    pub data: PathBuf,
    pub queue: usize,
    began: Instant,
    service: Mutex<Option<Service>>,
    /// Changes whenever the service was started again.
    lives: AtomicU64,
    pub acknowledged: AtomicU64,
    pub repeated: AtomicU64,
    stop: AtomicBool,
    /// How long first tries took, in microseconds, without those that a kill has touched.
    pub latencies_us: Mutex<Vec<u64>>,
}

impl Load {
    pub fn new(data: PathBuf, queue: usize) -> Self {
        let service = Mutex::new(Some(Service::start(&data, queue)));
        Self {
            data,
            queue,
            began: Instant::now(),
            service,
            lives: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            latencies_us: Mutex::default(),
        }
    }

    pub fn url(&self, path: &str) -> String {
        let service = self.service.lock().expect("no client panics while it holds this");
        service.as_ref().expect("it runs again before the lock is free").url(path)
    }

    /// Kills the service with SIGKILL, and starts it again.
    pub fn kill(&self) {
        let mut service = self.service.lock().expect("no client panics while it holds this");
        self.lives.fetch_add(1, Ordering::SeqCst);
        drop(service.take());
        *service = Some(Service::start(&self.data, self.queue));
        self.lives.fetch_add(1, Ordering::SeqCst);
    }

    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Runs one client that only reads: what the machine, HTTP and the runtime cost without a
    /// command and a disk. It must not be killed.
    pub fn reader(&self, number: u32, pace: Pace) {
        let (agent, mut latencies_us) = (agent(), Vec::new());
        while !self.stop.load(Ordering::SeqCst) {
            std::thread::sleep(pace.wait(number, self.began.elapsed()));
            let began = Instant::now();
            let mut answer =
                agent.get(self.url(&format!("/accounts/{number}"))).call().expect("it runs");
            answer.body_mut().read_to_string().expect("it answers");
            latencies_us.push(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
        }
        self.latencies_us
            .lock()
            .expect("no client panics while it holds this")
            .extend(latencies_us);
    }

    /// Runs one client. Returns how many deposits were acknowledged to it.
    pub fn client(&self, number: u32, pace: Pace) -> u64 {
        let (agent, actor) = (agent(), format!("client {number}"));
        let path = format!("/accounts/{number}/deposits");
        let mut latencies_us = Vec::new();
        let mut applied = 0;
        while !self.stop.load(Ordering::SeqCst) {
            std::thread::sleep(pace.wait(number, self.began.elapsed()));
            let key = format!("deposit {}", applied + 1);
            let (life, began, mut tries) = (self.lives.load(Ordering::SeqCst), Instant::now(), 0);
            let answer = loop {
                tries += 1;
                match deposit(&agent, &self.url(&path), &actor, &key) {
                    Some(answer) => break answer,
                    None => std::thread::yield_now(),
                }
            };
            if tries == 1 && self.lives.load(Ordering::SeqCst) == life {
                latencies_us.push(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
            }
            applied += 1;
            // Fewer: an acknowledged one was lost. More: one was applied twice.
            assert_eq!(answer.output.cents, applied, "{actor}: {answer:?}");
            self.repeated.fetch_add(u64::from(answer.repeated), Ordering::SeqCst);
            self.acknowledged.fetch_add(1, Ordering::SeqCst);
            // Now and then an old request comes again. Its answer is the one that it had.
            if applied % 16 == 0 {
                let old = applied / 2;
                let key = format!("deposit {old}");
                if let Some(again) = deposit(&agent, &self.url(&path), &actor, &key) {
                    assert!(again.repeated && again.output.cents == old, "{actor}: {again:?}");
                }
            }
        }
        self.latencies_us
            .lock()
            .expect("no client panics while it holds this")
            .extend(latencies_us);
        applied
    }
}
