//! What is shown beside a list, where there is room: the selected schedule, group, event or step as a
//! whole.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;

use super::job::{block, pair, render, wrapped};
use super::{look, moment, since};
use crate::domain::text::thousands;
use crate::tui::rows::schedules::ScheduleRow;
use crate::tui::rows::{EventRow, GroupRow, Rows, ShardRow, when};
use crate::tui::run_page::{RunDetail, TreeRow};
use crate::tui::state::State;
use crate::tui::theme::{Tone, step_sign};

/// The selected row of a list.
pub fn row(state: &State, frame: &mut Frame<'_>, area: Rect, rows: &Rows, at: usize) {
    let out = match rows {
        Rows::Schedules(rows) => rows.get(at).map(|row| schedule(state, row, area)),
        Rows::Groups(rows) => rows.get(at).map(|row| group(state, row, area)),
        Rows::Events(rows) => rows.get(at).map(|row| event(state, row, area)),
        Rows::Shards(rows) => rows.get(at).map(|row| shard(state, row, area)),
        _ => None,
    };
    let out = wrapped(state.theme, out.unwrap_or_default(), usize::from(area.width));
    render(frame, area, &out, 0);
}

fn schedule(state: &State, row: &ScheduleRow, area: Rect) -> Vec<Line<'static>> {
    let (theme, columns) = (state.theme, usize::from(area.width));
    let mut out = vec![
        pair(theme, "name", &row.name, Tone::Title),
        pair(theme, "rule", &format!("{} in {}", row.rule, row.timezone), Tone::Plain),
        pair(theme, "starts", &row.starts, Tone::Plain),
        pair(theme, "overlap", &format!("{}, catch-up {}", row.overlap, row.catchup), Tone::Plain),
        pair(theme, "ticked", &row.ticked.to_string(), Tone::Plain),
        pair(theme, "missed", &row.missed.to_string(), if row.missed > 0 { Tone::Bad } else { Tone::Plain }),
        pair(theme, "skipped", &row.skipped.to_string(), Tone::Plain),
        pair(theme, "in line", &row.waiting.to_string(), Tone::Plain),
    ];
    if let Some(at) = row.last_at {
        out.push(pair(theme, "last", &since(state, at), Tone::Plain));
    }
    let last = row.last_run.as_ref().map(|id| ("run", id)).or(row.last_job.as_ref().map(|id| ("job", id)));
    if let Some((noun, id)) = last {
        out.push(pair(theme, "started", &format!("{noun} {id}"), Tone::Plain));
    }
    let title = if row.paused { "NEXT TICKS, WERE IT NOT PAUSED" } else { "NEXT TICKS" };
    let ticks = row.ticks.iter().map(|at| format!("{:<17}  {}", moment(state, *at), when(Some(*at), look(state)).0));
    block(theme, &mut out, title, &ticks.collect::<Vec<_>>().join("\n"), Tone::Plain, columns);
    block(theme, &mut out, "INPUT", &row.input, Tone::Plain, columns);
    out
}

fn group(state: &State, row: &GroupRow, area: Rect) -> Vec<Line<'static>> {
    let (theme, columns) = (state.theme, usize::from(area.width));
    let ago = |at| when(Some(at), look(state)).0;
    let jobs = crate::domain::text::count(row.count, "job");
    let mut out = vec![
        pair(theme, "type", &row.kind, Tone::Title),
        pair(theme, "dead", &jobs, Tone::Bad),
        pair(theme, "last", &format!("{} ago", ago(row.last_at)), Tone::Plain),
        pair(theme, "first", &format!("{} ago", ago(row.first_at)), Tone::Plain),
        pair(theme, "queues", &row.queues.join(" "), Tone::Plain),
    ];
    if row.steps > 0 {
        let text = format!("{} of them do steps of runs, and are left to these", row.steps);
        out.push(pair(theme, "steps", &text, Tone::Wait));
    }
    block(theme, &mut out, "THE SAME IN ALL", &row.error, Tone::Bad, columns);
    let example = &row.example;
    let title = format!("THE ONE THAT DIED LAST: {}", example.id);
    block(theme, &mut out, &title, example.error.as_deref().unwrap_or_default(), Tone::Bad, columns);
    block(theme, &mut out, "ITS PAYLOAD", &example.payload, Tone::Plain, columns);
    block(theme, &mut out, "AS A FILTER", &row.filter, Tone::Faint, columns);
    out
}

fn event(state: &State, row: &EventRow, area: Rect) -> Vec<Line<'static>> {
    let (theme, columns) = (state.theme, usize::from(area.width));
    let mut out = vec![
        pair(theme, "event", &row.kind, Tone::Title),
        pair(theme, "at", &since(state, row.at), Tone::Plain),
        pair(theme, "id", &row.id, Tone::Faint),
    ];
    let attempt = row.attempt.map(|n| n.to_string());
    let facts = [
        ("job", &row.job),
        ("run", &row.run),
        ("step", &row.step),
        ("queue", &row.queue),
        ("worker", &row.worker),
        ("attempt", &attempt),
    ];
    for (name, text) in facts {
        out.extend(text.as_ref().map(|text| pair(theme, name, text, Tone::Plain)));
    }
    block(theme, &mut out, "DATA", row.data.as_deref().unwrap_or_default(), Tone::Plain, columns);
    out
}

fn shard(state: &State, row: &ShardRow, area: Rect) -> Vec<Line<'static>> {
    let (theme, columns) = (state.theme, usize::from(area.width));
    let sign = row.sign();
    let number = thousands;
    let mut out = vec![
        pair(theme, "shard", &row.id, Tone::Title),
        pair(theme, "state", &sign.text(theme.unicode), sign.tone),
        pair(theme, "map", &format!("{}, new work by {}", row.map, row.strategy), Tone::Plain),
        pair(theme, "workers", &row.workers.to_string(), if row.unclaimed { Tone::Bad } else { Tone::Plain }),
    ];
    if let Some(drain) = row.drain {
        let to = row.moved_to.map_or("what lies there is done there".to_owned(), |to| format!("carried to shard {to}"));
        let text = format!("{}% of {}, {to}", drain.percent(), number(drain.most));
        out.push(pair(theme, "drained", &text, Tone::Wait));
    }
    block(theme, &mut out, "URL", &row.url, Tone::Plain, columns);
    block(theme, &mut out, "TROUBLE", row.trouble.as_deref().unwrap_or_default(), Tone::Bad, columns);
    let title = if row.trouble.is_some() { "WHAT LAY THERE LAST" } else { "WHAT LIES THERE" };
    let kept = [
        ("pending", row.pending),
        ("running", row.running),
        ("retrying", row.retrying),
        ("scheduled", row.scheduled),
        ("dead", row.dead),
        ("finished", row.finished),
        ("live runs", row.runs),
        ("ended runs", row.finished_runs),
        ("schedules", row.schedules),
    ];
    let kept: Vec<String> = kept.iter().map(|(name, n)| format!("{name:<11} {:>12}", number(*n))).collect();
    block(theme, &mut out, title, &kept.join("\n"), Tone::Plain, columns);
    out
}

/// The selected step of a run.
pub fn step(state: &State, frame: &mut Frame<'_>, area: Rect, row: &TreeRow, detail: &RunDetail) {
    let (theme, columns) = (state.theme, usize::from(area.width));
    let mut out = vec![pair(theme, "step", &row.path, Tone::Title)];
    if !row.does.is_empty() {
        out.push(pair(theme, "does", &row.does, Tone::Plain));
    }
    if let Some(step) = &row.step {
        let sign = step_sign(step.state);
        out.push(pair(theme, "state", &sign.text(theme.unicode), sign.tone));
        let attempt = (step.attempt > 0).then(|| step.attempt.to_string());
        let started = step.started_at.map(|at| since(state, at));
        let finished = step.finished_at.map(|at| since(state, at));
        let approvers = step.approvers.as_ref().map(|names| match names.as_slice() {
            [] => "anybody".to_owned(),
            names => names.join(", "),
        });
        let items = row.items.map(|items| items.text());
        let facts = [
            ("attempt", &attempt),
            ("started", &started),
            ("ended", &finished),
            ("items", &items),
            ("waits for", &approvers),
            ("signal", &row.signal),
            ("job", &step.job),
            ("run", &step.child),
            ("worker", &step.worker),
            ("progress", &step.progress),
        ];
        for (name, text) in facts {
            out.extend(text.as_ref().map(|text| pair(theme, name, text, Tone::Plain)));
        }
        block(theme, &mut out, "ERROR", step.error.as_deref().unwrap_or_default(), Tone::Bad, columns);
    }
    block(theme, &mut out, "INPUT OF THE RUN", &detail.input, Tone::Plain, columns);
    block(theme, &mut out, "OUTPUT OF THE RUN", detail.output.as_deref().unwrap_or_default(), Tone::Plain, columns);
    render(frame, area, &wrapped(theme, out, columns), 0);
}
