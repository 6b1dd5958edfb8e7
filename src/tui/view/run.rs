//! One run: what it is, the graph of its steps with one row a step, the log of the selected one below.
//! Looked at in its past, it says so and when.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Modifier;
use ratatui::text::{Line, Span};

use super::table::padded;
use super::{bar, both_ends, clock, rule, span};
use crate::domain::{Ms, StepState};
use crate::tui::layout::Layout;
use crate::tui::run_page::tree::Mark;
use crate::tui::run_page::{Known, NODE, RunDetail, TreeRow};
use crate::tui::state::State;
use crate::tui::text::{brief, fit, lines, short, width};
use crate::tui::theme::{Theme, Tone, run_sign, step_sign};

/// More of the graph's lines and of a step's name are not drawn.
const GUTTER: usize = 24;
const LABEL: usize = 28;

pub fn draw(state: &State, frame: &mut Frame<'_>, layout: &Layout, detail: &RunDetail) {
    let page = state.page();
    let Some(known) = &page.known else { return };
    head(state, frame, layout.page_tabs, detail, known);
    graph(state, frame, (layout.titles, layout.list), known);
    if let Some(area) = layout.detail {
        bar(state, frame, area);
        if let Some(row) = page.tree_row() {
            super::beside::step(state, frame, area, row, detail);
        }
    }
    if let Some(below) = layout.below {
        log(state, frame, below, detail);
    }
}

/// Two lines: what it is and how it stands; and when that was, what it is about.
fn head(state: &State, frame: &mut Frame<'_>, area: Rect, detail: &RunDetail, known: &Known) {
    let (theme, run) = (state.theme, &detail.head);
    let sign = run_sign(known.state);
    let until = known.at.or(run.finished_at).unwrap_or(state.now);
    let took = run.started_at.map(|from| format!("  for {}", brief(until.since(from)))).unwrap_or_default();
    let mut left = vec![
        span(theme, &format!(" {}  ", run.workflow), Tone::Title),
        span(theme, &sign.text(theme.unicode), sign.tone),
        span(theme, &took, Tone::Plain),
    ];
    if let Some(parent) = &run.parent {
        left.push(span(theme, &format!("  called by {}", short(parent)), Tone::Faint));
    }
    if let Some(key) = &run.key {
        left.push(span(theme, &format!("  key {key}"), Tone::Faint));
    }
    let right = span(theme, &format!("version {} ", detail.version.get(..8).unwrap_or_default()), Tone::Faint);
    both_ends(frame, Rect { height: area.height.min(1), ..area }, Line::from(left), Line::from(right));
    let second = Rect { y: area.y + 1, height: area.height.saturating_sub(1).min(1), ..area };
    frame.render_widget(second_line(state, detail, usize::from(area.width)), second);
}

fn second_line(state: &State, detail: &RunDetail, columns: usize) -> Line<'static> {
    let (theme, page) = (state.theme, state.page());
    let all = detail.moments.len();
    if let Some(moment) = page.moment {
        let last = moment.checked_sub(1).and_then(|at| detail.moments.get(at));
        let what = match last {
            Some(last) => {
                let step = last.step.as_deref().map_or(String::new(), |step| format!(" {step}"));
                let data = last.data.as_deref().map_or(String::new(), |data| format!("  {data}"));
                format!("{}  {}{step}{data}", exact(last.at), last.kind.as_str())
            }
            None => "before it began".to_owned(),
        };
        let text = format!(" {} event {moment} of {all}  {what}", theme.sign("◀ in the past:", "< in the past:"));
        return Line::from(span(theme, &fit(&text, columns, theme.unicode), Tone::Wait));
    }
    let (name, text, tone) = match (&detail.head.error, &detail.output) {
        _ if !detail.head.owed.is_empty() => {
            ("owes", format!("the undo of {}", detail.head.owed.join(", ")), Tone::Bad)
        }
        (Some(error), _) => ("error", error.clone(), Tone::Bad),
        (None, Some(output)) => ("output", output.clone(), Tone::Plain),
        (None, None) => ("input", detail.input.clone(), Tone::Plain),
    };
    let cut = if detail.is_cut { "  (a long history: without its items)" } else { "" };
    let room = columns.saturating_sub(name.len() + 3 + cut.len());
    let text = fit(&text, room, theme.unicode).into_owned();
    Line::from(vec![
        span(theme, &format!(" {name} "), Tone::Faint),
        span(theme, &text, tone),
        span(theme, cut, Tone::Faint),
    ])
}

/// `14:03:07.123`
fn exact(at: Ms) -> String {
    let text = at.rfc3339();
    text.get(11..23).map_or(text.clone(), str::to_owned)
}

struct Widths {
    gutter: usize,
    label: usize,
    /// The worker is shown.
    wide: bool,
}

fn graph(state: &State, frame: &mut Frame<'_>, areas: (Rect, Rect), known: &Known) {
    let (titles, list) = areas;
    let (theme, page) = (state.theme, state.page());
    let wide = list.width >= 90;
    let longest = |of: fn(&TreeRow) -> usize, most: usize| page.tree.iter().map(of).max().unwrap_or(1).clamp(1, most);
    let widths = Widths {
        gutter: longest(|row| row.gutter.chars().count(), GUTTER),
        label: longest(|row| width(&row.label) + 2, LABEL).max(6),
        wide,
    };
    let worker = if wide { "WORKER   " } else { "" };
    let title = format!(
        " {:<2$}{:<3$} STATE          TRY STARTED     TOOK {worker}ABOUT",
        "",
        "STEP",
        widths.gutter + 1,
        widths.label
    );
    frame.render_widget(span(theme, &title, Tone::Title), titles);
    if page.tree.is_empty() {
        frame.render_widget(span(theme, " it has not begun: it waits for its turn", Tone::Faint), list);
        return;
    }
    for (nth, row) in page.tree.iter().enumerate().skip(page.cursor.top).take(usize::from(list.height)) {
        let y = list.y + u16::try_from(nth - page.cursor.top).unwrap_or(u16::MAX);
        let mut line = line(state, row, known, &widths, usize::from(list.width));
        if nth == page.cursor.at {
            line.spans[0] = Span::styled(theme.sign("▌", ">"), theme.style(Tone::Busy));
            line = line.style(theme.selected().add_modifier(Modifier::BOLD));
        }
        frame.render_widget(line, Rect { y, height: 1, ..list });
    }
}

/// The lines of the graph in the ASCII set.
fn ascii(c: char) -> char {
    match c {
        '│' | '┤' => '|',
        '─' => '-',
        '╮' | '┬' => '.',
        '╯' | '┴' => '\'',
        '┼' => '+',
        c => c,
    }
}

fn line(state: &State, row: &TreeRow, known: &Known, widths: &Widths, columns: usize) -> Line<'static> {
    let theme = state.theme;
    let step = row.step.as_ref();
    let sign = step.map(|step| step_sign(step.state));
    let mut spans = vec![Span::raw(" ")];
    // What is too deep loses its left side: the step's own sign is at the right.
    let all: Vec<char> = row.gutter.chars().collect();
    let shown = &all[all.len().saturating_sub(widths.gutter)..];
    for c in shown {
        spans.push(match (*c, sign, theme.unicode) {
            (NODE, Some(sign), unicode) => {
                Span::styled(if unicode { sign.glyph } else { sign.ascii }, theme.style(sign.tone))
            }
            (NODE, None, _) => Span::styled(theme.sign("·", "."), theme.style(Tone::Faint)),
            (c, _, true) => Span::styled(c.to_string(), theme.style(Tone::Faint)),
            (c, _, false) => Span::styled(ascii(c).to_string(), theme.style(Tone::Faint)),
        });
    }
    spans.push(Span::raw(" ".repeat((widths.gutter + 1).saturating_sub(shown.len()))));
    let mark = match row.mark {
        Mark::Open => theme.sign("▾ ", "v "),
        Mark::Folded => theme.sign("▸ ", "+ "),
        Mark::Leaf => "",
    };
    let tone = if step.is_none() { Tone::Faint } else { Tone::Plain };
    let label = padded(theme, &format!("{mark}{}", row.label), widths.label, false);
    spans.push(Span::styled(label, theme.style(tone)));
    spans.push(Span::raw(" "));
    match sign {
        Some(sign) => {
            let text = padded(theme, &sign.text(theme.unicode), 14, false);
            spans.push(Span::styled(text, theme.style(sign.tone)));
        }
        None => spans.push(Span::raw(" ".repeat(14))),
    }
    spans.extend(times(state, row, known, widths));
    let used = Line::from(spans.clone()).width() + 1;
    let (text, tone) = about(row);
    spans.push(Span::raw(" "));
    spans.push(span(theme, &fit(&text, columns.saturating_sub(used), theme.unicode), tone));
    Line::from(spans)
}

/// Attempt, start, how long it took, and who does it.
fn times(state: &State, row: &TreeRow, known: &Known, widths: &Widths) -> Vec<Span<'static>> {
    let theme = state.theme;
    let step = row.step.as_ref();
    let attempt = step.map_or(0, |step| step.attempt);
    let tone = if attempt > 1 { Tone::Wait } else { Tone::Plain };
    let attempt = if attempt == 0 { String::new() } else { attempt.to_string() };
    let started = step.and_then(|step| step.started_at).map_or(String::new(), clock);
    let took = step.and_then(|step| {
        let from = step.started_at?;
        let is_over = step.state.has_ended();
        let until = step.finished_at.filter(|_| is_over).or(known.at).unwrap_or(state.now);
        Some(brief(until.since(from)))
    });
    let is_busy = step.is_some_and(|step| step.state == StepState::Running);
    let mut spans = vec![
        span(theme, &format!("{attempt:>4} "), tone),
        span(theme, &format!("{started:<9} "), Tone::Faint),
        span(theme, &format!("{:>6}", took.unwrap_or_default()), if is_busy { Tone::Busy } else { Tone::Plain }),
    ];
    if widths.wide {
        let worker = step.and_then(|step| step.worker.as_deref()).map_or("", short);
        spans.push(span(theme, &format!(" {}", padded(theme, worker, 8, false)), Tone::Faint));
    }
    spans
}

/// What is said of it: why it failed, how far it is, for whom it waits, what it does.
fn about(row: &TreeRow) -> (String, Tone) {
    let Some(step) = &row.step else {
        let last = if row.last { "finally: " } else { "" };
        return (format!("{last}{}", row.does), Tone::Faint);
    };
    if let Some(approvers) = &step.approvers {
        let who = if approvers.is_empty() { "anybody".to_owned() } else { approvers.join(", ") };
        return (format!("waits for {who}: a approves, X rejects"), Tone::Wait);
    }
    if let Some(items) = row.items {
        let tone = if items.failed > 0 { Tone::Bad } else { Tone::Plain };
        return (items.text(), tone);
    }
    match (&step.error, &step.progress) {
        (_, Some(progress)) if step.state == StepState::Running => (progress.clone(), Tone::Busy),
        (Some(error), _) => {
            let is_bad = matches!(step.state, StepState::Failed | StepState::Retrying);
            (error.clone(), if is_bad { Tone::Bad } else { Tone::Faint })
        }
        _ => (row.does.clone(), Tone::Faint),
    }
}

/// What the selected step has printed; to its end, if it is followed.
fn log(state: &State, frame: &mut Frame<'_>, area: Rect, detail: &RunDetail) {
    let (theme, page) = (state.theme, state.page());
    if area.height < 2 {
        return;
    }
    rule(state, frame, Rect { height: 1, ..area });
    let title = Rect { y: area.y + 1, height: 1, ..area };
    let row = page.tree_row();
    let job = row.and_then(TreeRow::job);
    let here = detail.log.as_ref().filter(|log| Some(log.job.as_str()) == job);
    let name = row.map_or(String::new(), |row| row.path.clone());
    let told = match (job, here) {
        (None, _) => "no job",
        (Some(_), None) => theme.sign("…", "..."),
        (Some(_), Some(log)) if log.text.is_empty() => "nothing printed",
        (Some(_), Some(log)) if log.cut => "its beginning is left out",
        _ => "",
    };
    let follow = if page.follow { "followed " } else { "" };
    let left = vec![
        span(theme, " LOG ", Tone::Title),
        span(theme, &name, Tone::Plain),
        span(theme, &format!("  {told}"), Tone::Faint),
    ];
    both_ends(frame, title, Line::from(left), Line::from(span(theme, follow, Tone::Faint)));
    let Some(log) = here else { return };
    let area = Rect { y: area.y + 2, height: area.height - 2, ..area };
    let (columns, height) = (usize::from(area.width).saturating_sub(2), usize::from(area.height));
    let shown = tail(theme, &log.text, columns, height, page.follow);
    for (line, y) in shown.iter().zip(area.y..area.y + area.height) {
        frame.render_widget(span(theme, &format!(" {line}"), Tone::Plain), Rect { y, height: 1, ..area });
    }
}

/// The last lines of a text, or the first.
fn tail(theme: Theme, text: &str, columns: usize, height: usize, last: bool) -> Vec<String> {
    if !last {
        return lines(text, columns, height, theme.unicode);
    }
    // No more than so many lines of the text can be needed, and no line of it may cost more than it shows.
    let from =
        text.trim_end_matches('\n').rmatch_indices('\n').nth(height.saturating_sub(1)).map_or(0, |(at, _)| at + 1);
    let all = lines(&text[from..], columns, 20_000, theme.unicode);
    all[all.len().saturating_sub(height)..].to_vec()
}
