//! What `goflow bench http` measures: how many jobs one server takes over so many connections that are kept
//! open, and how long each request takes. A client that only sends the same bytes again and reads what is
//! answered, so that on one machine the time is the server's. It speaks plain HTTP/1.1 (RFC 9112).

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::cli::codes::Code;
use crate::cli::error::{Result, fail, reason};
use crate::domain::Name;
use crate::store::remote::{ServerUrl, Token};

/// An answer that takes longer is none.
const ANSWER: Duration = Duration::from_secs(30);
/// The head of an answer, in bytes.
const HEAD_BYTES: usize = 16 << 10;

/// What is sent, and how.
pub struct Load<'a> {
    pub server: &'a ServerUrl,
    pub token: Option<&'a Token>,
    pub queue: &'a Name,
    /// Jobs in all.
    pub count: u64,
    pub connections: u32,
    /// Jobs a request.
    pub batch: u32,
    pub payload_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Taken {
    pub requests: u64,
    pub jobs_per_second: f64,
    pub requests_per_second: f64,
    /// From the first byte that is sent to the last that is read.
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub longest_ms: f64,
}

/// # Errors
/// A server that is not there or has TLS; one that answers something else than that it has taken them.
pub async fn take(load: &Load<'_>) -> Result<Taken> {
    let address = address(load.server).await?;
    let batch = u64::from(load.batch);
    let requests = load.count.div_ceil(batch);
    let message: std::sync::Arc<[u8]> = message(load).into();
    let mut senders = JoinSet::new();
    let began = Instant::now();
    for nth in 0..u64::from(load.connections) {
        let share = requests / u64::from(load.connections) + u64::from(nth < requests % u64::from(load.connections));
        let message = message.clone();
        senders.spawn(async move { send(address, &message, share).await });
    }
    let mut times: Vec<Duration> = Vec::with_capacity(usize::try_from(requests).unwrap_or_default());
    while let Some(sent) = senders.join_next().await {
        times.extend(sent.map_err(|error| fail(Code::Bug, format!("a sender broke: {error}")))??);
    }
    let took = began.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |part: f64| {
        let nth = ((times.len() as f64 * part).ceil() as usize).clamp(1, times.len().max(1)) - 1;
        times.get(nth).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    Ok(Taken {
        requests,
        jobs_per_second: (requests * batch) as f64 / took,
        requests_per_second: requests as f64 / took,
        p50_ms: at(0.5),
        p99_ms: at(0.99),
        longest_ms: at(1.0),
    })
}

async fn address(server: &ServerUrl) -> Result<SocketAddr> {
    let Some((host, port)) = server.plain() else {
        return Err(fail(Code::Usage, format!("{server} is measured without TLS only"))
            .hint("ask the server itself, by http://, on its own machine"));
    };
    let found = tokio::net::lookup_host((host.trim_matches(['[', ']']), port)).await;
    let unreachable = |why: String| fail(Code::StoreUnreachable, format!("cannot connect to {server}: {why}"));
    let mut found = found.map_err(|error| unreachable(reason(&error)))?;
    found.next().ok_or_else(|| unreachable("the name has no address".to_owned()))
}

/// One whole request, the same each time.
fn message(load: &Load<'_>) -> Vec<u8> {
    let payload = "x".repeat(load.payload_bytes.saturating_sub(2));
    let job = format!(r#"{{"type":"noop","queue":"{}","payload":"{payload}"}}"#, load.queue);
    let (path, body) = match load.batch {
        1 => ("/api/v1/jobs", job),
        n => ("/api/v1/jobs/batch", format!(r#"{{"jobs":[{}]}}"#, vec![job; n as usize].join(","))),
    };
    let (host, base) = (load.server.host(), load.server.base());
    let token = load.token.map(|token| format!("Authorization: Bearer {}\r\n", token.secret())).unwrap_or_default();
    let length = body.len();
    format!(
        "POST {base}{path} HTTP/1.1\r\nHost: {host}\r\n{token}Content-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Sends it so often over one connection; how long each took.
async fn send(address: SocketAddr, message: &[u8], times: u64) -> Result<Vec<Duration>> {
    let failed = |error: std::io::Error| fail(Code::StoreUnreachable, format!("{address}: {}", reason(&error)));
    let mut took = Vec::with_capacity(usize::try_from(times).unwrap_or_default());
    if times == 0 {
        return Ok(took);
    }
    let mut stream = TcpStream::connect(address).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    let mut answer = Vec::with_capacity(64 << 10);
    for _ in 0..times {
        let began = Instant::now();
        let exchange = async {
            stream.write_all(message).await.map_err(failed)?;
            read(&mut stream, &mut answer).await
        };
        match timeout(ANSWER, exchange).await {
            Ok(answered) => answered?,
            Err(_) => return Err(fail(Code::StoreUnreachable, format!("{address} does not answer"))),
        }
        took.push(began.elapsed());
    }
    Ok(took)
}

/// Reads one answer to its end.
async fn read(stream: &mut TcpStream, answer: &mut Vec<u8>) -> Result<()> {
    let odd = |why: &str| fail(Code::StoreRefused, format!("the server's answer cannot be read: {why}"));
    answer.clear();
    let (head, length) = loop {
        if stream.read_buf(answer).await.map_err(|error| odd(&reason(&error)))? == 0 {
            return Err(odd("it broke off"));
        }
        if let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
            break (end + 4, length(&answer[..end]).ok_or_else(|| odd("its length is missing"))?);
        }
        if answer.len() > HEAD_BYTES {
            return Err(odd("its head has no end"));
        }
    };
    while answer.len() < head + length {
        if stream.read_buf(answer).await.map_err(|error| odd(&reason(&error)))? == 0 {
            return Err(odd("it broke off"));
        }
    }
    if answer.starts_with(b"HTTP/1.1 201 ") {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&answer[head..]).into_owned();
    let status = String::from_utf8_lossy(&answer[9..12.min(head)]).into_owned();
    let problem: serde_json::Value = serde_json::from_str(&said).unwrap_or_default();
    let why = problem["detail"].as_str().unwrap_or("nothing more");
    Err(fail(Code::StoreRefused, format!("the server answers {status}: {why}")))
}

fn length(head: &[u8]) -> Option<usize> {
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.split("\r\n").filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?;
    value.trim().parse().ok()
}
