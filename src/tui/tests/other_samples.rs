//! The same for runs, schedules, dead jobs and events.

use super::samples::{HOSTILE, NOON, ago, id, job};
use crate::domain::event::EventKind;
use crate::domain::{JobState, RunState, StepState};
use crate::tui::msg::{Body, Part};
use crate::tui::rows::groups::filter;
use crate::tui::rows::shards::Drain;
use crate::tui::rows::{EventRow, GroupRow, Rows, RunRow, ScheduleRow, ShardRow};
use crate::tui::run_page::{Items, Moment, Outline, RunDetail, StepLog, StepNow};
use crate::tui::views::View;

fn part(rows: Rows) -> Body {
    let looked = Some(match &rows {
        Rows::Groups(groups) => groups.iter().map(|group| group.count).sum(),
        rows => rows.len() as u64 + 20,
    });
    Body::Part(Part { rows, looked, ..Part::default() })
}

pub fn run(n: u64, state: RunState) -> RunRow {
    let is_over = state.is_terminal();
    RunRow {
        id: id(3_000 + n),
        workflow: ["order-saga", "nightly", "expense-approval"][(n % 3) as usize].to_owned(),
        state,
        error: (state == RunState::Failed).then(|| "step: ship failed: exit:1: no truck".to_owned()),
        parent: n.is_multiple_of(7).then(|| id(3_999)),
        key: None,
        created_at: ago(60 + n as i64),
        started_at: Some(ago(59 + n as i64)),
        finished_at: is_over.then(|| ago(n as i64)),
        steps: 5,
        ended: if is_over { 5 } else { 2 },
        failed: usize::from(state == RunState::Failed),
        active: if is_over { Vec::new() } else { vec!["reserve".to_owned(), "approve".to_owned()] },
        approvals: usize::from(n == 2),
        owed: if n == 5 { vec!["charge".to_owned()] } else { Vec::new() },
    }
}

const STATES: [RunState; 6] = [
    RunState::Running,
    RunState::Paused,
    RunState::Running,
    RunState::Compensating,
    RunState::Completed,
    RunState::Failed,
];

fn outline(id: &str, does: &str, needs: &[&str]) -> Outline {
    let needs = needs.iter().map(|id| (*id).to_owned()).collect();
    Outline { id: id.to_owned(), does: does.to_owned(), needs, ..Outline::default() }
}

fn moment(seconds: i64, kind: EventKind, step: Option<&str>) -> Moment {
    let data = (kind == EventKind::StepFailed).then(|| "exit:1: no".to_owned());
    Moment { at: ago(seconds), kind, step: step.map(str::to_owned), attempt: None, job: step.map(|_| id(77)), data }
}

/// A run with everything that can be in one: a list with `items`, a fork, a switch, an approval.
pub fn run_detail(items: u32) -> RunDetail {
    use EventKind as K;
    let approve = Outline { id: "approve".to_owned(), does: "approval, at most 1d".to_owned(), ..Outline::default() };
    let inside =
        vec![(Some("high".to_owned()), vec![approve]), (Some("else".to_owned()), vec![outline("pass", "set by", &[])])];
    let mut steps = vec![
        StepNow {
            attempt: 2,
            job: Some(id(77)),
            worker: Some(id(901)),
            started_at: Some(ago(50)),
            finished_at: Some(ago(48)),
            ..StepNow::new("validate", StepState::Completed)
        },
        StepNow {
            items: Some(Items { count: Some(items), completed: 3, failed: 1, active: 2 }),
            started_at: Some(ago(48)),
            attempt: 1,
            ..StepNow::new("reserve", StepState::Running)
        },
        StepNow { started_at: Some(ago(47)), attempt: 1, ..StepNow::new("route", StepState::Running) },
        StepNow {
            approvers: Some(vec!["group:finance".to_owned()]),
            started_at: Some(ago(46)),
            attempt: 1,
            ..StepNow::new("route/high/approve", StepState::Waiting)
        },
    ];
    for n in 0..items.min(600) {
        let state = [StepState::Completed, StepState::Running, StepState::Retrying, StepState::Failed][n as usize % 4];
        let error = matches!(state, StepState::Retrying | StepState::Failed).then(|| "exit:137: killed".to_owned());
        let progress = (state == StepState::Running).then(|| "40% half way".to_owned());
        let step = StepNow::new(&format!("reserve[{n}]"), state);
        steps.push(StepNow { attempt: 1 + n % 3, error, progress, job: Some(id(100 + u64::from(n))), ..step });
    }
    RunDetail {
        head: RunRow { ..run(0, RunState::Running) },
        version: "0a1b2c3d4e5f".to_owned(),
        input: "{\"order_id\":\"o-1\",\"amount\":1200}".to_owned(),
        output: None,
        outline: vec![
            outline("validate", "run ./bin/validate", &[]),
            Outline { each: true, ..outline("reserve", "run ./bin/reserve", &["validate"]) },
            Outline { inside, ..outline("route", "switch", &["validate"]) },
            Outline {
                signal: Some("paid".to_owned()),
                ..outline("paid", "wait for paid, at most 3d", &["reserve", "route"])
            },
            outline("ship", "run ./bin/ship", &["paid"]),
            Outline { last: true, ..outline("notify", "job notify.order", &[]) },
        ],
        steps,
        moments: vec![
            moment(51, K::RunStarted, None),
            moment(50, K::StepStarted, Some("validate")),
            moment(48, K::StepCompleted, Some("validate")),
            moment(48, K::StepStarted, Some("reserve")),
            moment(47, K::StepStarted, Some("route")),
            moment(46, K::StepWaiting, Some("route/high/approve")),
            moment(45, K::StepStarted, Some("reserve[0]")),
            moment(44, K::StepCompleted, Some("reserve[0]")),
            moment(44, K::StepStarted, Some("reserve[1]")),
            moment(43, K::StepFailed, Some("reserve[1]")),
        ],
        is_cut: false,
        log: Some(StepLog { job: id(77), text: "checking o-1\nit is fine\n".to_owned(), cut: false }),
    }
}

fn group(n: u64) -> GroupRow {
    let error = ["exit:137: killed (memory)", "http:503: host * is away", "timeout: took longer than *"];
    let error = error[(n % 3) as usize].to_owned();
    let kind = format!("resize-{}", n / 3);
    GroupRow {
        filter: filter(&kind, &error),
        kind,
        error,
        count: 1 + (150 - n.min(149)) * 7,
        steps: n % 2,
        queues: vec!["default".to_owned(), "reports".to_owned()],
        first_at: ago(7_000),
        last_at: ago(12 + n as i64),
        example: job(n, JobState::Dead),
    }
}

fn schedule(n: u64) -> ScheduleRow {
    ScheduleRow {
        name: format!("nightly-{n}"),
        rule: "0 3 * * *".to_owned(),
        timezone: "Europe/Berlin".to_owned(),
        starts: "workflow nightly".to_owned(),
        input: "{\"all\":true}".to_owned(),
        overlap: "skip".to_owned(),
        catchup: "none".to_owned(),
        paused: n == 1,
        next_at: if n == 1 { None } else { Some(ago(if n == 2 { 90 } else { -5_400 })) },
        ticks: (0..5).map(|day| ago(-5_400 - day * 86_400)).collect(),
        last_at: Some(ago(81_000)),
        last_job: None,
        last_run: Some(id(3_001)),
        waiting: usize::from(n == 3),
        ticked: 40 + n,
        skipped: n % 2,
        missed: u64::from(n == 0) * 3,
    }
}

fn event(n: u64) -> EventRow {
    let kinds = ["job.created", "job.started", "job.retried", "job.dead", "run.completed", "worker.lost"];
    let kind = kinds[(n % 6) as usize];
    EventRow {
        id: id(9_000 + n),
        at: ago(200 - n as i64),
        kind: kind.to_owned(),
        job: kind.starts_with("job").then(|| id(n)),
        run: kind.starts_with("run").then(|| id(3_000 + n)),
        step: None,
        queue: kind.starts_with("job").then(|| "default".to_owned()),
        worker: (n % 6 == 5).then(|| id(901)),
        attempt: (n % 6 == 2).then_some(2),
        data: (n % 6 == 3).then(|| "exit:137: killed (memory?)".to_owned()),
    }
}

/// One that is well, one that is away, one that drains, one that nobody works for, one that is gone.
pub fn shard(n: u64) -> ShardRow {
    let (away, drains, alone, gone) = (n % 5 == 1, n % 5 == 2, n % 5 == 3, n % 5 == 4);
    let state = if drains {
        "draining"
    } else if gone {
        "removed"
    } else {
        "active"
    };
    ShardRow {
        id: n.to_string(),
        url: format!("redis://redis-{n}:6379"),
        state: state.to_owned(),
        moved_to: (drains || gone).then_some(0),
        trouble: away.then(|| "connection refused".to_owned()),
        workers: if alone || gone { 0 } else { 2 },
        pending: if gone { 0 } else { 1_840 * (n + 1) },
        running: if gone { 0 } else { 16 },
        dead: if gone { 0 } else { 3 },
        done_per_s: Some(if gone { 0.0 } else { 812.4 }),
        trend: i8::from(!gone),
        drain: drains.then_some(Drain { left: 5_536, most: 20_000 }),
        unclaimed: alone,
        map: 7,
        strategy: "hash".to_owned(),
        ..ShardRow::default()
    }
}

/// So many rows; of a run, so many items.
pub fn some(view: View, n: u64) -> Body {
    match view {
        View::Runs => part(Rows::Runs((0..n).map(|at| run(at, STATES[(at % 6) as usize])).collect())),
        View::Dlq => part(Rows::Groups((0..n).map(group).collect())),
        View::Schedules => Body::List(Rows::Schedules((0..n).map(schedule).collect())),
        View::Events => part(Rows::Events((0..n).map(event).collect())),
        View::Shards => {
            // The fourth takes what lies on others, if it is there.
            let goes = |row: &ShardRow| row.moved_to.or((n > 3 && row.id != "3").then_some(3));
            let rows = (0..n).map(shard).map(|row| ShardRow { carried_to: goes(&row), ..row });
            Body::List(Rows::Shards(rows.collect()))
        }
        _ if n == 0 => {
            let head = RunRow { steps: 0, ..run(1, RunState::Pending) };
            let begun = RunDetail { moments: Vec::new(), steps: Vec::new(), outline: Vec::new(), ..run_detail(0) };
            Body::Run(Box::new(RunDetail { head, log: None, ..begun }))
        }
        _ => Body::Run(Box::new(run_detail(u32::try_from(n).unwrap_or(u32::MAX)))),
    }
}

pub fn hostile_run() -> RunRow {
    RunRow {
        workflow: HOSTILE.to_owned(),
        error: Some(HOSTILE.repeat(20_000)),
        key: Some(HOSTILE.to_owned()),
        active: vec![HOSTILE.to_owned()],
        ..run(5, RunState::Failed)
    }
}

pub fn hostile(view: View) -> Body {
    let text = HOSTILE.to_owned();
    let long = HOSTILE.repeat(20_000);
    match view {
        View::Runs => part(Rows::Runs(vec![hostile_run()])),
        View::Shards => {
            let row = ShardRow { url: text.clone(), trouble: Some(long), strategy: text, ..shard(0) };
            Body::List(Rows::Shards(vec![row]))
        }
        View::Dlq => {
            let example = super::samples::hostile_job();
            let row = GroupRow { kind: text.clone(), error: long, queues: vec![text], example, ..group(0) };
            part(Rows::Groups(vec![row]))
        }
        View::Schedules => {
            let row = ScheduleRow {
                name: text.clone(),
                rule: text.clone(),
                timezone: text.clone(),
                starts: text,
                input: long,
                ..schedule(0)
            };
            Body::List(Rows::Schedules(vec![row]))
        }
        View::Events => {
            let row = EventRow {
                kind: text.clone(),
                step: Some(text.clone()),
                queue: Some(text.clone()),
                worker: Some(text),
                data: Some(long),
                ..event(0)
            };
            part(Rows::Events(vec![row]))
        }
        _ => {
            let mut detail = run_detail(3);
            detail.head.workflow = text.clone();
            detail.head.error = Some(long.clone());
            detail.version = text.clone();
            detail.outline.push(outline(&text, &long, &["ship"]));
            detail.steps.push(StepNow {
                error: Some(long.clone()),
                progress: Some(text.clone()),
                worker: Some(text.clone()),
                job: Some(text.clone()),
                started_at: Some(NOON),
                ..StepNow::new(&text, StepState::Running)
            });
            detail.log = Some(StepLog { job: id(77), text: long, cut: true });
            Body::Run(Box::new(detail))
        }
    }
}
