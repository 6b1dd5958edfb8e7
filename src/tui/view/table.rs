//! A list: titles, rows, the mark at their left.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Modifier;
use ratatui::text::{Line, Span};

use super::look;
use crate::domain::text::rough;
use crate::tui::layout::Layout;
use crate::tui::rows::{Column, Row, Rows, Sort, columns, each};
use crate::tui::state::{Page, State};
use crate::tui::text::{fit, width};
use crate::tui::theme::{Theme, Tone};
use crate::tui::views::View;

/// Draws a list that is here as a whole.
pub fn rows(state: &State, frame: &mut Frame<'_>, layout: &Layout, rows: &Rows) {
    each!(rows, list, columns => draw(state, frame, (layout.titles, layout.list), list, columns));
}

/// Draws rows of one kind.
pub fn draw<T: Row>(state: &State, frame: &mut Frame<'_>, areas: (Rect, Rect), rows: &[T], all: &[Column<T>]) {
    let (titles, list) = areas;
    let page = state.page();
    let shown = columns::shown(all, list.width, page.wide);
    header(state, frame, titles, all, &shown, page.sort);
    if rows.is_empty() {
        let text = super::lines_in(state, nothing(page), list);
        for (line, y) in text.into_iter().zip(list.y..list.y + list.height) {
            frame.render_widget(line, Rect { y, height: 1, ..list });
        }
        return;
    }
    for (nth, row) in rows.iter().enumerate().skip(page.cursor.top).take(usize::from(list.height)) {
        let y = list.y + u16::try_from(nth - page.cursor.top).unwrap_or(u16::MAX);
        let line = line(state, row, all, &shown, nth == page.cursor.at);
        frame.render_widget(line, Rect { y, height: 1, ..list });
    }
}

/// What is said of a list without rows: why it has none, and what would make some.
fn nothing(page: &Page) -> &'static str {
    if page.problems {
        return "nothing is wrong here; ! shows what is well";
    }
    if !page.filter.is_empty() {
        return "nothing matches; / changes the filter, Esc comes out of it";
    }
    match (page.view, page.tab) {
        (View::Overview | View::Queues, _) => "no queues yet: the first job makes one, as in `goflow enqueue noop`",
        (View::Jobs, 0) => "no jobs yet: `goflow enqueue noop` makes one",
        (View::Jobs, _) => "no jobs in this state",
        (View::Runs, 0) => "no runs yet: `goflow workflow start NAME` begins one",
        (View::Runs, _) => "no runs in this state",
        (View::Workers, _) => "no worker lives, so nothing is done: `goflow worker` starts one",
        (View::Schedules, _) => "no schedules yet: `goflow apply FILE` keeps one (kind: Schedule)",
        (View::Dlq, _) => "nothing is dead",
        (View::Events, _) => "no events yet",
        _ => "nothing here",
    }
}

fn header<T>(
    state: &State,
    frame: &mut Frame<'_>,
    area: Rect,
    columns: &[Column<T>],
    shown: &[(usize, usize)],
    sort: Option<Sort>,
) {
    let theme = state.theme;
    let mut spans = vec![Span::raw(" ")];
    for (at, width) in shown {
        let arrow = match sort.filter(|sort| sort.column == *at) {
            Some(Sort { reverse: true, .. }) => theme.sign("↓", "v"),
            Some(Sort { reverse: false, .. }) => theme.sign("↑", "^"),
            None => "",
        };
        let title = format!("{}{arrow}", columns[*at].title);
        spans.push(Span::styled(padded(theme, &title, *width, columns[*at].right), theme.style(Tone::Title)));
        spans.push(Span::raw(" "));
    }
    frame.render_widget(Line::from(spans), area);
}

pub(super) fn padded(theme: Theme, text: &str, columns: usize, right: bool) -> String {
    let text = fit(text, columns, theme.unicode);
    let space = " ".repeat(columns.saturating_sub(width(&text)));
    if right { format!("{space}{text}") } else { format!("{text}{space}") }
}

fn line<T: Row>(
    state: &State,
    row: &T,
    columns: &[Column<T>],
    shown: &[(usize, usize)],
    selected: bool,
) -> Line<'static> {
    let theme = state.theme;
    let page = state.page();
    let mark = match (is_marked(page, row.id()), selected) {
        (true, _) => theme.sign("◆", "*"),
        (false, true) => theme.sign("▌", ">"),
        (false, false) => " ",
    };
    let mut spans = vec![Span::styled(mark, theme.style(Tone::Busy))];
    for (at, width) in shown {
        let column = &columns[*at];
        let (mut text, tone) = (column.cell)(row, look(state));
        if column.right && crate::tui::text::width(&text) > *width {
            text = shorter(&text);
        }
        spans.push(Span::styled(padded(theme, &text, *width, column.right), theme.style(tone)));
        spans.push(Span::raw(" "));
    }
    let line = Line::from(spans);
    if selected { line.style(theme.selected().add_modifier(Modifier::BOLD)) } else { line }
}

/// A count that there is no room for, roughly: cut off at its end it would be another one.
fn shorter(text: &str) -> String {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != ',').unwrap_or(text.len());
    let (count, rest) = text.split_at(end);
    match count.replace(',', "").parse() {
        Ok(count) => rough(count) + rest,
        Err(_) => text.to_owned(),
    }
}

fn is_marked(page: &Page, id: &str) -> bool {
    page.all_marked || page.marks.contains(id)
}

#[cfg(test)]
mod tests {
    use super::shorter;

    #[test]
    fn a_count_without_room_is_told_roughly() {
        for (text, short) in [("250,000", "250k"), ("1,299,999↑", "1.2M↑"), ("34,000,000", "34M"), ("950", "950")] {
            assert_eq!(shorter(text), short);
        }
        assert_eq!(shorter("2h11m of it"), "2h11m of it");
        assert_eq!(shorter("–"), "–");
    }
}
