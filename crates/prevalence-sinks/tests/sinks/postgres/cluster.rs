//! A PostgreSQL server in a temporary directory, on a Unix socket there.

use std::fs::File;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use ::postgres::{Client, NoTls};
use rustix::process::{Pid, Signal, getuid, kill_process};

/// Set where a missing PostgreSQL must be a failure.
const MUST_RUN: &str = "PREVALENCE_CI";

/// No part of a test takes so long.
const DEADLINE: Duration = Duration::from_secs(120);

pub struct Cluster {
    directory: tempfile::TempDir,
    programs: PathBuf,
    /// More settings for the server.
    settings: Vec<&'static str>,
    server: Option<Child>,
}

impl Cluster {
    /// Starts a server. `None`: there is no PostgreSQL here, and that was said.
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    pub fn start_with(settings: &[&'static str]) -> Option<Self> {
        let Some(programs) = programs() else {
            assert!(std::env::var_os(MUST_RUN).is_none(), "no PostgreSQL, and {MUST_RUN} is set");
            println!("skipped: no PostgreSQL");
            return None;
        };
        // Not in TMPDIR: another user must get there, and a socket's path must be short.
        let directory = tempfile::Builder::new().prefix("sinks").tempdir_in("/tmp").unwrap();
        if getuid().is_root() {
            let (user, group) = user();
            chown(directory.path(), Some(user), Some(group)).unwrap();
        }
        let settings = settings.to_vec();
        let mut made = Self { directory, programs, settings, server: None };
        let output = made
            .command("initdb")
            .args(["--auth=trust", "--username=postgres", "--no-sync"])
            .args(["--locale=C", "--encoding=UTF8", "-D"])
            .arg(made.directory.path().join("data"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        made.restart();
        Some(made)
    }

    /// A program of PostgreSQL, which refuses to run as root. It ends when this thread does.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.arg("--pdeathsig=INT");
        if getuid().is_root() {
            let (user, group) = user();
            command.arg(format!("--reuid={user}")).arg(format!("--regid={group}"));
            command.arg("--clear-groups");
        }
        command.arg(self.programs.join(program)).current_dir(self.directory.path());
        command
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn connection(&self, database: &str) -> String {
        format!("host={} user=postgres dbname={database}", self.directory.path().display())
    }

    pub fn connect(&self, database: &str) -> Client {
        Client::connect(&self.connection(database), NoTls).unwrap()
    }

    /// Starts the server, and waits until it answers.
    pub fn restart(&mut self) {
        assert!(self.server.is_none(), "it runs already");
        let deadline = Instant::now() + DEADLINE;
        let log = self.directory.path().join("log");
        while Instant::now() < deadline {
            let written = File::options().create(true).append(true).open(&log).unwrap();
            let mut command = self.command("postgres");
            command.arg("-D").arg("data").arg("-k").arg(self.directory.path());
            command.args(["-c", "listen_addresses="]);
            // Nobody cuts the power, and what the kernel has got outlives a killed server.
            command.args(["-c", "fsync=off"]);
            for setting in &self.settings {
                command.args(["-c", setting]);
            }
            command.stdout(written.try_clone().unwrap()).stderr(written);
            let mut server = command.spawn().unwrap();
            loop {
                if Client::connect(&self.connection("postgres"), NoTls).is_ok() {
                    self.server = Some(server);
                    return;
                }
                // After a kill, the old server's children may still be about to go.
                if server.try_wait().unwrap().is_some() {
                    break;
                }
                if Instant::now() >= deadline {
                    self.server = Some(server); // `Drop` stops it
                    break;
                }
                pause();
            }
            pause();
        }
        panic!("it does not start:\n{}", std::fs::read_to_string(&log).unwrap_or_default());
    }

    /// Kills the server, and only it. Its children notice, and go: that is waited for.
    pub fn kill(&mut self) {
        self.killer()();
        self.server.take().expect("it runs").wait().unwrap();
    }

    /// Returns what kills the server, and waits until its children are gone: for a closure that
    /// cannot have the cluster.
    pub fn killer(&self) -> impl FnMut() + Send + use<> {
        let pid = Pid::from_child(self.server.as_ref().expect("it runs"));
        move || {
            let children = children(pid);
            let _ = kill_process(pid, Signal::KILL); // it may be dead already
            until("its children go", || children.iter().all(|child| parent(*child).is_none()));
        }
    }

    /// Returns what kills the server, and does not wait: sessions may still do some of their work.
    pub fn abrupt_killer(&self) -> impl FnMut() + Send + use<> {
        let pid = Pid::from_child(self.server.as_ref().expect("it runs"));
        move || kill_process(pid, Signal::KILL).unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        // Stop now, without waiting for clients.
        let _ = kill_process(Pid::from_child(&server), Signal::INT);
        let deadline = Instant::now() + DEADLINE;
        while matches!(server.try_wait(), Ok(None)) && Instant::now() < deadline {
            pause();
        }
        let _ = server.kill();
        let _ = server.wait();
    }
}

/// Asks until it is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        pause();
    }
}

fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}

/// Returns the parent of a process that lives.
fn parent(process: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, which may hold anything, ends with the last bracket.
    let (_, behind) = stat.rsplit_once(") ")?;
    let mut fields = behind.split(' ');
    let state = fields.next()?;
    if state == "Z" { None } else { fields.next()?.parse().ok() }
}

fn children(of: Pid) -> Vec<i32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|number| parent(*number) == Some(of.as_raw_nonzero().get())).collect()
}

/// Returns the directory of the newest PostgreSQL's programs.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let found = versions.flatten().filter_map(|version| {
        let number: u32 = version.file_name().to_str()?.parse().ok()?;
        let programs = version.path().join("bin");
        programs.join("postgres").exists().then_some((number, programs))
    });
    found.max().map(|(_, programs)| programs)
}

/// Returns the user and group that the package made for the server.
fn user() -> (u32, u32) {
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|line| line.starts_with("postgres:"));
    let line = line.expect("the package makes the user `postgres`");
    let numbers: Vec<u32> = line.split(':').skip(2).take(2).map(|n| n.parse().unwrap()).collect();
    (numbers[0], numbers[1])
}
