//! A server process in a place of its own, and a plain HTTP/1.1 client that sends what it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStderr};
use std::time::Duration;

use serde_json::Value;

use crate::cli::TestEnvironment;

/// A running server; it is killed when this goes out of scope.
pub struct Site {
    pub env: TestEnvironment,
    pub address: SocketAddr,
    child: Child,
}

/// A further server.
pub struct Sibling(Site);

impl std::ops::Deref for Sibling {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.0
    }
}

/// What was answered.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(its, _)| its.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.text()))
    }

    /// The body of an answer that must have this status.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        self.json()
    }
}

impl Site {
    /// On an empty embedded store.
    pub fn start() -> Site {
        Site::of(TestEnvironment::new(), &[])
    }

    /// In this place, with these further arguments.
    pub fn of(env: TestEnvironment, args: &[&str]) -> Site {
        let (child, address) = spawn(&env, "server", args);
        Site { env, address, child }
    }

    /// A server and a worker in one process.
    pub fn up(env: TestEnvironment, args: &[&str]) -> Site {
        let (child, address) = spawn(&env, "up", args);
        Site { env, address, child }
    }

    /// Ends it gently; its exit status and what it wrote to stdout.
    pub fn stop(mut self) -> (Option<i32>, String) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).expect("a pid")).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
        let mut out = String::new();
        self.child.stdout.take().expect("its stdout").read_to_string(&mut out).expect("UTF-8");
        (self.child.wait().expect("it ends").code(), out)
    }

    pub fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[], "")
    }

    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.ask("POST", path, &[], body.to_string())
    }

    /// Another server over the same store.
    pub fn beside(&self, args: &[&str]) -> Sibling {
        let (child, address) = spawn(&self.env, "server", args);
        Sibling(Site { env: TestEnvironment::new(), address, child })
    }

    /// Works off what waits.
    pub fn work(&self) {
        self.env.run("worker --until-empty").ok();
    }

    /// Asks with these headers beside the usual ones; a header given here replaces a usual one.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Reply {
        let body = body.as_ref();
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        let (host, length) = (self.address.to_string(), body.len().to_string());
        let usual = [("Host", host.as_str()), ("Connection", "close"), ("Content-Length", length.as_str())];
        for (name, value) in usual.iter().filter(|(name, _)| !headers.iter().any(|(its, _)| its == name)) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let mut stream = self.connect();
        stream.write_all(format!("{head}\r\n").as_bytes()).expect("the head is sent");
        // It may have been refused, and answered, before all of it was read.
        let _ = stream.write_all(body);
        read(stream)
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out");
        stream
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(env: &TestEnvironment, verb: &str, args: &[&str]) -> (Child, SocketAddr) {
    let words = [verb, "-p", "0"].into_iter().chain(args.iter().copied());
    let mut child = env.command(words).spawn().expect("it starts");
    match listening(child.stderr.take().expect("its stderr")) {
        Ok(address) => (child, address),
        Err(said) => {
            let _ = child.wait();
            panic!("it does not listen: {said}");
        }
    }
}

/// Where it listens, or what it said until it ended.
fn listening(stderr: ChildStderr) -> Result<SocketAddr, String> {
    let (mut lines, mut said) = (BufReader::new(stderr), String::new());
    loop {
        let from = said.len();
        if lines.read_line(&mut said).expect("UTF-8") == 0 {
            return Err(said);
        }
        if let Some(address) = said[from..].trim().strip_prefix("listening on http://") {
            // Nobody else reads what it says: a full pipe would hold it up.
            std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
            return Ok(address.parse().expect("an address"));
        }
    }
}

/// Reads one answer until the end of the connection.
pub fn read(mut stream: TcpStream) -> Reply {
    let mut bytes = Vec::new();
    // A connection that is reset after the answer has given it.
    let _ = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no head: {}", String::from_utf8_lossy(&bytes)));
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status");
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let mut reply = Reply { status, headers, body: bytes[end + 4..].to_vec() };
    if reply.header("transfer-encoding").is_some_and(|coding| coding == "chunked") {
        reply.body = unchunked(&reply.body);
    }
    reply
}

fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(at) = bytes.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&bytes[..at]).ok().and_then(|hex| usize::from_str_radix(hex, 16).ok());
        let size = size.expect("a size");
        if size == 0 {
            break;
        }
        body.extend_from_slice(&bytes[at + 2..at + 2 + size]);
        bytes = &bytes[at + 4 + size..];
    }
    body
}
