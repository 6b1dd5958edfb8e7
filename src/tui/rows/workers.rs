//! A worker as a row, with what it runs now.

use serde::{Deserialize, Serialize};

use super::{Column, Key, Row, plain, when};
use crate::api::WorkerView;
use crate::domain::Ms;
use crate::tui::text::{brief, short};
use crate::tui::theme::Tone;

/// One job that a worker holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Held {
    pub id: String,
    pub kind: String,
    pub since: Ms,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkerRow {
    pub id: String,
    pub host: String,
    pub pid: u32,
    pub version: String,
    pub concurrency: u32,
    pub running: u64,
    pub draining: bool,
    pub queues: Vec<String>,
    pub types: Vec<String>,
    pub started_at: Ms,
    pub expires_at: Ms,
    /// Some of the jobs it holds, those first that it has held longest.
    pub held: Vec<Held>,
}

impl From<&WorkerView> for WorkerRow {
    fn from(view: &WorkerView) -> WorkerRow {
        WorkerRow {
            id: view.id.clone(),
            host: view.host.clone(),
            pid: view.pid,
            version: view.version.clone(),
            concurrency: view.concurrency,
            running: view.running,
            draining: view.draining,
            queues: view.queues.clone(),
            types: view.types.clone(),
            started_at: view.started_at.0,
            expires_at: view.expires_at.0,
            held: Vec::new(),
        }
    }
}

impl Row for WorkerRow {
    fn id(&self) -> &str {
        &self.id
    }

    fn is_problem(&self) -> bool {
        self.draining
    }
}

type W = Column<WorkerRow>;

pub const WORKERS: &[Column<WorkerRow>] = &[
    W::new("WORKER", 8, |worker, _| plain(short(&worker.id))).key(|worker| Key::Text(worker.id.clone())),
    W::new("HOST", 14, |worker, _| plain(worker.host.clone())).key(|worker| Key::Text(worker.host.clone())),
    W::new("PID", 8, |worker, _| plain(worker.pid.to_string())).right().from(100),
    W::new("STATE", 9, |worker, look| match (worker.expires_at < look.now, worker.draining) {
        (true, _) => ("lost".to_owned(), Tone::Bad),
        (_, true) => ("draining".to_owned(), Tone::Wait),
        _ => plain("serving"),
    })
    .key(|worker| Key::Number(f64::from(u8::from(worker.draining)))),
    W::new("RUN/MAX", 8, |worker, _| {
        let tone = if worker.running > 0 { Tone::Busy } else { Tone::Faint };
        (format!("{}/{}", worker.running, worker.concurrency), tone)
    })
    .right()
    .key(|worker| Key::Number(worker.running as f64)),
    W::new("UP", 7, |worker, look| when(Some(worker.started_at), look))
        .right()
        .key(|worker| Key::Number(-(worker.started_at.0 as f64))),
    W::new("LONGEST", 24, |worker, look| match worker.held.first() {
        None => ("-".to_owned(), Tone::Faint),
        Some(held) => plain(format!("{} {} {}", brief(look.now.since(held.since)), held.kind, short(&held.id))),
    })
    .key(|worker| Key::Number(worker.held.first().map_or(f64::MAX, |held| held.since.0 as f64)))
    .grow(),
    W::new("QUEUES", 20, |worker, _| match worker.queues.as_slice() {
        [] => ("every queue".to_owned(), Tone::Faint),
        queues => plain(queues.join(" ")),
    })
    .from(120),
    W::new("VERSION", 9, |worker, _| plain(worker.version.clone())).from(140),
    W::new("TYPES", 30, |worker, _| (worker.types.join(" "), Tone::Faint)).from(170),
];
