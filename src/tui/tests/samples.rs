//! States to draw: each view empty, as usual, full and hostile; and the ways to get there.

use super::other_samples;
use crate::domain::{JobState, Ms, RunState};
use crate::tui::msg::{
    Answer, AttemptRow, Body, Code, JobDetail, JobsPart, Key, Msg, Notice, Overview, Percentiles, Rates, Reply, Subject,
};
use crate::tui::rows::workers::Held;
use crate::tui::rows::{JobRow, QueueRow, Rows, WorkerRow};
use crate::tui::state::{About, Page, State};
use crate::tui::theme::{Colours, Theme};
use crate::tui::update::{first, update};
use crate::tui::views::View;

/// 2026-02-09T10:30:00Z
pub const NOON: Ms = Ms(1_770_633_000_000);

pub fn ago(seconds: i64) -> Ms {
    Ms(NOON.0 - seconds * 1_000)
}

pub fn id(n: u64) -> String {
    format!("019c420a-7740-7000-8000-{n:012x}")
}

pub fn key(c: char) -> Msg {
    Msg::Key(Key { code: Code::Char(c), ctrl: false })
}

pub fn press(code: Code) -> Msg {
    Msg::Key(Key { code, ctrl: false })
}

pub fn state(view: View, size: (u16, u16)) -> State {
    let about = About {
        store: "sqlite:/home/o/.local/share/goflow/goflow.db".to_owned(),
        read_only: false,
        is_recording: false,
        sharded: view == View::Shards,
        user: "ann".to_owned(),
    };
    let theme = Theme { colours: Colours::Mono, unicode: true };
    let mut state = State::new(about, theme, size, NOON);
    let page = match view {
        View::Job => Page::of(view, &id(7)),
        View::Run => Page::of(view, &id(3_000)),
        view => Page::new(view),
    };
    state.stack = vec![page];
    let _ = first(&mut state);
    state
}

/// The state after the store has told a page's content.
pub fn told(mut state: State, body: Body) -> State {
    let reply = Reply { generation: state.generation, at: NOON, answer: Answer::Body(body) };
    let _ = update(&mut state, Msg::Reply(reply));
    state
}

pub fn job(n: u64, state: JobState) -> JobRow {
    JobRow {
        id: id(n),
        kind: ["send_email", "resize-image", "invoice"][(n % 3) as usize].to_owned(),
        queue: ["default", "reports"][(n % 2) as usize].to_owned(),
        state,
        priority: if n.is_multiple_of(5) { 10 } else { 0 },
        attempt: (n % 4) as u32,
        max_retries: 3,
        crashes: u32::from(n.is_multiple_of(7)),
        payload: format!("{{\"to\":\"user{n}@example.com\"}}"),
        result: None,
        error: matches!(state, JobState::Dead | JobState::Retrying).then(|| "exit:137: killed (memory?)".to_owned()),
        progress: (state == JobState::Running).then(|| "40% half way".to_owned()),
        metadata: [("customer".to_owned(), "42".to_owned())].into(),
        unique_key: None,
        run_id: None,
        step: None,
        worker: (state == JobState::Running).then(|| id(900)),
        created_at: ago(90 + n as i64),
        updated_at: ago(n as i64),
        run_at: if state == JobState::Scheduled { ago(-300) } else { ago(90 + n as i64) },
        started_at: (!matches!(state, JobState::Pending | JobState::Scheduled)).then(|| ago(10 + n as i64)),
        finished_at: state.is_terminal().then(|| ago(n as i64)),
    }
}

pub fn queue(name: &str, pending: u64) -> QueueRow {
    QueueRow {
        name: name.to_owned(),
        paused: name == "reports",
        pending,
        running: 16,
        room: Some(16),
        retrying: 12,
        scheduled: 40,
        dead: 3,
        completed: 48_211,
        cancelled: 7,
        parked: 0,
        oldest_ms: Some(41_000),
        settings: "no limits".to_owned(),
        done_per_s: Some(812.4),
        trend: 1,
    }
}

pub fn worker(n: u64) -> WorkerRow {
    WorkerRow {
        id: id(900 + n),
        host: format!("box-{n}"),
        pid: 4_000 + n as u32,
        version: "0.1.0".to_owned(),
        concurrency: 16,
        running: 16 - n.min(16),
        draining: n == 1,
        queues: if n == 1 { vec!["reports".to_owned()] } else { Vec::new() },
        types: vec!["send_email".to_owned(), "resize-image".to_owned()],
        started_at: ago(7_860),
        expires_at: ago(-12),
        held: vec![Held { id: id(3), kind: "resize-image".to_owned(), since: ago(94) }],
    }
}

fn rates() -> Rates {
    let wave = |n: u32| (0..240).map(|at| (at * 7 + n) % 23 * n / 10).collect();
    Rates {
        is_current: true,
        done: wave(60),
        failed: wave(1),
        wait: Some(Percentiles { p50: 12, p95: 180, p99: 1_200 }),
        run: Some(Percentiles { p50: 84, p95: 940, p99: 4_000 }),
    }
}

const MIXED: [JobState; 5] =
    [JobState::Running, JobState::Retrying, JobState::Pending, JobState::Scheduled, JobState::Dead];

pub fn jobs(n: u64) -> Body {
    Body::Jobs(JobsPart {
        rows: (0..n).map(|at| job(at, MIXED[(at * 5 / n.max(1)) as usize])).collect(),
        second: (n > 100).then(|| (40, "2/a".to_owned())),
        more: n > 100,
        totals: if n == 0 { vec![0; 7] } else { vec![40, 102_150, 16, 12, 5_003, 48_211, 7] },
        looked: None,
        filling: false,
    })
}

/// Text that would disturb a terminal that it reached.
pub const HOSTILE: &str =
    "a\u{1b}[2J\u{9b}31m\u{202e}evil\u{200b}\u{7}\r\n\t漢字e\u{301}\u{1f600}\u{1f468}\u{200d}\u{1f469}";

pub fn hostile_job() -> JobRow {
    let long = HOSTILE.repeat(20_000);
    let mut row = job(1, JobState::Dead);
    (row.kind, row.queue, row.payload) = (HOSTILE.to_owned(), HOSTILE.to_owned(), long.clone());
    (row.error, row.progress) = (Some(long), Some(HOSTILE.to_owned()));
    row.metadata = [(HOSTILE.to_owned(), HOSTILE.to_owned())].into();
    row
}

pub fn hostile(view: View) -> Body {
    let long = HOSTILE.repeat(20_000);
    let row = hostile_job();
    let queue = QueueRow { name: HOSTILE.to_owned(), settings: HOSTILE.to_owned(), ..queue("a", 1) };
    let held = vec![Held { id: HOSTILE.to_owned(), kind: HOSTILE.to_owned(), since: NOON }];
    let worker = WorkerRow { host: HOSTILE.to_owned(), queues: vec![HOSTILE.to_owned()], held, ..worker(0) };
    match view {
        View::Overview => {
            let notices = vec![Notice {
                id: HOSTILE.to_owned(),
                subject: None,
                text: HOSTILE.to_owned(),
                since: None,
                bad: true,
            }];
            let (queues, workers, failures) = (vec![queue], vec![worker], vec![row]);
            let failed_runs = vec![other_samples::hostile_run()];
            Body::Overview(Box::new(Overview { queues, workers, rates: rates(), failures, failed_runs, notices }))
        }
        View::Queues => Body::List(Rows::Queues(vec![queue])),
        View::Workers => Body::List(Rows::Workers(vec![worker])),
        View::Jobs => Body::Jobs(JobsPart { rows: vec![row], ..JobsPart::default() }),
        View::Runs | View::Run | View::Schedules | View::Dlq | View::Events | View::Shards => {
            other_samples::hostile(view)
        }
        View::Job => Body::Job(Box::new(JobDetail {
            payload: long.clone(),
            result: Some(HOSTILE.to_owned()),
            raw: long.clone(),
            attempts: vec![AttemptRow { error: HOSTILE.to_owned(), ..AttemptRow::default() }],
            log: long,
            log_cut: true,
            job: row,
        })),
    }
}

pub fn empty(view: View) -> Body {
    match view {
        View::Overview => Body::Overview(Box::default()),
        View::Queues => Body::List(Rows::Queues(Vec::new())),
        View::Workers => Body::List(Rows::Workers(Vec::new())),
        View::Jobs => jobs(0),
        View::Runs | View::Run | View::Schedules | View::Dlq | View::Events | View::Shards => {
            other_samples::some(view, 0)
        }
        View::Job => Body::Job(Box::new(JobDetail {
            job: job(7, JobState::Pending),
            payload: "null".to_owned(),
            result: None,
            raw: "{}".to_owned(),
            attempts: Vec::new(),
            log: String::new(),
            log_cut: false,
        })),
    }
}

pub fn typical(view: View) -> Body {
    some(view, 3)
}

pub fn full(view: View) -> Body {
    some(view, 150)
}

fn some(view: View, n: u64) -> Body {
    let names = ["default", "reports", "mail"];
    let queue = |at: u64| match names.get(at as usize) {
        Some(name) => queue(name, 1_840 * (at + 1)),
        None => queue(&format!("tenant-{at}"), at),
    };
    match view {
        View::Overview => Body::Overview(Box::new(Overview {
            queues: (0..n).map(queue).collect(),
            workers: (0..n).map(worker).collect(),
            rates: rates(),
            failures: (0..n.min(20)).map(|at| job(at, JobState::Dead)).collect(),
            failed_runs: (2..n.min(5)).map(|at| other_samples::run(at, RunState::Failed)).collect(),
            notices: (0..n.saturating_sub(2))
                .map(|at| Notice {
                    id: format!("approval/{}/sign", id(3_000 + at)),
                    subject: Some(Subject::Approval { run: id(3_000 + at), step: "sign".to_owned() }),
                    text: format!("run {at} of orders: sign waits for an approval"),
                    since: Some(ago(94)),
                    bad: at % 2 == 1,
                })
                .collect(),
        })),
        View::Queues => Body::List(Rows::Queues((0..n).map(queue).collect())),
        View::Workers => Body::List(Rows::Workers((0..n).map(worker).collect())),
        View::Jobs => jobs(n),
        View::Runs | View::Run | View::Schedules | View::Dlq | View::Events | View::Shards => {
            other_samples::some(view, n)
        }
        View::Job => Body::Job(Box::new(JobDetail {
            job: job(7, JobState::Dead),
            payload: "{\n  \"to\": \"user7@example.com\",\n  \"template\": \"welcome\"\n}".to_owned(),
            result: None,
            raw: "{\n  \"id\": \"…\"\n}".to_owned(),
            attempts: (0..n.min(10))
                .map(|at| AttemptRow {
                    ended_at: ago(100 - at as i64),
                    started_at: Some(ago(101 - at as i64)),
                    worker: Some(id(900)),
                    error: format!("exit:137: killed, time {at}"),
                })
                .collect(),
            log: (0..n).map(|line| format!("line {line} of the log\n")).collect(),
            log_cut: n > 100,
        })),
    }
}
