//! Moving within a page: the cursor, the part of a long list that is here, the mouse.

use ratatui::layout::Position;

use super::{Effect, State, fetch, go, open};
use crate::tui::layout;
use crate::tui::msg::Body;
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
    // Whoever goes up wants to read, and at the end on with what comes.
    if page.view == View::Events {
        page.follow = rows > 0 && at + 1 == page.len();
    }
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
    // What a run follows is its log, and that is not what moves.
    page.follow = page.follow && page.view == View::Run;
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
    super::runs::grow(state);
    let height = usize::from(layout::of(state).list.height).max(1);
    let page = state.page_mut();
    let len = page.len();
    if page.view == View::Events && page.follow && len > 0 {
        page.cursor.id = page.id_at(len - 1).map(str::to_owned);
    }
    let cursor = &mut page.cursor;
    if len == 0 {
        (cursor.at, cursor.top) = (0, 0);
        return;
    }
    let before = cursor.at;
    let id = page.cursor.id.as_deref();
    let found = match id {
        Some(id) if page.id_at(before) == Some(id) => Some(before),
        Some(id) => page.position(id),
        None => None,
    };
    let at = found.unwrap_or(before).min(len - 1);
    let id = page.id_at(at).map(str::to_owned);
    let cursor = &mut page.cursor;
    (cursor.at, cursor.id) = (at, id);
    // Rows that come in above do not move the selected one on the screen.
    let top = (cursor.top + at).saturating_sub(before);
    let top = if found.is_some() && at != before && cursor.top > 0 { top } else { cursor.top };
    let scrolled = page.scrolled().max(1);
    let cursor = &mut page.cursor;
    let at = at.min(scrolled - 1);
    cursor.top = top.min(at).max((at + 1).saturating_sub(height)).min(scrolled.saturating_sub(height));
}

/// Asks for the next or the previous part of a long list when the cursor comes near its end.
pub fn refill(state: &mut State) -> Vec<Effect> {
    let height = usize::from(layout::of(state).list.height).max(1);
    // After each message this is asked again: a question that is open is waited for.
    if state.is_lost() || state.asked.is_some() {
        return Vec::new();
    }
    let page = state.page_mut();
    let (second, more) = match &page.body {
        Some(Body::Jobs(part)) if !part.filling => (part.second.clone(), part.more),
        Some(Body::Part(part)) if !part.filling => (part.second.clone(), part.more),
        _ => return Vec::new(),
    };
    let (at, len) = (page.cursor.at, page.len());
    if more
        && at + height >= len
        && let Some((rows, from)) = second.filter(|(rows, _)| at >= *rows)
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
    if let Some(Body::Part(part)) = &mut page.body {
        part.rows.drop_first(rows);
        part.second = None;
    }
}

/// A click selects a row; one on the selected row opens it; one on a tab goes there.
pub fn click(state: &mut State, x: u16, y: u16) -> Vec<Effect> {
    let layout = layout::of(state);
    let at = Position::new(x, y);
    if layout.tabs.contains(at) {
        let hit = |tab: &layout::Tab| (tab.x..tab.x + u16::try_from(tab.text.len()).unwrap_or(0)).contains(&x);
        return match layout::tabs(state).into_iter().find(hit) {
            Some(tab) => go(state, tab.view),
            None => Vec::new(),
        };
    }
    if !layout.list.contains(at) {
        return Vec::new();
    }
    let row = state.page().cursor.top + usize::from(y - layout.list.y);
    if row >= state.page().scrolled() {
        return Vec::new();
    }
    if row == state.page().cursor.at {
        return open(state);
    }
    if state.page().view == View::Events {
        state.page_mut().follow = false;
    }
    select(state, row);
    Vec::new()
}
