//! A local HTTP server that remembers what was posted, and answers as it was told.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub struct Listener {
    port: u16,
    got: Arc<Mutex<Vec<(String, String)>>>,
}

impl Listener {
    /// Answers the first requests with these codes, and all others with 200.
    pub async fn start(codes: &[u16]) -> Listener {
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = socket.local_addr().expect("an address").port();
        let got: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
        let (kept, codes) = (got.clone(), codes.to_vec());
        tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                let (kept, codes) = (kept.clone(), codes.clone());
                tokio::spawn(serve(stream, kept, codes));
            }
        });
        Listener { port, got }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Path and body of every request, in order.
    pub fn bodies(&self) -> Vec<(String, String)> {
        self.got.lock().expect("no panic holds it").clone()
    }
}

async fn serve(mut stream: TcpStream, got: Arc<Mutex<Vec<(String, String)>>>, codes: Vec<u16>) {
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 4_096];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() < length.unwrap_or(0) {
            continue;
        }
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let code = {
            let mut got = got.lock().expect("no panic holds it");
            got.push((path, body.to_owned()));
            codes.get(got.len() - 1).copied().unwrap_or(200)
        };
        let answer = format!("HTTP/1.1 {code} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        let _ = stream.write_all(answer.as_bytes()).await;
        return;
    }
}
