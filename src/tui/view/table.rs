//! A list: titles, rows, the mark at their left. Columns give way to a narrow screen from the right.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Modifier;
use ratatui::text::{Line, Span};

use super::look;
use crate::tui::layout::Layout;
use crate::tui::rows::{Column, Row, Rows, Sort, each};
use crate::tui::state::{Page, State};
use crate::tui::text::{fit, width};
use crate::tui::theme::{Theme, Tone};

/// Draws a list that is here as a whole.
pub fn rows(state: &State, frame: &mut Frame<'_>, layout: &Layout, rows: &Rows) {
    each!(rows, list, columns => draw(state, frame, (layout.titles, layout.list), list, columns));
}

/// Draws rows of one kind.
pub fn draw<T: Row>(state: &State, frame: &mut Frame<'_>, areas: (Rect, Rect), rows: &[T], columns: &[Column<T>]) {
    let (titles, list) = areas;
    let page = state.page();
    let shown = shown(columns, list.width, page.wide);
    header(state, frame, titles, columns, &shown, page.sort);
    if rows.is_empty() {
        let text = if page.filter.is_empty() && !page.problems { " nothing here" } else { " nothing matches" };
        frame.render_widget(super::span(state.theme, text, Tone::Faint), list);
        return;
    }
    for (nth, row) in rows.iter().enumerate().skip(page.cursor.top).take(usize::from(list.height)) {
        let y = list.y + u16::try_from(nth - page.cursor.top).unwrap_or(u16::MAX);
        let line = line(state, row, columns, &shown, nth == page.cursor.at);
        frame.render_widget(line, Rect { y, height: 1, ..list });
    }
}

/// Which columns are drawn, and how wide: those that the list is wide enough for, and of them those
/// that there is room for.
fn shown<T>(columns: &[Column<T>], width: u16, wide: bool) -> Vec<(usize, usize)> {
    // One for the mark, and one behind each column.
    let mut room = usize::from(width).saturating_sub(1);
    let mut shown = Vec::new();
    let fits = |column: &Column<T>| wide || column.from <= width;
    // The last one that grows is what the list is about: it is there before others are.
    let growing = columns.iter().rposition(|column| column.grow).unwrap_or(0);
    let least = columns.get(growing).map_or(0, |column| usize::from(column.width));
    room = room.saturating_sub(least + 1);
    for (at, column) in columns.iter().enumerate() {
        if at == growing {
            shown.push((at, least));
            continue;
        }
        let takes = usize::from(column.width) + 1;
        if fits(column) && takes <= room {
            room -= takes;
            shown.push((at, takes - 1));
        }
    }
    for (at, width) in &mut shown {
        if *at == growing {
            *width += room;
        }
    }
    shown
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
        let (text, tone) = (column.cell)(row, look(state));
        spans.push(Span::styled(padded(theme, &text, *width, column.right), theme.style(tone)));
        spans.push(Span::raw(" "));
    }
    let line = Line::from(spans);
    if selected { line.style(theme.selected().add_modifier(Modifier::BOLD)) } else { line }
}

fn is_marked(page: &Page, id: &str) -> bool {
    page.all_marked || page.marks.contains(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::rows::{jobs, queues, workers};

    #[test]
    fn columns_never_take_more_than_there_is() {
        for width in 60..260 {
            for wide in [false, true] {
                let taken = |shown: Vec<(usize, usize)>| shown.iter().map(|(_, w)| w + 1).sum::<usize>() + 1;
                assert_eq!(taken(shown(jobs::JOBS, width, wide)), usize::from(width));
                assert_eq!(taken(shown(queues::QUEUES, width, wide)), usize::from(width));
                assert_eq!(taken(shown(workers::WORKERS, width, wide)), usize::from(width));
            }
        }
    }
}
