//! The order of a list: by a column, where the whole of it is here. What is here only in part comes in the
//! order of its index, and stays so.

use super::{Effect, State, flash};
use crate::tui::msg::{Body, Part};
use crate::tui::rows::jobs::JOBS;
use crate::tui::rows::queues::QUEUES;
use crate::tui::rows::{self, Rows, Sort};
use crate::tui::state::{Page, Window};

/// The columns that a page can be sorted by now.
fn sortable(page: &Page) -> Vec<Sort> {
    let is_begun = page.window == Window::default();
    match &page.body {
        Some(Body::Overview(overview)) => rows::sortable(&overview.queues, QUEUES),
        Some(Body::Jobs(part)) if is_begun && !part.more && !part.filling => rows::sortable(&part.rows, JOBS),
        Some(Body::List(rows) | Body::Part(Part { rows: rows @ Rows::Groups(_), .. })) => rows.sortable(),
        Some(Body::Part(part)) if is_begun && !part.more && !part.filling => part.rows.sortable(),
        _ => Vec::new(),
    }
}

/// By the next column; after the last one, in the order it came in.
pub fn sort(state: &mut State) -> Vec<Effect> {
    let page = state.page_mut();
    let columns = sortable(page);
    if columns.is_empty() {
        page.sort = None;
        return flash(state, why_not(state.page()), false);
    }
    let next = match page.sort {
        None => columns.first(),
        Some(sort) => columns.iter().find(|one| one.column > sort.column),
    };
    page.sort = next.copied();
    if page.sort.is_none() {
        // How it came is known to the store alone.
        return vec![super::fetch(state)];
    }
    apply(page);
    Vec::new()
}

fn why_not(page: &Page) -> &'static str {
    match &page.body {
        Some(Body::Part(Part { rows: Rows::Events(_), .. })) => "events come in the order in which they happened",
        Some(Body::Jobs(part)) if part.rows.is_empty() => "there is nothing to sort",
        Some(Body::Jobs(_) | Body::Part(_)) => {
            "only a part of this list is here, in the order of its index: narrow it with / to sort it"
        }
        _ => "there is nothing to sort",
    }
}

pub fn reverse(state: &mut State) -> Vec<Effect> {
    let page = state.page_mut();
    let Some(first) = sortable(page).first().copied() else { return flash(state, why_not(state.page()), false) };
    let sort = page.sort.unwrap_or(first);
    page.sort = Some(Sort { reverse: !sort.reverse, ..sort });
    apply(page);
    Vec::new()
}

/// Brings rows into the order that is asked for, as long as they can be.
pub fn apply(page: &mut Page) {
    let Some(sort) = page.sort else { return };
    if !sortable(page).iter().any(|one| one.column == sort.column) {
        // Empty is no reason to forget it: the next row may come.
        page.sort = page.sort.filter(|_| page.is_empty());
        return;
    }
    match &mut page.body {
        Some(Body::Overview(overview)) => rows::sort(&mut overview.queues, QUEUES, sort),
        Some(Body::Jobs(part)) => rows::sort(&mut part.rows, JOBS, sort),
        Some(Body::List(rows) | Body::Part(Part { rows, .. })) => rows.sort(sort),
        _ => {}
    }
}
