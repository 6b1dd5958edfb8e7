//! Asking the server that listens on this machine whether it is ready: what a container without any other
//! tool is watched by. One plain request; it knows no route but `/ready`.

use std::net::IpAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::codes::Code;
use super::error::{Result, fail};

/// A server that takes longer is not ready.
const PATIENCE: Duration = Duration::from_secs(3);
/// Of an answer, in bytes.
const ANSWER: u64 = 16 << 10;

/// Asks the server that was told to listen on `bind`.
///
/// # Errors
/// It does not answer, or says that it is not ready.
pub async fn ready(bind: &str, port: u16) -> Result<String> {
    let bare = bind.trim_start_matches('[').trim_end_matches(']');
    let host = match bare.parse::<IpAddr>() {
        // It listens on all addresses, so on this one too.
        Ok(ip) if ip.is_unspecified() => if ip.is_ipv4() { "127.0.0.1" } else { "::1" }.to_owned(),
        _ => bare.to_owned(),
    };
    let url = format!("http://{}:{port}/ready", if host.contains(':') { format!("[{host}]") } else { host.clone() });
    let away = |why: String| fail(Code::StoreUnreachable, format!("{url}: {why}"));
    let answer = tokio::time::timeout(PATIENCE, ask(&host, port)).await;
    let answer = answer.map_err(|_| away("it does not answer in time".to_owned()))?;
    let answer = answer.map_err(|error| away(super::error::reason(&error)))?;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    match status {
        "200" => Ok(url),
        "" => Err(away("what answers is no server of goflow".to_owned())),
        status => Err(away(format!("it is not ready: {status}"))),
    }
}

async fn ask(host: &str, port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((host, port)).await?;
    stream
        .write_all(format!("GET /ready HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n").as_bytes())
        .await?;
    let mut answer = Vec::new();
    stream.take(ANSWER).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
