//! Stands between a sink and the server, on 127.0.0.1, and loses a commit or its answer.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::thread;

/// What becomes of the next commit.
pub enum Fate {
    /// The server never hears of it.
    Lost,
    /// The server commits, and the client never hears of it.
    AnswerLost,
    /// The client loses its connection; the server hears of the commit when this says so.
    Late(Receiver<()>),
}

pub struct Proxy {
    pub port: u16,
    next: Arc<Mutex<Option<Fate>>>,
}

impl Proxy {
    /// The threads end with their connections; the one that listens, with the process.
    pub fn new(directory: &Path) -> Self {
        let socket = directory.join(".s.PGSQL.5432");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let next = Arc::new(Mutex::new(None));
        let shared = next.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (socket, next) = (socket.clone(), shared.clone());
                thread::spawn(move || pass(client, &socket, &next));
            }
        });
        Self { port, next }
    }

    pub fn next_commit(&self, fate: Fate) {
        *self.next.lock().unwrap() = Some(fate);
    }
}

fn pass(mut client: TcpStream, socket: &PathBuf, next: &Mutex<Option<Fate>>) {
    let Ok(mut server) = UnixStream::connect(socket) else { return };
    let is_lost = Arc::new(AtomicBool::new(false));
    let answers = {
        let (mut client, mut server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let is_lost = is_lost.clone();
        thread::spawn(move || {
            let mut bytes = [0; 1 << 16];
            while let Ok(read @ 1..) = server.read(&mut bytes) {
                if is_lost.load(Ordering::SeqCst) || client.write_all(&bytes[..read]).is_err() {
                    break;
                }
            }
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
        })
    };
    let mut bytes = [0; 1 << 16];
    while let Ok(read @ 1..) = client.read(&mut bytes) {
        let said = &bytes[..read];
        let is_commit = said.windows(7).any(|word| word == b"COMMIT\0");
        match is_commit.then(|| next.lock().unwrap().take()).flatten() {
            None => {}
            Some(Fate::Lost) => break,
            Some(Fate::AnswerLost) => is_lost.store(true, Ordering::SeqCst),
            Some(Fate::Late(now)) => {
                is_lost.store(true, Ordering::SeqCst);
                let _ = client.shutdown(Shutdown::Both);
                let _ = now.recv();
            }
        }
        if server.write_all(said).is_err() {
            break;
        }
    }
    if !is_lost.load(Ordering::SeqCst) {
        let _ = server.shutdown(Shutdown::Both);
    }
    // What the server has got it answers, or it closes.
    let _ = answers.join();
    let _ = client.shutdown(Shutdown::Both);
}
