//! Moving within a page: the cursor, the part of a long list that is here, sorting, the mouse.

use ratatui::layout::Position;

use super::{Effect, Flash, State, fetch, go, open};
use crate::tui::layout;
use crate::tui::msg::Body;
use crate::tui::rows::Sort;
use crate::tui::state::Window;
use crate::tui::views::View;

/// By so many rows; on a page that is no list, by so many lines.
pub fn by(state: &mut State, rows: isize) {
    let page = state.page_mut();
    if page.is_empty() {
        page.scroll = page.scroll.saturating_add_signed(rows).min(usize::from(u16::MAX));
        page.follow = page.follow && rows > 0;
        return;
    }
    let at = page.cursor.at.saturating_add_signed(rows).min(page.len() - 1);
    select(state, at);
}

fn select(state: &mut State, at: usize) {
    let page = state.page_mut();
    page.cursor.at = at;
    page.cursor.id = page.id_at(at).map(str::to_owned);
}

/// To the first row; of a long list, to its beginning.
pub fn first(state: &mut State) -> Vec<Effect> {
    let page = state.page_mut();
    page.scroll = 0;
    page.follow = false;
    if page.window != Window::default() {
        page.window = Window::default();
        page.cursor = Default::default();
        state.generation += 1;
        return vec![fetch(state)];
    }
    if !state.page().is_empty() {
        select(state, 0);
    }
    Vec::new()
}

/// Keeps the selection on its id and on the screen.
pub fn settle(state: &mut State) {
    let height = usize::from(layout::of(state).list.height).max(1);
    let page = state.page_mut();
    let len = page.len();
    let cursor = &mut page.cursor;
    if len == 0 {
        (cursor.at, cursor.top) = (0, 0);
        return;
    }
    let before = cursor.at;
    let found = page.cursor.id.as_deref().and_then(|id| page.position(id));
    let at = found.unwrap_or(before).min(len - 1);
    let id = page.id_at(at).map(str::to_owned);
    let cursor = &mut page.cursor;
    (cursor.at, cursor.id) = (at, id);
    // Rows that come in above do not move the selected one on the screen.
    let top = (cursor.top + at).saturating_sub(before);
    let top = if found.is_some() && at != before && cursor.top > 0 { top } else { cursor.top };
    cursor.top = top.min(at).max((at + 1).saturating_sub(height)).min(len.saturating_sub(height));
}

/// Asks for the next or the previous part of a long list when the cursor comes near its end.
pub fn refill(state: &mut State) -> Vec<Effect> {
    let height = usize::from(layout::of(state).list.height).max(1);
    // After each message this is asked again: a question that is open is waited for.
    if state.is_lost() || state.asked.is_some() {
        return Vec::new();
    }
    let page = state.page_mut();
    let Some(Body::Jobs(part)) = &page.body else { return Vec::new() };
    if part.filling {
        return Vec::new();
    }
    let (at, len) = (page.cursor.at, part.rows.len());
    if part.more
        && at + height >= len
        && let Some((rows, from)) = part.second.clone().filter(|(rows, _)| at >= *rows)
    {
        let before = page.window.from.replace(from);
        page.window.before.push(before);
        (page.cursor.at, page.cursor.top) = (at - rows, page.cursor.top.saturating_sub(rows));
        drop_rows(page, rows);
    } else if at < height / 2
        && let Some(before) = page.window.before.pop()
    {
        page.window.from = before;
    } else {
        return Vec::new();
    }
    state.generation += 1;
    vec![fetch(state)]
}

/// What is above the new window is not here any more; the rest stays until the answer comes.
fn drop_rows(page: &mut crate::tui::state::Page, rows: usize) {
    if let Some(Body::Jobs(part)) = &mut page.body {
        part.rows.drain(..rows.min(part.rows.len()));
        part.second = None;
    }
}

pub fn sort(state: &mut State) {
    let page = state.page_mut();
    let Some(Body::List(rows)) = &page.body else {
        state.flash = Some(Flash {
            text: "this list comes in the order of its index; narrow it with / instead".to_owned(),
            command: None,
            bad: false,
        });
        return;
    };
    let sortable = rows.sortable();
    let next = match page.sort {
        None => sortable.first(),
        Some(sort) => sortable.iter().find(|(at, _)| *at > sort.column),
    };
    // The first order of a number is the largest first; after the last column, the order it came in.
    page.sort =
        next.map(|(column, title)| Sort { column: *column, reverse: !matches!(*title, "QUEUE" | "WORKER" | "HOST") });
    apply_sort(page);
}

pub fn reverse(state: &mut State) {
    let page = state.page_mut();
    let sort = page.sort.unwrap_or(Sort { column: 0, reverse: false });
    page.sort = Some(Sort { reverse: !sort.reverse, ..sort });
    apply_sort(page);
}

/// Brings rows into the order that is asked for.
pub fn apply_sort(page: &mut crate::tui::state::Page) {
    let sort = page.sort;
    if let (Some(Body::List(rows)), Some(sort)) = (&mut page.body, sort) {
        rows.sort(sort);
    }
}

/// A click selects a row; one on the selected row opens it; one on a tab goes there.
pub fn click(state: &mut State, x: u16, y: u16) -> Vec<Effect> {
    let layout = layout::of(state);
    let at = Position::new(x, y);
    if layout.tabs.contains(at) {
        return match tab_at(x) {
            Some(view) => go(state, view),
            None => Vec::new(),
        };
    }
    if !layout.list.contains(at) {
        return Vec::new();
    }
    let row = state.page().cursor.top + usize::from(y - layout.list.y);
    if row >= state.page().len() {
        return Vec::new();
    }
    if row == state.page().cursor.at {
        return open(state);
    }
    select(state, row);
    Vec::new()
}

/// The tab under a column of the second line, which is drawn as ` 1 Overview  2 Queues …`.
fn tab_at(x: u16) -> Option<View> {
    let mut from = 1;
    for view in View::TABS {
        let wide = u16::try_from(view.title().len()).unwrap_or(0) + 2;
        if (from..from + wide).contains(&x) {
            return Some(*view);
        }
        from += wide + 2;
    }
    None
}
