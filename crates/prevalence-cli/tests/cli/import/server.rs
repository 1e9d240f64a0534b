//! A small HTTP server on a thread of this process: it gives each request to the test, and sends
//! what the test answers. It ends when it is dropped.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use prevalence::{Database, Error, Model};
use serde_json::json;

/// What becomes of a request.
pub enum Reply {
    /// An answer with this status and body.
    Answer(u16, String),
    /// These bytes instead of an answer.
    Raw(Vec<u8>),
    /// An answer that has these bytes again and again, until the client has enough.
    Endless(&'static str, &'static [u8]),
    /// Nothing, until the client has enough.
    Silence,
    /// The server ends, as if it was killed: first it stops to listen, then this is answered.
    Death(Option<(u16, String)>),
}

/// A request of which only the head was read.
pub struct Request {
    stream: BufReader<TcpStream>,
    /// The line and the headers, in lower case.
    pub head: String,
}

impl Request {
    fn read(stream: TcpStream) -> Option<Self> {
        let (mut stream, mut head) = (BufReader::new(stream), String::new());
        while !head.ends_with("\r\n\r\n") {
            match stream.read_line(&mut head) {
                Ok(0) | Err(_) => return None, // who connects only to wake the server
                Ok(_) => {}
            }
        }
        Some(Self { stream, head: head.to_lowercase() })
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        found.map(str::trim)
    }

    /// Lets the client send the body, and reads it.
    pub fn body(&mut self) -> Vec<u8> {
        if self.header("expect") == Some("100-continue") {
            self.stream.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        }
        let mut body = vec![0; self.header("content-length").unwrap().parse().unwrap()];
        self.stream.read_exact(&mut body).unwrap();
        body
    }

    fn answer(self, reply: Reply) {
        let mut stream = self.stream.into_inner();
        // A client that has enough has closed the connection.
        let _ = match reply {
            Reply::Answer(status, body) | Reply::Death(Some((status, body))) => {
                let length = body.len();
                let head = format!("HTTP/1.1 {status} Told\r\ncontent-length: {length}\r\n\r\n");
                stream.write_all((head + &body).as_bytes())
            }
            Reply::Raw(bytes) => stream.write_all(&bytes),
            Reply::Endless(head, more) => stream.write_all(head.as_bytes()).and_then(|()| {
                loop {
                    stream.write_all(more)?;
                }
            }),
            Reply::Silence => stream.read(&mut [0]).map(drop),
            Reply::Death(None) => Ok(()),
        };
    }
}

pub struct Server {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    requests: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(mut serve: impl FnMut(&mut Request) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (is_over, requests) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (ends, seen) = (Arc::clone(&is_over), Arc::<AtomicUsize>::clone(&requests));
        let thread = std::thread::spawn(move || {
            loop {
                let (stream, _) = listener.accept().unwrap();
                if ends.load(Ordering::SeqCst) {
                    return;
                }
                let Some(mut request) = Request::read(stream) else { continue };
                seen.fetch_add(1, Ordering::SeqCst);
                let reply = serve(&mut request);
                if matches!(reply, Reply::Death(_)) {
                    drop(listener);
                    drop(serve);
                    request.answer(reply);
                    return;
                }
                request.answer(reply);
            }
        });
        Self { address, is_over, requests, thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://{}/import", self.address)
    }

    /// How many requests came so far.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Waits until the server has ended by itself.
    pub fn died(mut self) {
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.is_over.store(true, Ordering::SeqCst);
        TcpStream::connect(self.address).ok(); // wakes it
        let ended = thread.join();
        if !std::thread::panicking() {
            ended.unwrap();
        }
    }
}

/// Answers as the documentation wants it of a service.
pub fn import<M: Model>(database: &Database<M>, lines: &[u8]) -> (u16, String) {
    match database.import(lines) {
        Ok(report) => (200, serde_json::to_string(&report).unwrap()),
        Err(error) => {
            let told = error.to_string();
            match error {
                Error::ImportLine { line, before, .. } => {
                    (422, json!({"error": told, "line": line, "report": before}).to_string())
                }
                _ => (503, json!({"error": told}).to_string()),
            }
        }
    }
}
