//! A separate Redis server over loopback, if Debian's redis-server is installed. It is a server and
//! not a library, so each put also pays for a socket.

use std::io::{BufReader, BufWriter, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::engine::{Caller, Engine, Outcome, Readable, Workload, sum};
use crate::load::{Put, digest};

pub const SETTING: &str = "a server over loopback, `appendonly yes`, `appendfsync always`, no \
    snapshots; in `values` 4,096 in flight on one connection";

const PROGRAM: &str = "redis-server";
const START_LIMIT: Duration = Duration::from_secs(5);

/// The watchdog also reads it here.
static SERVER: Mutex<Option<Child>> = Mutex::new(None);

pub fn is_installed() -> bool {
    let version = Command::new(PROGRAM).arg("--version").stdout(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

/// Ends the server that this process started.
pub fn stop() {
    let server = SERVER.lock().map(|mut server| server.take());
    if let Ok(Some(mut server)) = server {
        // It may have ended already. Then there is nothing to do.
        let _ = server.kill();
        let _ = server.wait();
    }
}

struct Redis(SocketAddr);

impl Drop for Redis {
    fn drop(&mut self) {
        stop();
    }
}

pub fn open(path: &Path, _: Workload) -> Outcome<Box<dyn Engine>> {
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let server = Command::new(PROGRAM)
        .args(["--bind", "127.0.0.1", "--port", &address.port().to_string()])
        .args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""])
        .args(["--daemonize", "no", "--loglevel", "warning", "--dir"])
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    *SERVER.lock().map_err(|_| "another thread panicked")? = Some(server);
    let redis = Redis(address);
    let began = Instant::now();
    while let Err(error) = TcpStream::connect(address) {
        if began.elapsed() > START_LIMIT || error.kind() != ErrorKind::ConnectionRefused {
            return Err(format!("{PROGRAM} does not answer at {address}: {error}").into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(Box::new(redis))
}

struct Connection {
    requests: BufWriter<TcpStream>,
    replies: BufReader<TcpStream>,
}

impl Connection {
    fn new(address: SocketAddr) -> Outcome<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let replies = BufReader::new(stream.try_clone()?);
        Ok(Self { requests: BufWriter::with_capacity(64 << 10, stream), replies })
    }

    fn send_set(&mut self, put: Put) -> Outcome {
        self.requests.write_all(b"*3\r\n$3\r\nSET\r\n$8\r\n")?;
        self.requests.write_all(&put.key.to_le_bytes())?;
        write!(self.requests, "\r\n${}\r\n", put.value.len())?;
        self.requests.write_all(put.value)?;
        Ok(self.requests.write_all(b"\r\n")?)
    }

    fn receive_ok(&mut self) -> Outcome {
        let mut reply = [0; 5];
        self.replies.read_exact(&mut reply)?;
        if &reply != b"+OK\r\n" {
            return Err(format!("Redis answered {:?}", String::from_utf8_lossy(&reply)).into());
        }
        Ok(())
    }

    fn get(&mut self, key: u64) -> Outcome<Option<u64>> {
        self.requests.write_all(b"*2\r\n$3\r\nGET\r\n$8\r\n")?;
        self.requests.write_all(&key.to_le_bytes())?;
        self.requests.write_all(b"\r\n")?;
        self.requests.flush()?;
        let mut length = Vec::new();
        while !length.ends_with(b"\r\n") {
            let mut byte = [0];
            self.replies.read_exact(&mut byte)?;
            length.extend(byte);
        }
        let length = String::from_utf8(length)?;
        let Ok(bytes) = length.trim_start_matches('$').trim_end().parse::<usize>() else {
            return Ok(None);
        };
        let mut value = vec![0; bytes + 2];
        self.replies.read_exact(&mut value)?;
        Ok(value.get(..bytes).map(digest))
    }
}

impl Engine for Redis {
    fn caller(&self) -> Outcome<Box<dyn Caller + '_>> {
        Ok(Box::new(Connection::new(self.0)?))
    }

    fn put_stream(&self, puts: &mut dyn Iterator<Item = Put>, window: usize) -> Outcome {
        // More than one, so that the server works while requests are made, but less than the
        // window.
        let burst_puts = (window / 4).max(1);
        let mut connection = Connection::new(self.0)?;
        let (mut in_flight, mut burst) = (0, 0);
        for put in puts {
            connection.send_set(put)?;
            (in_flight, burst) = (in_flight + 1, burst + 1);
            if burst == burst_puts {
                connection.requests.flush()?;
                burst = 0;
            }
            if in_flight == window {
                (0..burst_puts).try_for_each(|_| connection.receive_ok())?;
                in_flight -= burst_puts;
            }
        }
        connection.requests.flush()?;
        (0..in_flight).try_for_each(|_| connection.receive_ok())
    }

    fn readable(&self) -> Option<&dyn Readable> {
        Some(self)
    }
}

impl Caller for Connection {
    fn put(&mut self, put: Put) -> Outcome {
        self.send_set(put)?;
        self.requests.flush()?;
        self.receive_ok()
    }
}

impl Readable for Redis {
    fn read_each(&self, keys: &[u64]) -> Outcome<u64> {
        let mut connection = Connection::new(self.0)?;
        sum(keys, |key| connection.get(key))
    }

    fn read_pinned(&self, _: &[u64]) -> Outcome<Option<u64>> {
        Ok(None)
    }
}
