//! Marks, and the verbs that act on what is marked or selected.

use super::{Effect, State, flash};
use crate::domain::text::count;
use crate::tui::msg::{Body, Order, Target, Verb};
use crate::tui::rows::{QueueRow, Rows};
use crate::tui::state::{Confirm, Overlay};
use crate::tui::text::short;
use crate::tui::views::View;

pub fn mark(state: &mut State) {
    let page = state.page_mut();
    let Some(id) = page.id_at(page.cursor.at).map(str::to_owned) else { return };
    page.all_marked = false;
    if !page.marks.remove(&id) {
        page.marks.insert(id.clone());
    }
    page.anchor = Some(id);
    super::moves::by(state, 1);
}

/// From the last mark to the cursor, both with it.
pub fn mark_range(state: &mut State) {
    let page = state.page_mut();
    let from = page.anchor.as_deref().and_then(|id| page.position(id)).unwrap_or(page.cursor.at);
    let (from, to) = (from.min(page.cursor.at), from.max(page.cursor.at));
    let ids: Vec<String> = (from..=to).filter_map(|at| page.id_at(at).map(str::to_owned)).collect();
    page.marks.extend(ids);
    page.all_marked = false;
}

/// All that match. Of jobs that is more than is here, and is meant by the filter.
pub fn mark_all(state: &mut State) {
    let page = state.page_mut();
    if page.all_marked || (page.rows().is_some_and(|rows| page.marks.len() == rows.len()) && !page.marks.is_empty()) {
        page.all_marked = false;
        page.marks.clear();
    } else if let Some(rows) = page.rows() {
        page.marks = rows.ids().into_iter().collect();
    } else {
        page.marks.clear();
        page.all_marked = true;
    }
}

/// What is marked, or else what is selected.
fn subjects(state: &State) -> Vec<String> {
    let page = state.page();
    if page.marks.is_empty() {
        page.subject().map(str::to_owned).into_iter().collect()
    } else {
        page.marks.iter().cloned().collect()
    }
}

/// Does a verb, or asks first.
pub fn order(state: &mut State, verb: Verb) -> Vec<Effect> {
    if let Some(why) = state.why_no_verbs() {
        return flash(state, format!("{} did nothing: {why}", word(verb)), true);
    }
    let Some((target, question)) = target(state, verb) else {
        return flash(state, format!("there is nothing to {} here", word(verb)), true);
    };
    let order = Order { verb, target };
    match question {
        Some(question) => {
            state.overlay = Some(Overlay::Confirm(Confirm { question, order, yes: false }));
            Vec::new()
        }
        None => vec![Effect::Act(order)],
    }
}

/// What a verb acts on here, and the question before it.
fn target(state: &State, verb: Verb) -> Option<(Target, Option<String>)> {
    let page = state.page();
    match page.view {
        View::Jobs if page.all_marked => {
            let (states, filter) = (page.states(), page.filter.clone());
            let which = match (states.as_slice(), filter.trim()) {
                ([], "") => "every job".to_owned(),
                ([], filter) => format!("every job that matches {filter}"),
                ([state, ..], "") => format!("every {state} job"),
                ([state, ..], filter) => format!("every {state} job that matches {filter}"),
            };
            Some((Target::Matching { states, filter }, Some(format!("{} {which}?", word(verb)))))
        }
        View::Jobs | View::Job => {
            let ids = Some(subjects(state)).filter(|ids| !ids.is_empty())?;
            let several = count(ids.len() as u64, "job");
            let asks = verb != Verb::Retry || ids.len() > 1;
            let which = match ids.as_slice() {
                [one] => format!("job {}", short(one)),
                _ => several,
            };
            Some((Target::Jobs(ids), asks.then(|| format!("{} {which}?", word(verb)))))
        }
        View::Queues | View::Overview => {
            let ids = subjects(state);
            let queues: Vec<(String, bool)> = queues(state)
                .iter()
                .filter(|queue| ids.contains(&queue.name))
                .map(|q| (q.name.clone(), q.paused))
                .collect();
            Some((Target::Queues(queues.clone()), None)).filter(|_| !queues.is_empty())
        }
        View::Workers => {
            let ids = Some(subjects(state)).filter(|ids| !ids.is_empty())?;
            let which = match ids.as_slice() {
                [one] => format!("worker {}", short(one)),
                several => count(several.len() as u64, "worker"),
            };
            let question = format!("drain {which}? it takes no more work and ends");
            Some((Target::Workers(ids), Some(question)))
        }
    }
}

fn queues(state: &State) -> &[QueueRow] {
    match &state.page().body {
        Some(Body::List(Rows::Queues(rows))) => rows,
        Some(Body::Overview(overview)) => &overview.queues,
        _ => &[],
    }
}

pub fn word(verb: Verb) -> &'static str {
    match verb {
        Verb::Retry => "retry",
        Verb::Cancel => "cancel",
        Verb::Pause => "pause",
        Verb::Delete => "delete",
        Verb::Drain => "drain",
    }
}

pub fn edit(state: &mut State) -> Vec<Effect> {
    if let Some(why) = state.why_no_verbs() {
        return flash(state, format!("edit did nothing: {why}"), true);
    }
    match state.page().subject().map(str::to_owned) {
        Some(id) => vec![Effect::Edit(id)],
        None => flash(state, "there is no job to edit here", true),
    }
}

pub fn copy(state: &mut State) -> Vec<Effect> {
    let Some(id) = state.page().subject().map(str::to_owned) else { return Vec::new() };
    flash(state, format!("copied {id}"), false);
    vec![Effect::Copy(id)]
}

/// The selected thing as JSON.
pub fn raw(state: &mut State) -> Vec<Effect> {
    let page = state.page();
    let text = match &page.body {
        Some(Body::Job(detail)) => Some(detail.raw.clone()),
        Some(Body::Jobs(part)) => part.rows.get(page.cursor.at).and_then(|row| serde_json::to_string_pretty(row).ok()),
        _ => None,
    };
    if let Some(text) = text {
        state.overlay = Some(Overlay::Raw { text, scroll: 0 });
    }
    Vec::new()
}
