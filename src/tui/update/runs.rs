//! A run's page: its graph that grows, folds and goes back in time, and the log of the step that is
//! selected.

use super::{Effect, State, enter, fetch, flash};
use crate::tui::msg::{Body, Query};
use crate::tui::run_page::tree::Mark;
use crate::tui::run_page::{at, rows};
use crate::tui::state::Page;
use crate::tui::views::View;

/// Makes the rows anew from what is known and folded.
pub fn grow(state: &mut State) {
    let page = state.page_mut();
    let Some(Body::Run(detail)) = &page.body else { return };
    page.moment = page.moment.filter(|moment| *moment < detail.moments.len());
    let known = at(detail, page.moment);
    page.tree = rows(detail, &known, &page.folds);
    page.known = Some(known);
}

/// One event back or forth in a run's history.
pub fn travel(state: &mut State, by: isize) -> Vec<Effect> {
    let page = state.page_mut();
    let Some(Body::Run(detail)) = &page.body else { return Vec::new() };
    let (now, last) = (detail.moments.len(), detail.moments.len().saturating_sub(1));
    let before = page.moment.unwrap_or(now);
    let after = before.saturating_add_signed(by);
    page.moment = if after >= now { None } else { Some(after.min(last)) };
    if page.moment == Some(0) && before == 0 {
        return flash(state, "this is where it began", false);
    }
    if page.moment.is_none() && before == now && by > 0 {
        return flash(state, "this is now", false);
    }
    Vec::new()
}

/// Enter on a row of the graph: folds it, or opens what it is: its job, the run that it called.
pub fn open(state: &mut State) -> Vec<Effect> {
    let page = state.page_mut();
    let Some(row) = page.tree.get(page.cursor.at) else { return Vec::new() };
    if row.mark != Mark::Leaf {
        let path = row.path.clone();
        if !page.folds.remove(&path) {
            page.folds.insert(path);
        }
        return Vec::new();
    }
    let step = row.step.as_ref();
    let child = step.and_then(|step| step.child.clone());
    let job = row.job().map(str::to_owned);
    match (child, job) {
        (Some(run), _) => enter(state, Page::of(View::Run, &run)),
        (None, Some(job)) => enter(state, Page::of(View::Job, &job)),
        (None, None) => flash(state, "this step has no job to open", false),
    }
}

/// To the log of the selected step, as it grows.
pub fn logs(state: &mut State) -> Vec<Effect> {
    match state.page().tree_row().and_then(|row| row.job()).map(str::to_owned) {
        Some(job) => enter(state, Page { follow: true, ..Page::of(View::Job, &job) }),
        None => flash(state, "this step has no job, and so no log", false),
    }
}

/// Asks for the log of the step that is selected now, if another one's is here or was asked for.
pub fn follow_log(state: &mut State) -> Vec<Effect> {
    if state.page().view != View::Run || state.is_lost() {
        return Vec::new();
    }
    let page = state.page();
    let Some(Body::Run(detail)) = &page.body else { return Vec::new() };
    let Query::Run { log_of, .. } = page.query(1) else { return Vec::new() };
    let here = detail.log.as_ref().map(|log| log.job.as_str());
    if log_of.as_deref() == here || log_of == page.log_asked {
        return Vec::new();
    }
    state.page_mut().log_asked = log_of;
    vec![fetch(state)]
}
