//! A small HTTP server that answers as a test says, and remembers what it was asked. One request a
//! connection; it ends with the test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What it was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

/// What it answers.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Status, headers, body.
    Is(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Nothing, until the other side goes.
    Silence,
    /// The connection is closed without an answer.
    HangUp,
}

impl Reply {
    pub fn status(status: u16) -> Reply {
        Reply::Is(status, Vec::new(), Vec::new())
    }

    pub fn json(text: &str) -> Reply {
        Reply::Is(200, vec![("Content-Type", "application/json".to_owned())], text.as_bytes().to_vec())
    }

    pub fn with(self, name: &'static str, value: impl Into<String>) -> Reply {
        match self {
            Reply::Is(status, mut headers, body) => {
                headers.push((name, value.into()));
                Reply::Is(status, headers, body)
            }
            other => other,
        }
    }
}

type Answer = dyn Fn(usize, &Asked) -> Reply + Send + Sync;

pub struct HttpServer {
    at: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    over: Arc<AtomicBool>,
}

impl HttpServer {
    /// Answers by `answer`, which is given how many were asked before.
    pub fn start(answer: impl Fn(usize, &Asked) -> Reply + Send + Sync + 'static) -> HttpServer {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let at = listener.local_addr().expect("an address");
        let (asked, over): (Arc<Mutex<Vec<Asked>>>, Arc<AtomicBool>) = Default::default();
        let (noted, ended, answer): (_, _, Arc<Answer>) = (asked.clone(), over.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let (noted, answer) = (noted.clone(), answer.clone());
                // A connection that breaks is the test's business.
                std::thread::spawn(move || drop(serve(stream, &noted, &*answer)));
            }
        });
        HttpServer { at, asked, over }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.at)
    }

    pub fn port(&self) -> u16 {
        self.at.port()
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("lock").clone()
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Wakes the accept.
        let _ = TcpStream::connect(self.at);
    }
}

fn serve(stream: TcpStream, noted: &Mutex<Vec<Asked>>, answer: &Answer) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).map(|_| line.trim_end().to_owned())
    };
    let first = line()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let mut headers = Vec::new();
    loop {
        let line = line()?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, value)| value.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let asked = Asked { method, path, headers, body };
    let reply = {
        let mut noted = noted.lock().expect("lock");
        let nth = noted.len();
        noted.push(asked.clone());
        drop(noted);
        answer(nth, &asked)
    };
    let mut stream = stream;
    match reply {
        Reply::Is(status, headers, body) => {
            write!(stream, "HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n", body.len())?;
            for (name, value) in headers {
                write!(stream, "{name}: {value}\r\n")?;
            }
            stream.write_all(b"\r\n")?;
            stream.write_all(&body)
        }
        Reply::Silence => stream.read(&mut [0]).map(drop),
        Reply::HangUp => Ok(()),
    }
}
