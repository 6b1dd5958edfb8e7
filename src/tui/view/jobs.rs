//! 3 Jobs: tabs by state with their totals, the part of the list that is here, the selected one beside
//! it where there is room.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::{job, table};
use crate::domain::JobState;
use crate::domain::text::{count, thousands};
use crate::tui::layout::Layout;
use crate::tui::msg::JobsPart;
use crate::tui::rows::jobs::JOBS;
use crate::tui::state::{Page, State};
use crate::tui::theme::Tone;

pub fn draw(state: &State, frame: &mut Frame<'_>, layout: &Layout, part: &JobsPart) {
    tabs(state, frame, layout.page_tabs, part);
    table::draw(state, frame, (layout.titles, layout.list), &part.rows, JOBS);
    if let Some(area) = layout.detail {
        super::bar(state, frame, area);
        if let Some(row) = part.rows.get(state.page().cursor.at) {
            job::beside(state, frame, area, row);
        }
    }
}

/// How many jobs a tab has, by the counters; not known yet is none.
fn total(part: &JobsPart, tab: &str) -> Option<u64> {
    if part.totals.len() != JobState::ALL.len() {
        return None;
    }
    let state = JobState::parse(tab);
    let of_state = |wanted: JobState| JobState::ALL.iter().position(|state| *state == wanted);
    match state {
        Some(state) => of_state(state).and_then(|at| part.totals.get(at).copied()),
        None => Some(part.totals.iter().sum()),
    }
}

fn tabs(state: &State, frame: &mut Frame<'_>, area: Rect, part: &JobsPart) {
    let theme = state.theme;
    let page = state.page();
    let mut spans = vec![Span::raw(" ")];
    // On a narrow screen only what is there is counted, in few digits, and the names are shorter.
    let narrow = area.width < 110;
    for (nth, tab) in page.tabs().iter().enumerate() {
        let name = if narrow && nth != page.tab { super::short_word(tab) } else { tab };
        let text = match total(part, tab) {
            Some(n) if n > 0 && !narrow => format!("{name} {}", thousands(n)),
            Some(n) if n > 0 => format!("{name} {}", rough(n)),
            _ => name.to_owned(),
        };
        let style = if nth == page.tab { theme.selected() } else { theme.style(Tone::Plain) };
        spans.push(Span::styled(text, style));
        spans.push(Span::raw("  "));
    }
    frame.render_widget(Line::from(spans), area);
}

/// A count in at most four columns.
fn rough(n: u64) -> String {
    match n {
        0..10_000 => n.to_string(),
        10_000..1_000_000 => format!("{}k", n / 1_000),
        _ => format!("{}M", n / 1_000_000),
    }
}

/// Where in the list one is, for the footer.
pub fn told(page: &Page, part: &JobsPart) -> String {
    let at = if part.rows.is_empty() { 0 } else { page.cursor.at + 1 };
    let plus = if part.more { "+" } else { "" };
    let behind = if page.window.before.is_empty() { "" } else { "~" };
    let mut text = format!("{behind}{} of {}{plus}", thousands(at as u64), thousands(part.rows.len() as u64));
    let asked = page.asked_states();
    let counted = |state: &JobState| asked.is_empty() || asked.contains(state);
    // What the filter has to look at itself, no counter knows.
    if part.looked.is_none() && part.totals.len() == JobState::ALL.len() {
        let all = JobState::ALL.iter().zip(&part.totals);
        let total: u64 = all.filter(|(state, _)| counted(state)).map(|(_, total)| total).sum();
        text = format!("{} of {}", thousands(at as u64), thousands(total));
        if !behind.is_empty() {
            text = count(total, "job");
        }
    }
    if let Some(looked) = part.looked {
        let how = if part.filling { "looking through" } else { "looked through" };
        text = format!("{text}, {how} {}", thousands(looked));
    }
    text
}
