//! 1 Overview: how much is done, how long it takes, the queues, who works, what failed last.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Modifier;
use ratatui::text::{Line, Span};

use super::table::padded;
use super::{clock, look, rule, span, table};
use crate::domain::text::thousands;
use crate::tui::layout::Layout;
use crate::tui::msg::{Failure, Overview, Percentiles, Rates};
use crate::tui::rows::{WorkerRow, queues};
use crate::tui::state::State;
use crate::tui::text::{brief, fit, short, width};
use crate::tui::theme::{Theme, Tone, job_sign, run_sign};

pub fn draw(state: &State, frame: &mut Frame<'_>, layout: &Layout, overview: &Overview) {
    let top = Rect { height: 2.min(layout.body.height), ..layout.body };
    rates(state, frame, top, &overview.rates);
    rule(
        state,
        frame,
        Rect { y: layout.body.y + 2, height: 1.min(layout.body.height.saturating_sub(2)), ..layout.body },
    );
    table::draw(state, frame, (layout.titles, layout.list), &overview.queues, queues::QUEUES);
    if let Some(below) = layout.below {
        let mut rest = below;
        // Workers at most as many lines as failures: both are only begun here.
        let half = usize::from(below.height / 2);
        workers(state, frame, &mut rest, &overview.workers, half);
        notices(state, frame, &mut rest, overview);
        failures(state, frame, &mut rest, overview);
    }
}

/// Takes one line off an area.
fn next(area: &mut Rect) -> Option<Rect> {
    if area.height == 0 {
        return None;
    }
    let line = Rect { height: 1, ..*area };
    (area.y, area.height) = (area.y + 1, area.height - 1);
    Some(line)
}

fn rates(state: &State, frame: &mut Frame<'_>, area: Rect, rates: &Rates) {
    let theme = state.theme;
    let columns = usize::from(area.width);
    // The percentiles take what they need; the bars get the rest.
    let right = 42;
    let bars = columns.saturating_sub(right + 8 + 9);
    let lines = [
        ("done/s", &rates.done, Tone::Good, "wait", rates.wait),
        ("fail/s", &rates.failed, Tone::Bad, "run ", rates.run),
    ];
    for (nth, (name, counts, tone, what, percentiles)) in (0u16..).zip(lines) {
        let y = area.y + nth;
        if nth >= area.height {
            break;
        }
        // The last second is still going on: the one before it is told as the number.
        let latest = counts.len().checked_sub(2).and_then(|at| counts.get(at)).copied().unwrap_or(0);
        let number = if rates.is_current { thousands(u64::from(latest)) } else { "-".to_owned() };
        let tone = if latest == 0 { Tone::Faint } else { tone };
        let mut spans = vec![
            span(theme, &format!(" {name} "), Tone::Plain),
            span(theme, &sparkline(theme, counts, bars), tone),
            span(theme, &format!("{number:>8}"), tone),
            span(theme, theme.sign(" │ ", " | "), Tone::Faint),
        ];
        spans.push(span(theme, &format!("{what}  {}", percentiles_text(theme, percentiles)), Tone::Plain));
        frame.render_widget(Line::from(spans), Rect { y, height: 1, ..area });
    }
}

fn percentiles_text(theme: Theme, found: Option<Percentiles>) -> String {
    let none = theme.sign("–", "-");
    let show = |ms: Option<u64>| ms.map_or_else(|| none.to_owned(), |ms| brief(Duration::from_millis(ms)));
    let [p50, p95, p99] = [found.map(|p| p.p50), found.map(|p| p.p95), found.map(|p| p.p99)].map(show);
    format!("p50 {p50:>6}  p95 {p95:>6}  p99 {p99:>6}")
}

/// The last counts as bars, the latest at the right; zero is the lowest.
fn sparkline(theme: Theme, counts: &[u32], columns: usize) -> String {
    let bars = theme.bars();
    let shown = &counts[counts.len().saturating_sub(columns)..];
    let most = shown.iter().copied().max().unwrap_or(0).max(1);
    let bar = |count: &u32| {
        let level = (u64::from(*count) * (bars.len() as u64 - 1)).div_ceil(u64::from(most));
        bars[usize::try_from(level).unwrap_or(0).min(bars.len() - 1)]
    };
    let text: String = shown.iter().map(bar).collect();
    format!("{}{text}", " ".repeat(columns.saturating_sub(width(&text))))
}

fn workers(state: &State, frame: &mut Frame<'_>, rest: &mut Rect, workers: &[WorkerRow], most: usize) {
    let theme = state.theme;
    let Some(line) = next(rest) else { return };
    rule(state, frame, line);
    let Some(line) = next(rest) else { return };
    let mut title = vec![span(theme, " WORKERS", Tone::Title)];
    if workers.is_empty() {
        title.push(span(theme, "  none: nothing is being done", Tone::Wait));
    }
    frame.render_widget(Line::from(title), line);
    for worker in workers.iter().take(most.saturating_sub(2).max(1)) {
        let Some(line) = next(rest) else { return };
        let now = look(state).now;
        let does = match worker.held.first() {
            None => "idle".to_owned(),
            Some(held) => format!("{} {} since {}", held.kind, short(&held.id), brief(now.since(held.since))),
        };
        let state_word = if worker.draining { "draining" } else { "" };
        let head = format!(
            " {}  {:<16} {:>7} ",
            short(&worker.id),
            fit(&worker.host, 16, theme.unicode),
            format!("{}/{}", worker.running, worker.concurrency),
        );
        let mut spans = vec![span(theme, &head, Tone::Plain)];
        if worker.draining {
            spans.push(span(theme, &format!("{state_word} "), Tone::Wait));
        }
        let room = usize::from(line.width).saturating_sub(Line::from(spans.clone()).width() + 1);
        spans.push(Span::raw(" "));
        spans.push(span(
            theme,
            &fit(&does, room, theme.unicode),
            if worker.held.is_empty() { Tone::Faint } else { Tone::Busy },
        ));
        frame.render_widget(Line::from(spans), line);
    }
}

/// What a person has to do something about; at most half of what is left.
fn notices(state: &State, frame: &mut Frame<'_>, rest: &mut Rect, overview: &Overview) {
    let (theme, notices) = (state.theme, overview.notices.as_slice());
    if notices.is_empty() || rest.height < 4 {
        return;
    }
    let most = usize::from(rest.height / 2).saturating_sub(2).max(1);
    let Some(line) = next(rest) else { return };
    rule(state, frame, line);
    let Some(line) = next(rest) else { return };
    let more = notices.len().saturating_sub(most);
    let more = if more > 0 { format!("  and {more} more") } else { String::new() };
    let title = vec![span(theme, " ATTENTION", Tone::Title), span(theme, &more, Tone::Faint)];
    frame.render_widget(Line::from(title), line);
    let selected = state.page().cursor.at.checked_sub(overview.starts().0).filter(|at| *at < notices.len());
    let from = selected.map_or(0, |at| (at + 1).saturating_sub(most));
    for (nth, notice) in notices.iter().enumerate().skip(from).take(most) {
        let Some(line) = next(rest) else { return };
        let tone = if notice.bad { Tone::Bad } else { Tone::Wait };
        let since = notice.since.map_or(String::new(), |at| brief(look(state).now.since(at)));
        let text = fit(&notice.text, usize::from(line.width).saturating_sub(12), theme.unicode).into_owned();
        let sign = if notice.bad { theme.sign("✗", "!") } else { theme.sign("◷", "@") };
        let spans = vec![
            span(theme, &format!(" {sign} "), tone),
            span(theme, &text, Tone::Plain),
            span(theme, &format!("  {since}"), Tone::Faint),
        ];
        frame.render_widget(selectable(state, spans, selected == Some(nth)), line);
    }
}

/// A line that keys may be on.
fn selectable(state: &State, mut spans: Vec<Span<'static>>, selected: bool) -> Line<'static> {
    if !selected {
        return Line::from(spans);
    }
    if let Some(first) = spans.first_mut() {
        let text = first.content.replacen(' ', state.theme.sign("▌", ">"), 1);
        first.content = text.into();
    }
    Line::from(spans).style(state.theme.selected().add_modifier(Modifier::BOLD))
}

fn failures(state: &State, frame: &mut Frame<'_>, rest: &mut Rect, overview: &Overview) {
    let (theme, failures) = (state.theme, overview.latest());
    let Some(line) = next(rest) else { return };
    rule(state, frame, line);
    let Some(line) = next(rest) else { return };
    let mut title = vec![span(theme, " LATEST FAILURES", Tone::Title)];
    if failures.is_empty() {
        title.push(span(theme, "  none", Tone::Faint));
    }
    frame.render_widget(Line::from(title), line);
    let room = usize::from(rest.height).max(1);
    let selected = state.page().cursor.at.checked_sub(overview.starts().1).filter(|at| *at < failures.len());
    let from = selected.map_or(0, |at| (at + 1).saturating_sub(room));
    for (nth, failure) in failures.iter().enumerate().skip(from) {
        let Some(line) = next(rest) else { return };
        frame.render_widget(selectable(state, failed(state, failure, line.width), selected == Some(nth)), line);
    }
}

/// One line: when, where, what, which, why.
fn failed(state: &State, failure: &Failure<'_>, columns: u16) -> Vec<Span<'static>> {
    let theme = state.theme;
    let (place, what, error, tone) = match failure {
        Failure::Job(job) => (&*job.queue, &job.kind, &job.error, job_sign(job.state).tone),
        Failure::Run(run) => ("workflow", &run.workflow, &run.error, run_sign(run.state).tone),
    };
    let head = format!(
        "{}  {} {} {}  ",
        clock(failure.at()).trim_end_matches('Z'),
        padded(theme, place, 10, false),
        padded(theme, what, 14, false),
        short(failure.id()),
    );
    let room = usize::from(columns).saturating_sub(width(&head) + 3);
    let error = fit(error.as_deref().unwrap_or_default(), room, theme.unicode).into_owned();
    vec![
        span(theme, &format!(" {} ", theme.sign("✗", "!")), tone),
        span(theme, &head, Tone::Plain),
        span(theme, &error, Tone::Plain),
    ]
}
