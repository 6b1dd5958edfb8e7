//! One job: what it is, its payload, its errors, its earlier attempts, its log. Also the pane beside
//! the list of jobs.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::{clock, since, span};
use crate::tui::msg::JobDetail;
use crate::tui::rows::JobRow;
use crate::tui::state::State;
use crate::tui::text::{lines, short};
use crate::tui::theme::{Theme, Tone, job_sign};

/// Lines of one part that are drawn at most; the rest is for `y` and the commands.
const MOST: usize = 2_000;
/// Lines that one name gets at most.
const MOST_OF_ONE: usize = 6;

pub(super) fn pair(theme: Theme, name: &str, text: &str, tone: Tone) -> Line<'static> {
    Line::from(vec![span(theme, &format!(" {name:<9} "), Tone::Faint), span(theme, text, tone)])
}

fn facts(state: &State, job: &JobRow) -> Vec<Line<'static>> {
    let theme = state.theme;
    let sign = job_sign(job.state);
    let mut out = vec![
        pair(theme, "id", &job.id, Tone::Title),
        pair(theme, "type", &format!("{}  on queue {}", job.kind, job.queue), Tone::Plain),
        pair(theme, "state", &sign.text(theme.unicode), sign.tone),
        pair(
            theme,
            "attempt",
            &format!("{} of {}, priority {}", job.attempt, job.max_retries.saturating_add(1), job.priority),
            Tone::Plain,
        ),
        pair(theme, "created", &since(state, job.created_at), Tone::Plain),
    ];
    let mut add = |name: &str, text: Option<String>, tone| {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            out.push(pair(theme, name, &text, tone));
        }
    };
    let due = job.run_at > job.created_at;
    add("due", due.then(|| since(state, job.run_at)), Tone::Wait);
    add("started", job.started_at.map(|at| since(state, at)), Tone::Plain);
    add("ended", job.finished_at.map(|at| since(state, at)), Tone::Plain);
    add("worker", job.worker.clone(), Tone::Plain);
    add(
        "run",
        job.run_id.as_ref().map(|run| format!("{run}, step {}", job.step.as_deref().unwrap_or("?"))),
        Tone::Plain,
    );
    add("key", job.unique_key.clone(), Tone::Plain);
    add("crashes", (job.crashes > 0).then(|| job.crashes.to_string()), Tone::Bad);
    let meta: Vec<String> = job.metadata.iter().map(|(key, value)| format!("{key}={value}")).collect();
    add("metadata", Some(meta.join(" ")), Tone::Plain);
    add("progress", job.progress.clone(), Tone::Busy);
    out
}

/// A heading and a text below it.
pub(super) fn block(theme: Theme, out: &mut Vec<Line<'static>>, title: &str, text: &str, tone: Tone, columns: usize) {
    if text.is_empty() {
        return;
    }
    out.push(Line::default());
    out.push(Line::from(span(theme, &format!(" {title}"), Tone::Title)));
    for line in lines(text, columns.saturating_sub(2), MOST, theme.unicode) {
        out.push(Line::from(span(theme, &format!(" {line}"), tone)));
    }
}

/// The selected row of a list.
pub fn beside(state: &State, frame: &mut Frame<'_>, area: Rect, job: &JobRow) {
    let (theme, columns) = (state.theme, usize::from(area.width));
    let mut out = facts(state, job);
    block(theme, &mut out, "ERROR", job.error.as_deref().unwrap_or_default(), Tone::Bad, columns);
    block(theme, &mut out, "PAYLOAD", &job.payload, Tone::Plain, columns);
    block(theme, &mut out, "RESULT", job.result.as_deref().unwrap_or_default(), Tone::Plain, columns);
    render(frame, area, &wrapped(theme, out, columns), 0);
}

/// The whole of one.
pub fn draw(state: &State, frame: &mut Frame<'_>, area: Rect, detail: &JobDetail) {
    let page = state.page();
    let out = text(state, detail, usize::from(area.width));
    let last = out.len().saturating_sub(usize::from(area.height));
    let scroll = if page.follow { last } else { page.scroll.min(last) };
    render(frame, area, &out, scroll);
}

fn text(state: &State, detail: &JobDetail, columns: usize) -> Vec<Line<'static>> {
    let theme = state.theme;
    let job = &detail.job;
    let mut out = facts(state, job);
    block(theme, &mut out, "ERROR", job.error.as_deref().unwrap_or_default(), Tone::Bad, columns);
    block(theme, &mut out, "PAYLOAD", &detail.payload, Tone::Plain, columns);
    block(theme, &mut out, "RESULT", detail.result.as_deref().unwrap_or_default(), Tone::Plain, columns);
    let attempts: Vec<String> = detail
        .attempts
        .iter()
        .map(|attempt| {
            let worker = attempt.worker.as_deref().map_or("-", short);
            format!("{}  on {worker}  {}", clock(attempt.ended_at), attempt.error)
        })
        .collect();
    block(theme, &mut out, "EARLIER ATTEMPTS", &attempts.join("\n"), Tone::Plain, columns);
    let title = if detail.log_cut { "LOG (its beginning is not kept)" } else { "LOG" };
    block(theme, &mut out, title, &detail.log, Tone::Plain, columns);
    wrapped(theme, out, columns)
}

/// Names with their texts, of which those that are too long go on below themselves.
pub(super) fn wrapped(theme: Theme, out: Vec<Line<'static>>, columns: usize) -> Vec<Line<'static>> {
    let mut all = Vec::with_capacity(out.len());
    for line in out {
        let [name, text] = line.spans.as_slice() else {
            all.push(line);
            continue;
        };
        let room = columns.saturating_sub(name.width());
        if text.width() <= room {
            all.push(line);
            continue;
        }
        let space = " ".repeat(name.width());
        for (nth, part) in lines(&text.content, room, MOST_OF_ONE, theme.unicode).into_iter().enumerate() {
            let name = if nth == 0 { name.clone() } else { Span::raw(space.clone()) };
            all.push(Line::from(vec![name, Span::styled(part, text.style)]));
        }
    }
    all
}

pub(super) fn render(frame: &mut Frame<'_>, area: Rect, out: &[Line<'static>], scroll: usize) {
    for (line, y) in out.iter().skip(scroll).zip(area.y..area.y + area.height) {
        frame.render_widget(line, Rect { y, height: 1, ..area });
    }
}
