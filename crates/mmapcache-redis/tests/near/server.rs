//! A Redis server of a test's own, and a connection to it that can be cut. Calls the system's
//! `redis-server` (Debian: `apt-get install redis-server`).

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use mmapcache_redis::Server;
use rustix::process::{Pid, Signal, kill_process};

pub(crate) struct Redis {
    child: Child,
    pub(crate) port: u16,
    arguments: Vec<String>,
    dir: tempfile::TempDir,
}

impl Redis {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let arguments: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
        // Another test, or a connection, may take the port before the server does.
        let mut started = None;
        wait_until("redis-server starts", || {
            let port = free_port();
            started = spawn(port, &arguments, dir.path()).map(|child| (port, child));
            started.is_some()
        });
        let (port, child) = started.unwrap();
        Self {
            child,
            port,
            arguments,
            dir,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    pub(crate) fn server(&self) -> Server {
        Server::try_from(self.url().as_str()).unwrap()
    }

    /// A connection of another client.
    pub(crate) fn client(&self) -> redis::Connection {
        let client = redis::Client::open(self.url()).unwrap();
        client.get_connection().unwrap()
    }

    pub(crate) fn run(&self, command: &[&str]) -> redis::Value {
        let mut words = redis::Cmd::new();
        words.arg(command);
        words.query(&mut self.client()).unwrap()
    }

    pub(crate) fn set(&self, key: &str, value: &str) {
        self.run(&["SET", key, value]);
    }

    /// Calls of one command since the server started.
    pub(crate) fn calls(&self, command: &str) -> u64 {
        let mut info = redis::cmd("INFO");
        let info: String = info.arg("commandstats").query(&mut self.client()).unwrap();
        let name = format!("cmdstat_{command}:calls=");
        let line = info.lines().find_map(|line| line.strip_prefix(&name));
        let number = line.map(|line| line.split(',').next().unwrap().parse());
        number.map_or(0, Result::unwrap)
    }

    /// Connections that were made since the server started, that of this call included.
    pub(crate) fn connections(&self) -> u64 {
        let mut info = redis::cmd("INFO");
        let info: String = info.arg("stats").query(&mut self.client()).unwrap();
        let name = "total_connections_received:";
        let line = info.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim().parse().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again at the same port, empty.
    pub(crate) fn restart(&mut self) {
        wait_until("redis-server starts again", || {
            let started = spawn(self.port, &self.arguments, self.dir.path());
            started.map(|child| self.child = child).is_some()
        });
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a server, and waits until it answers. `None` if it ended, because the port is taken.
///
/// That a server answers at the port is no proof: the server writes its file when it has the port.
fn spawn(port: u16, arguments: &[String], dir: &std::path::Path) -> Option<Child> {
    let pid_file = dir.join("pid");
    let _ = std::fs::remove_file(&pid_file);
    let mut child = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--enable-debug-command", "yes", "--dir"])
        .arg(dir)
        .arg("--pidfile")
        .arg(&pid_file)
        .args(arguments)
        .stdout(Stdio::null())
        .spawn()
        .expect(
            "these tests need `redis-server`; install it (Debian: apt-get install redis-server)",
        );
    let mut has_ended = false;
    wait_until("redis-server answers", || {
        has_ended = child.try_wait().unwrap().is_some();
        let has_port = pid_file.exists();
        has_ended || (has_port && TcpStream::connect(("127.0.0.1", port)).is_ok())
    });
    (!has_ended).then_some(child)
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < end, "not within 10 s: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

const ALL: i64 = -1;

/// Hands bytes on between clients and a server, until it is told otherwise.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    links: Arc<Mutex<Vec<TcpStream>>>,
    is_frozen: Arc<AtomicBool>,
    /// Pieces of replies that may pass while replies are held; negative: all.
    passes: Arc<AtomicI64>,
}

impl Proxy {
    pub(crate) fn to(redis: &Redis) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            links: Arc::default(),
            is_frozen: Arc::default(),
            passes: Arc::new(AtomicI64::new(ALL)),
        };
        let (links, is_frozen) = (Arc::clone(&proxy.links), Arc::clone(&proxy.is_frozen));
        let (requests, replies) = (Arc::new(AtomicI64::new(ALL)), Arc::clone(&proxy.passes));
        let target = redis.port;
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                // A server that is away refuses: so does the proxy.
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else {
                    continue;
                };
                pump(&client, &server, &is_frozen, &requests);
                pump(&server, &client, &is_frozen, &replies);
                links.lock().unwrap().extend([client, server]);
            }
        });
        proxy
    }

    pub(crate) fn server(&self) -> Server {
        let url = format!("redis://127.0.0.1:{}/", self.port);
        Server::try_from(url.as_str()).unwrap()
    }

    /// Closes all connections. New ones are accepted.
    pub(crate) fn cut(&self) {
        for link in self.links.lock().unwrap().drain(..) {
            let _ = link.shutdown(Shutdown::Both);
        }
    }

    /// Hands requests on, and of what the server sends only so many pieces, as they were read.
    pub(crate) fn hold_replies(&self, passes: i64) {
        self.passes.store(passes, SeqCst);
    }

    /// Hands everything on.
    pub(crate) fn release_replies(&self) {
        self.hold_replies(ALL);
    }

    /// Keeps the connections open and hands nothing on.
    pub(crate) fn freeze(&self, is_frozen: bool) {
        self.is_frozen.store(is_frozen, SeqCst);
    }
}

fn pump(from: &TcpStream, to: &TcpStream, is_frozen: &Arc<AtomicBool>, passes: &Arc<AtomicI64>) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    let (is_frozen, passes) = (Arc::clone(is_frozen), Arc::clone(passes));
    thread::spawn(move || {
        let mut bytes = [0; 16_384];
        while let Ok(length @ 1..) = from.read(&mut bytes) {
            while is_frozen.load(SeqCst) || passes.load(SeqCst) == 0 {
                thread::sleep(Duration::from_millis(1));
            }
            if passes.load(SeqCst) > 0 {
                passes.fetch_sub(1, SeqCst);
            }
            if to.write_all(&bytes[..length]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}
