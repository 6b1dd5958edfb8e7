//! The frame, from the state alone: line 1 and 2, the page, the footer, the flash line, and what lies
//! over them. One file a view. Knows no clock and no store.

mod beside;
mod job;
mod jobs;
mod overview;
mod popup;
mod run;
mod table;

use ratatui::Frame;
use ratatui::layout::{Alignment, Rect};
use ratatui::style::Modifier;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::keys;
use super::layout::{self, LEAST, Layout};
use super::msg::{Body, Part};
use super::rows::{Look, Rows, when};
use super::state::{Link, Overlay, State};
use super::text::{clean, fit, lines, width};
use super::theme::{Theme, Tone};
use crate::domain::Ms;
use crate::domain::text::{count, thousands};

/// Draws everything.
pub fn view(state: &State, frame: &mut Frame<'_>) {
    if layout::is_too_small(state.size) {
        return too_small(state, frame);
    }
    let layout = layout::of(state);
    header(state, frame, layout.header);
    tabs(state, frame, layout.tabs);
    rule(state, frame, layout.rule);
    page(state, frame, &layout);
    rule(state, frame, layout.footer_rule);
    footer(state, frame, layout.footer);
    flash(state, frame, layout.flash);
    if state.is_lost() {
        // What is shown is of the past.
        let buffer = frame.buffer_mut();
        buffer.set_style(layout.body, ratatui::style::Style::new().add_modifier(Modifier::DIM));
    }
    popup::draw(state, frame, layout.body);
}

fn too_small(state: &State, frame: &mut Frame<'_>) {
    let (columns, rows) = state.size;
    let text = format!("goflow top needs {}x{}; this is {columns}x{rows}", LEAST.0, LEAST.1);
    let text = fit(&text, usize::from(columns), state.theme.unicode).into_owned();
    let area = frame.area();
    frame.render_widget(Paragraph::new(text), Rect { height: area.height.min(1), ..area });
}

/// What cells look at.
pub(super) fn look(state: &State) -> Look {
    Look { now: state.now, unicode: state.theme.unicode }
}

/// The time of day in UTC: `14:03:07Z`.
pub(super) fn clock(at: Ms) -> String {
    let text = at.rfc3339();
    text.get(11..19).map_or(text.clone(), |time| format!("{time}Z"))
}

/// A moment as far as it matters: on this day the time, else the day and the minute.
pub(super) fn moment(state: &State, at: Ms) -> String {
    let (text, today) = (at.rfc3339(), state.now.rfc3339());
    match (text.get(..10), text.get(11..16)) {
        (Some(day), Some(minute)) if Some(day) != today.get(..10) => format!("{day} {minute}Z"),
        _ => clock(at),
    }
}

/// How long ago a moment is, and which.
pub(super) fn since(state: &State, at: Ms) -> String {
    let (age, _) = when(Some(at), look(state));
    let ago = if at > state.now { "" } else { " ago" };
    format!("{age}{ago}, {}", moment(state, at))
}

/// A piece of foreign or own text, harmless.
pub(super) fn span(theme: Theme, text: &str, tone: Tone) -> Span<'static> {
    Span::styled(clean(text, theme.unicode).into_owned(), theme.style(tone))
}

/// A text that says why there is nothing else, in lines that fit an area.
pub(super) fn lines_in(state: &State, text: &str, area: Rect) -> Vec<Line<'static>> {
    let all = lines(text, usize::from(area.width).saturating_sub(2), usize::from(area.height), state.theme.unicode);
    all.iter().map(|line| Line::from(span(state.theme, &format!(" {line}"), Tone::Faint))).collect()
}

/// A text at the left and one at the right of a line; the left one gives way.
pub(super) fn both_ends(frame: &mut Frame<'_>, area: Rect, left: Line<'_>, right: Line<'_>) {
    let room = area.width.saturating_sub(u16::try_from(right.width()).unwrap_or(u16::MAX));
    frame.render_widget(left, Rect { width: room, ..area });
    frame.render_widget(Paragraph::new(right).alignment(Alignment::Right), area);
}

fn header(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let theme = state.theme;
    let link = link(state);
    let time = format!("   {}", clock(state.now));
    let right = Line::from(vec![link, span(theme, &time, Tone::Plain), span(theme, "   ? help ", Tone::Faint)]);
    let mut left = vec![span(theme, " goflow top  ", Tone::Title)];
    let room = usize::from(area.width).saturating_sub(right.width() + 15);
    let arrow = theme.sign(" › ", " > ");
    let crumbs = state.stack.iter().map(super::state::Page::title).collect::<Vec<_>>().join(arrow);
    let crumbs = if state.stack.len() > 1 { format!("  {crumbs}") } else { String::new() };
    // On a narrow screen where one is counts for more than which store it is.
    let store = fit(&state.about.store, room.saturating_sub(width(&crumbs)), theme.unicode).into_owned();
    left.push(span(theme, &store, Tone::Plain));
    left.push(span(theme, &crumbs, Tone::Busy));
    both_ends(frame, area, Line::from(left), right);
}

fn link(state: &State) -> Span<'static> {
    let theme = state.theme;
    let dot = theme.sign("●", "*");
    let every = super::text::brief(std::time::Duration::from_millis(state.interval));
    let every = every.replace(".0s", "s");
    match &state.link {
        _ if state.frozen => span(theme, &format!("{} frozen", theme.sign("❄", "#")), Tone::Wait),
        Link::Waiting => span(theme, &format!("{} connecting", theme.sign("◌", ".")), Tone::Faint),
        Link::Live => span(theme, &format!("{dot} live {every}"), Tone::Good),
        Link::Lost { since, retry_at, .. } => {
            let left = retry_at.since(state.now).as_millis().div_ceil(1_000);
            let text = format!("{} lost since {}, retry in {left}s", theme.sign("○", "x"), clock(*since));
            span(theme, &text, Tone::Bad)
        }
    }
}

fn tabs(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let theme = state.theme;
    let (mut spans, mut at) = (Vec::new(), 0);
    for tab in layout::tabs(state) {
        let style = if tab.view == state.tab() { theme.selected() } else { theme.style(Tone::Plain) };
        spans.push(Span::raw(" ".repeat(usize::from(tab.x.saturating_sub(at)))));
        at = tab.x + u16::try_from(tab.text.len()).unwrap_or(0);
        spans.push(Span::styled(tab.text, style));
    }
    let right = vec![span(theme, state.note(), Tone::Wait)];
    both_ends(frame, area, Line::from(spans), Line::from(right));
}

/// A line across.
pub(super) fn rule(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let line = state.theme.sign("─", "-").repeat(usize::from(area.width));
    frame.render_widget(Span::styled(line, state.theme.style(Tone::Faint)), area);
}

fn page(state: &State, frame: &mut Frame<'_>, layout: &Layout) {
    let page = state.page();
    match &page.body {
        None => {
            let text = match (&state.link, &page.refused) {
                (Link::Lost { why, .. }, _) | (_, Some(why)) => why,
                _ => state.theme.sign("…", "..."),
            };
            let lines = lines_in(state, text, layout.body);
            for (line, y) in lines.into_iter().zip(layout.body.y..layout.body.y + layout.body.height) {
                frame.render_widget(line, Rect { y, height: 1, ..layout.body });
            }
        }
        Some(Body::Overview(overview)) => overview::draw(state, frame, layout, overview),
        Some(Body::List(rows) | Body::Part(Part { rows, .. })) => {
            page_tabs(state, frame, layout.page_tabs);
            table::rows(state, frame, layout, rows);
            if let Some(area) = layout.detail {
                bar(state, frame, area);
                beside::row(state, frame, area, rows, page.cursor.at);
            }
        }
        Some(Body::Jobs(part)) => jobs::draw(state, frame, layout, part),
        Some(Body::Job(detail)) => job::draw(state, frame, layout.body, detail),
        Some(Body::Run(detail)) => run::draw(state, frame, layout, detail),
    }
}

/// A line between a list and what is beside it.
pub(super) fn bar(state: &State, frame: &mut Frame<'_>, beside: Rect) {
    let line = state.theme.sign("│", "|");
    for y in beside.y..beside.y + beside.height {
        let at = Rect { x: beside.x.saturating_sub(1), y, width: 1, height: 1 };
        frame.render_widget(Span::styled(line, state.theme.style(Tone::Faint)), at);
    }
}

/// A shorter word for a state, where there is little room.
pub(super) fn short_word(state: &str) -> &str {
    match state {
        "pending" => "pend",
        "running" => "run",
        "retrying" => "retry",
        "scheduled" => "sched",
        "completed" => "done",
        "cancelled" => "cancel",
        "compensating" => "undoing",
        "compensated" => "undone",
        word => word,
    }
}

/// The names of the tabs within the page.
fn page_tabs(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let (theme, page) = (state.theme, state.page());
    let mut spans = vec![Span::raw(" ")];
    for (nth, tab) in page.tabs().iter().enumerate() {
        let name = if area.width < 100 && nth != page.tab { short_word(tab) } else { tab };
        let style = if nth == page.tab { theme.selected() } else { theme.style(Tone::Plain) };
        spans.push(Span::styled(name.to_owned(), style));
        spans.push(Span::raw("  "));
    }
    frame.render_widget(Line::from(spans), area);
}

fn footer(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let theme = state.theme;
    let page = state.page();
    let mut spans = vec![Span::raw(" ")];
    if let Some(Overlay::Filter { input, error, .. }) = &state.overlay {
        spans = vec![span(theme, " /", Tone::Title), span(theme, input, Tone::Plain)];
        spans.push(Span::styled(" ", theme.selected()));
        if let Some(error) = error {
            spans.push(span(theme, &format!("  {error}"), Tone::Bad));
        }
    } else {
        let mut room = usize::from(area.width).saturating_sub(Line::from(told(state)).width() + 1);
        for one in keys::held(page.view, state.about.sharded) {
            let (Some(foot), Some(key)) = (one.foot, one.keys.first()) else { continue };
            if one.action == keys::Action::Back && state.stack.len() == 1 {
                continue;
            }
            let name = keys::name(*key, theme.unicode);
            let takes = width(&name) + foot.len() + 3;
            // A hint that is cut tells nothing; a shorter one behind it may still fit.
            if takes > room {
                continue;
            }
            room -= takes;
            spans.push(span(theme, &format!("{name} "), Tone::Title));
            spans.push(span(theme, &format!("{foot}  "), Tone::Plain));
        }
    }
    both_ends(frame, area, Line::from(spans), Line::from(told(state)));
}

/// What is shown, at the right of the footer.
fn told(state: &State) -> Vec<Span<'static>> {
    let (theme, page) = (state.theme, state.page());
    let mut parts = Vec::new();
    if page.problems {
        parts.push("only problems".to_owned());
    }
    let is_written = matches!(state.overlay, Some(Overlay::Filter { .. }));
    if !page.filter.is_empty() && !is_written {
        parts.push(format!("/{}", fit(&page.filter, 40, theme.unicode)));
    }
    if page.all_marked {
        parts.push("all that match marked".to_owned());
    } else if !page.marks.is_empty() {
        parts.push(format!("{} marked", page.marks.len()));
    }
    match (&page.body, page.view.noun()) {
        (Some(Body::Jobs(part)), _) => parts.push(jobs::told(page, part)),
        (Some(Body::Part(part)), Some(noun)) => parts.push(part_told(page, part, noun)),
        (Some(Body::Overview(overview)), _) => parts.push(count(overview.queues.len() as u64, "queue")),
        (Some(_), Some(noun)) => parts.push(count(page.len() as u64, noun)),
        _ => {}
    }
    let text = parts.join(theme.sign(" · ", " - "));
    vec![span(theme, &format!("  {text} "), Tone::Faint)]
}

/// How far a list reaches that is not here as a whole.
fn part_told(page: &super::state::Page, part: &Part, noun: &str) -> String {
    let shown = part.rows.len() as u64;
    let looked = part.looked.map_or(String::new(), thousands);
    match (&part.rows, part.filling) {
        (Rows::Events(_), false) => format!("{} of the last {looked}", count(shown, noun)),
        (Rows::Events(_), true) => format!("{}, the log is being read", count(shown, noun)),
        (Rows::Groups(_), false) => format!("{} of {} dead", count(shown, noun), looked),
        (Rows::Groups(_), true) => format!("{}, looking through {looked}", count(shown, noun)),
        _ => {
            let plus = if part.more || !page.window.before.is_empty() { "+" } else { "" };
            let looked = if looked.is_empty() { looked } else { format!(", looked through {looked}") };
            format!("{}{plus}{looked}", count(shown, noun))
        }
    }
}

fn flash(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let theme = state.theme;
    let Some(flash) = &state.flash else {
        if let Link::Lost { why, .. } = &state.link {
            frame.render_widget(span(theme, &format!(" {why}"), Tone::Bad), area);
        }
        return;
    };
    let room = usize::from(area.width).saturating_sub(1);
    let tone = if flash.bad { Tone::Bad } else { Tone::Good };
    let command = flash.command.as_ref().map(|command| format!("{}{command}", theme.sign(" · ", " - ")));
    // Both are told as far as there is room: what happened first.
    let text = fit(&flash.text, room, theme.unicode).into_owned();
    let rest = room.saturating_sub(width(&text));
    let command = fit(command.as_deref().unwrap_or_default(), rest, theme.unicode).into_owned();
    let line = Line::from(vec![Span::raw(" "), span(theme, &text, tone), span(theme, &command, Tone::Plain)]);
    frame.render_widget(line, area);
}
