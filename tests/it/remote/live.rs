//! Live events as a client sees them: over a WebSocket, and as server-sent events.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message, WebSocket, client};

use crate::cli::TestEnvironment;
use crate::server::Site;

fn site() -> Site {
    let mut env = TestEnvironment::new();
    env.set("GOFLOW_STORE", "sqlite:jobs.db");
    Site::of(env, &[])
}

struct Socket(WebSocket<TcpStream>);

impl Socket {
    fn open(site: &Site) -> Socket {
        Socket::with(site, &[]).expect("it opens")
    }

    fn with(site: &Site, headers: &[(&'static str, &str)]) -> Result<Socket, u16> {
        let stream = TcpStream::connect(site.address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out");
        let mut request = format!("ws://{}/ws", site.address).into_client_request().expect("a request");
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().expect("a value"));
        }
        match client(request, stream) {
            Ok((socket, _)) => Ok(Socket(socket)),
            Err(tokio_tungstenite::tungstenite::HandshakeError::Failure(Error::Http(answer))) => {
                Err(answer.status().as_u16())
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn say(&mut self, said: &Value) {
        self.0.send(Message::text(said.to_string())).expect("it is sent");
    }

    fn hear(&mut self) -> Value {
        loop {
            match self.0.read().expect("a message") {
                Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
                Message::Close(frame) => panic!("closed: {frame:?}"),
                _ => {}
            }
        }
    }

    /// The code with which the server closes.
    fn end(&mut self) -> Option<u16> {
        loop {
            match self.0.read() {
                Ok(Message::Close(frame)) => return frame.map(|frame| frame.code.into()),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }
}

fn enqueue(site: &Site, line: &str) -> String {
    site.env.run(&format!("enqueue {line}")).ok().line().to_owned()
}

#[test]
fn a_socket_is_told_what_it_subscribed_to_and_goes_on_where_it_was() {
    let site = site();
    let before = enqueue(&site, "echo");
    let mut socket = Socket::open(&site);
    socket.say(&json!({"type": "subscribe", "topic": "events"}));
    let begun = socket.hear();
    assert_eq!(
        (&begun["type"], &begun["topic"], &begun["complete"]),
        (&json!("subscribed"), &json!("events"), &json!(null))
    );
    let first = enqueue(&site, "echo -q mail");
    let told = socket.hear();
    assert_eq!((&told["type"], &told["topic"]), (&json!("event"), &json!("events")));
    assert_eq!((&told["event"]["type"], &told["event"]["job_id"]), (&json!("job.created"), &json!(first)));
    let listed = site.env.run("events -n 0 -o jsonl").ok().stdout;
    let events: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(events.contains(&told["event"]), "the same event as everywhere");
    drop(socket);
    let second = enqueue(&site, "echo");
    let third = enqueue(&site, "echo -q mail");
    // By its place, and by the id alone, as somebody copies it.
    let mut early = Socket::open(&site);
    early.say(&json!({"type": "subscribe", "topic": "events", "after": begun["place"]}));
    assert_eq!(early.hear()["complete"], true);
    assert_eq!(early.hear()["event"]["job_id"], json!(first), "who was cut before the first event");
    for after in [&told["place"], &told["event"]["id"]] {
        let mut socket = Socket::open(&site);
        socket.say(&json!({"type": "subscribe", "topic": "events", "after": after}));
        assert_eq!(socket.hear()["complete"], true);
        for id in [&second, &third] {
            assert_eq!(socket.hear()["event"]["job_id"], json!(id));
        }
        socket.say(&json!({"type": "ping"}));
        assert_eq!(socket.hear(), json!({"type": "pong"}));
    }
    // From a place that is not kept: everything that is, and a word about it.
    let mut socket = Socket::open(&site);
    let gone = "00000000-0000-8000-8000-000000000000";
    socket.say(&json!({"type": "subscribe", "topic": "queue:mail", "after": gone}));
    assert_eq!(socket.hear(), json!({"type": "subscribed", "topic": "queue:mail", "complete": false, "place": null}));
    assert_eq!(socket.hear()["event"]["job_id"], json!(first));
    assert_eq!(socket.hear()["event"]["job_id"], json!(third));
    // Several topics on one connection; one that is left says nothing more.
    socket.say(&json!({"type": "subscribe", "topic": format!("job:{before}"), "where": "type:job.cancelled"}));
    assert_eq!(socket.hear()["type"], "subscribed");
    socket.say(&json!({"type": "unsubscribe", "topic": "queue:mail"}));
    assert_eq!(socket.hear(), json!({"type": "unsubscribed", "topic": "queue:mail"}));
    enqueue(&site, "echo -q mail");
    site.env.run(&format!("job cancel {before}")).ok();
    let told = socket.hear();
    assert_eq!((&told["topic"], &told["event"]["type"]), (&json!(format!("job:{before}")), &json!("job.cancelled")));
}

#[test]
fn what_a_socket_cannot_mean_is_told_and_what_is_too_much_ends_it() {
    let site = site();
    let mut socket = Socket::open(&site);
    for (said, part) in [
        (json!({"type": "subscribe", "topic": "weather"}), "there is no topic"),
        (json!({"type": "subscribe", "topic": "events", "where": "colour:red"}), "colour"),
        (json!({"type": "subscribe", "topic": "events", "after": "yesterday"}), "`after`"),
        (json!({"type": "shout"}), "not understood"),
        (json!({"type": "subscribe"}), "topic"),
        (json!([]), "not understood"),
    ] {
        socket.say(&said);
        let answer = socket.hear();
        assert_eq!(answer["type"], "error", "{said}");
        assert!(answer["message"].as_str().is_some_and(|message| message.contains(part)), "{answer}");
    }
    socket.0.send(Message::binary(vec![1, 2, 3])).expect("it is sent");
    assert_eq!(socket.end(), Some(1003));
    let mut socket = Socket::open(&site);
    let _ = socket.0.send(Message::text("x".repeat(70_000)));
    assert_ne!(socket.end(), Some(1000));
    assert_eq!(Socket::with(&site, &[("origin", "https://evil.example")]).err(), Some(403));
}

/// The next event of a stream: its fields by name.
fn next(lines: &mut impl BufRead) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    loop {
        let mut line = String::new();
        assert_ne!(lines.read_line(&mut line).expect("a line"), 0, "the stream goes on");
        match line.trim_end().split_once(':') {
            Some((name, value)) if !name.is_empty() => fields.push((name.to_owned(), value.trim().to_owned())),
            _ if line.trim().is_empty() && fields.iter().any(|(name, _): &(String, String)| name == "data") => {
                return fields;
            }
            _ if line.trim().is_empty() => fields.clear(),
            // Comments, and the sizes of chunks.
            _ => {}
        }
    }
}

fn stream(site: &Site, query: &str, last: Option<&str>) -> BufReader<TcpStream> {
    let mut stream = site.connect();
    let last = last.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
    write!(stream, "GET /events{query} HTTP/1.1\r\nHost: {}\r\n{last}\r\n", site.address).expect("it is asked");
    let mut lines = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(lines.read_line(&mut head).expect("a line"), 0);
    }
    assert!(head.starts_with("HTTP/1.1 200") && head.to_lowercase().contains("text/event-stream"), "{head}");
    lines
}

fn field<'a>(fields: &'a [(String, String)], name: &str) -> &'a str {
    fields.iter().find(|(its, _)| its == name).map(|(_, value)| value.as_str()).expect(name)
}

#[test]
fn a_stream_of_events_goes_on_after_the_last_id() {
    let site = site();
    let mut lines = stream(&site, "?topic=jobs", None);
    let first = enqueue(&site, "echo");
    let told = next(&mut lines);
    assert_eq!(field(&told, "event"), "job.created");
    let data: Value = serde_json::from_str(field(&told, "data")).expect("JSON");
    assert_eq!(data["job_id"], json!(first));
    drop(lines);
    let second = enqueue(&site, "echo");
    let mut lines = stream(&site, "", Some(field(&told, "id")));
    let data: Value = serde_json::from_str(field(&next(&mut lines), "data")).expect("JSON");
    assert_eq!(data["job_id"], json!(second));
    // What is not kept any more is told.
    let mut lines = stream(&site, "?after=00000000-0000-8000-8000-000000000000", None);
    assert_eq!(field(&next(&mut lines), "event"), "gap");
    let data: Value = serde_json::from_str(field(&next(&mut lines), "data")).expect("JSON");
    assert_eq!(data["job_id"], json!(first));
    for (query, status) in [("?topic=weather", 400), ("?where=colour:red", 400), ("?after=x", 400), ("?what=x", 400)] {
        assert_eq!(site.get(&format!("/events{query}")).status, status, "{query}");
    }
}

/// Makes or revokes tokens beside the server; a server knows of it within a second or two.
fn token(site: &Site, line: &str) -> String {
    site.env.run(&format!("token {line}")).ok().line().to_owned()
}

#[test]
fn who_may_not_look_any_more_is_cut_off() {
    let site = site();
    // Nobody needs a token yet.
    let mut open = Socket::open(&site);
    open.say(&json!({"type": "subscribe", "topic": "events"}));
    assert_eq!(open.hear()["type"], "subscribed");
    let (kept, gone) = (token(&site, "create kept --scope read"), token(&site, "create gone --scope read"));
    assert_eq!(open.end(), Some(1008), "a token is needed now");
    let socket = |secret: &str| {
        let bearer = format!("Bearer {secret}");
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        loop {
            match Socket::with(&site, &[("authorization", &bearer)]) {
                Ok(mut socket) => {
                    socket.say(&json!({"type": "subscribe", "topic": "jobs"}));
                    assert_eq!(socket.hear()["type"], "subscribed");
                    return socket;
                }
                Err(status) => assert!(std::time::Instant::now() < deadline, "{status}"),
            }
        }
    };
    let (mut stays, mut goes) = (socket(&kept), socket(&gone));
    let mut events = site.connect();
    let head = format!("GET /events HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {gone}\r\n\r\n", site.address);
    events.write_all(head.as_bytes()).expect("it is asked");
    let mut events = BufReader::new(events);
    let mut line = String::new();
    events.read_line(&mut line).expect("a line");
    assert!(line.starts_with("HTTP/1.1 200"), "{line}");
    token(&site, "revoke gone");
    assert_eq!(goes.end(), Some(1008));
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut events, &mut rest).expect("the stream ends");
    assert!(rest.ends_with("0\r\n\r\n"), "it ends in order: {rest:?}");
    let id = enqueue(&site, "echo");
    assert_eq!(stays.hear()["event"]["job_id"], json!(id), "others are told as before");
}
