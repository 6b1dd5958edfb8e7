//! What `goflow server` and `goflow up` share: listening as flags, environment and configuration say, and
//! the access log on stdout. Part of the composition root: it knows no routes.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::codes::Code;
use super::context::Context;
use super::error::{Result, fail};
use crate::api::Client;
use crate::domain::Clock;
use crate::domain::text::json_safe;
use crate::engine::Caretaker;
use crate::server::{Answered, Options, ROOM_BYTES, Server};
use crate::sys::clock::SystemClock;
use crate::sys::secrets::Secrets;

// Where to listen: flags of every command that does. Without a doc comment, which would become the
// help of those commands.
#[derive(Debug, Args)]
pub struct ListenArgs {
    /// The port; 0 is any free one [default: `server.port` of the configuration, else 8080]
    #[arg(short, long, value_name = "PORT")]
    port: Option<u16>,
    /// The address to listen on [default: `server.bind` of the configuration, else 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    bind: Option<String>,
}

/// A server with its access log.
pub struct Listening {
    server: Server,
    log: LogThread,
    caretaker: Caretaker,
}

/// Records that wait to be written. Beyond it requests are not held up: what is left out is counted
/// and told.
const WAITING: usize = 65_536;

/// Where these flags, the environment and the configuration say to listen.
///
/// # Errors
/// A broken configuration.
pub fn place(context: &Context, args: &ListenArgs) -> Result<(String, u16)> {
    let (bind, port) = context.config()?.listen();
    Ok((args.bind.as_deref().unwrap_or(bind).to_owned(), args.port.unwrap_or(port)))
}

/// Listens.
///
/// # Errors
/// What cannot be listened on, a broken configuration, the store's.
pub async fn listen(
    context: &Context,
    client: &Client,
    args: &ListenArgs,
    shutdown_timeout: Duration,
) -> Result<Listening> {
    let config = context.config()?;
    let (bind, port) = place(context, args)?;
    let (allowed_hosts, allowed_origins) = config.allowed();
    let any_page = allowed_origins.iter().any(|origin| origin == "*");
    let options = Options {
        env: context.env.get("ENV").unwrap_or("development").to_owned(),
        allowed_hosts,
        allowed_origins,
        admin_token: context.env.get("GOFLOW_TOKEN").map(str::to_owned),
        shutdown_timeout,
        queue: context.default_queue()?,
        max_retries: config.max_retries(),
        counts: true,
        room: ROOM_BYTES,
        secrets: Secrets::new(context.env.clone(), config.webhook_secret()),
    };
    let log = LogThread::start()?;
    let server = Server::bind(&bind, port, client.clone(), options, log.sink()).await?;
    context.ui.say(&format!("listening on http://{}", server.address()));
    if any_page && server.is_open() {
        context.ui.warn(
            "server.cors.allowed_origins is * and no token is needed: every web page that is opened on this machine \
             can use this server",
        );
    }
    // Workers that speak only HTTP do nothing for each other.
    let caretaker = Caretaker::new(client.store().clone(), &*context.clock, context.entropy.clone(), context.spans()?);
    Ok(Listening { server, log, caretaker })
}

impl Listening {
    /// Answers until `gently`, then lets requests end, or cuts them off `at_once`.
    pub async fn run(self, gently: CancellationToken, at_once: CancellationToken) {
        let house = tokio::spawn(self.caretaker.run(gently.clone()));
        tokio::select! {
            biased;
            () = at_once.cancelled() => {}
            () = self.server.run(gently.clone()) => {}
        }
        house.abort();
        self.log.finish();
    }

    /// A line of the log that is no request.
    pub fn note(&self, text: &str) {
        self.log.note(text);
    }
}

enum Line {
    Request(Answered),
    Note(String),
    End,
}

/// Writes the access log: a slow reader of stdout holds up no request.
struct LogThread {
    lines: SyncSender<Line>,
    lost: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl LogThread {
    fn start() -> Result<LogThread> {
        let (lines, receiver) = sync_channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = lost.clone();
        let thread = std::thread::Builder::new().name("access-log".to_owned());
        let thread = thread.spawn(move || write_all(&receiver, &counted));
        let thread = thread.map_err(|error| fail(Code::Bug, format!("no thread for the access log: {error}")))?;
        Ok(LogThread { lines, lost, thread })
    }

    fn sink(&self) -> crate::server::AccessLog {
        let (lines, lost) = (self.lines.clone(), self.lost.clone());
        Arc::new(move |access| {
            if lines.try_send(Line::Request(access)).is_err() {
                lost.fetch_add(1, Ordering::Relaxed);
            }
        })
    }

    fn note(&self, text: &str) {
        let _ = self.lines.try_send(Line::Note(text.to_owned()));
    }

    fn finish(self) {
        if self.lines.try_send(Line::End).is_ok() {
            let _ = self.thread.join();
        }
    }
}

fn write_all(lines: &Receiver<Line>, lost: &AtomicU64) {
    let mut batch = String::new();
    while let Ok(first) = lines.recv() {
        let mut next = Some(first);
        let mut over = false;
        // What came meanwhile goes in one write.
        while let Some(line) = next.take() {
            match line {
                Line::Request(access) => push(&mut batch, &access_line(&access)),
                Line::Note(text) => push(&mut batch, &note_line("info", &text)),
                Line::End => over = true,
            }
            next = if over || batch.len() > 1 << 16 { None } else { lines.try_recv().ok() };
        }
        let left_out = lost.swap(0, Ordering::Relaxed);
        if left_out > 0 {
            push(&mut batch, &note_line("warn", &format!("{left_out} requests were not logged: stdout is slow")));
        }
        let mut out = std::io::stdout().lock();
        // Whether anybody reads it does not matter to those who ask.
        let _ = out.write_all(batch.as_bytes()).and_then(|()| out.flush());
        batch.clear();
        if over {
            return;
        }
    }
}

fn push(batch: &mut String, line: &impl Serialize) {
    let line = serde_json::to_string(line).unwrap_or_default();
    batch.push_str(&json_safe(&line));
    batch.push('\n');
}

fn note_line(level: &str, text: &str) -> serde_json::Value {
    json!({"time": SystemClock.now().rfc3339(), "level": level, "msg": text})
}

/// A request as it is logged.
#[derive(Serialize)]
struct AccessLine<'a> {
    time: String,
    level: &'static str,
    msg: &'static str,
    method: &'a str,
    path: &'a str,
    status: u16,
    /// In milliseconds.
    duration: f64,
}

fn access_line(access: &Answered) -> AccessLine<'_> {
    AccessLine {
        time: SystemClock.now().rfc3339(),
        level: if access.status >= 500 { "error" } else { "info" },
        msg: "request",
        method: access.method.as_str(),
        path: &access.path,
        status: access.status,
        duration: (access.duration.as_secs_f64() * 1e6).round() / 1e3,
    }
}
