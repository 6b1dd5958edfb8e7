//! Marks, and the verbs that act on what is marked or selected.

use super::{Effect, State, flash};
use crate::domain::RunState;
use crate::domain::text::count;
use crate::tui::msg::{Body, Order, Part, Subject, Target, Verb};
use crate::tui::rows::{GroupRow, QueueRow, Rows, RunRow, ScheduleRow, ShardRow};
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

/// All that match. Of jobs and runs that is more than is here, and is meant by the filter.
pub fn mark_all(state: &mut State) {
    let page = state.page_mut();
    let is_listed = matches!(page.view, View::Jobs | View::Runs);
    match page.rows().filter(|_| !is_listed) {
        _ if page.all_marked => (page.all_marked, page.marks) = (false, Default::default()),
        Some(rows) if !page.marks.is_empty() && page.marks.len() == rows.len() => page.marks.clear(),
        Some(rows) => page.marks = rows.ids().into_iter().collect(),
        None => (page.all_marked, page.marks) = (true, Default::default()),
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
            let is_open_ended =
                matches!(order.target, Target::Matching { .. } | Target::RunsMatching { .. } | Target::Dead(_));
            let counted = is_open_ended.then(|| "counting what matches".to_owned());
            let survey = is_open_ended.then(|| Effect::Survey(order.clone()));
            state.overlay = Some(Overlay::Confirm(Confirm { question, order, counted, yes: false }));
            survey.into_iter().collect()
        }
        None => vec![Effect::Act(order)],
    }
}

/// What a verb acts on here, and the question before it.
fn target(state: &State, verb: Verb) -> Option<(Target, Option<String>)> {
    let page = state.page();
    match page.view {
        View::Overview => overview_target(state, verb),
        View::Jobs if page.all_marked => {
            let (states, filter) = (page.asked_states(), page.filter.clone());
            let which = every(states.iter().map(|state| state.as_str()), "job", &filter);
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
        View::Queues => {
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
        View::Runs if page.all_marked => {
            let (states, filter, problems) = (page.run_states(), page.filter.clone(), page.problems);
            let which = every(states.iter().map(|state| state.as_str()), "run", &filter);
            let which = if problems { format!("{which} that something is wrong with") } else { which };
            let question = format!("{} {which}?", word(verb));
            Some((Target::RunsMatching { states, filter, problems }, Some(question)))
        }
        View::Runs => {
            let ids = subjects(state);
            let chosen: Vec<&RunRow> = runs(state).iter().filter(|run| ids.contains(&run.id)).collect();
            runs_target(verb, &chosen)
        }
        View::Run => match &page.body {
            Some(Body::Run(detail)) => runs_target(verb, &[&detail.head]),
            _ => None,
        },
        View::Schedules => {
            let ids = subjects(state);
            let chosen: Vec<&ScheduleRow> = schedules(state).iter().filter(|row| ids.contains(&row.name)).collect();
            schedules_target(&chosen.iter().map(|row| (row.name.clone(), row.paused)).collect::<Vec<_>>(), verb)
        }
        View::Dlq => {
            let ids = subjects(state);
            let chosen: Vec<&GroupRow> = groups(state).iter().filter(|row| ids.contains(&row.filter)).collect();
            let jobs: u64 = chosen.iter().map(|group| group.count).sum();
            let which = match chosen.as_slice() {
                [] => return None,
                [group] => format!("{} of {}: {}", count(jobs, "dead job"), group.kind, group.error),
                groups => format!("{} of {}", count(jobs, "dead job"), count(groups.len() as u64, "group")),
            };
            let filters = chosen.iter().map(|group| group.filter.clone()).collect();
            Some((Target::Dead(filters), Some(format!("{} {which}?", word(verb)))))
        }
        View::Shards => {
            let id = shards(state).get(page.cursor.at).and_then(ShardRow::number)?;
            let question = format!("remove shard {id}? only an empty one can be, and its number is not used again");
            Some((Target::Shard(id), Some(question)))
        }
        View::Events => None,
    }
}

/// `every dead or retrying job that matches age>1d`
fn every<'a>(states: impl Iterator<Item = &'a str>, noun: &str, filter: &str) -> String {
    let states = states.collect::<Vec<_>>().join(" or ");
    let space = if states.is_empty() { "" } else { " " };
    let filter = filter.trim();
    let matching = if filter.is_empty() { String::new() } else { format!(" that matches {filter}") };
    format!("every {states}{space}{noun}{matching}")
}

fn runs(state: &State) -> &[RunRow] {
    match state.page().rows() {
        Some(Rows::Runs(rows)) => rows,
        _ => &[],
    }
}

fn schedules(state: &State) -> &[ScheduleRow] {
    match state.page().rows() {
        Some(Rows::Schedules(rows)) => rows,
        _ => &[],
    }
}

pub(super) fn shards(state: &State) -> &[ShardRow] {
    match state.page().rows() {
        Some(Rows::Shards(rows)) => rows,
        _ => &[],
    }
}

fn groups(state: &State) -> &[GroupRow] {
    match state.page().rows() {
        Some(Rows::Groups(rows)) => rows,
        _ => &[],
    }
}

fn runs_target(verb: Verb, runs: &[&RunRow]) -> Option<(Target, Option<String>)> {
    let which = match runs {
        [] => return None,
        [one] => format!("run {} of {}", short(&one.id), one.workflow),
        several => count(several.len() as u64, "run"),
    };
    let question = match verb {
        Verb::Cancel => Some(format!("cancel {which}? what was done is undone")),
        Verb::Retry => Some(format!("retry {which}?")),
        _ if runs.len() > 1 => Some(format!("{} {which}?", word(verb))),
        _ => None,
    };
    let target = runs.iter().map(|run| (run.id.clone(), run.state == RunState::Paused)).collect();
    Some((Target::Runs(target), question))
}

fn schedules_target(schedules: &[(String, bool)], verb: Verb) -> Option<(Target, Option<String>)> {
    let question = match (schedules, verb) {
        ([], _) => return None,
        ([(name, _)], Verb::Trigger) => Some(format!("trigger {name}? it starts now what it starts at its ticks")),
        (several, Verb::Trigger) => Some(format!("trigger {}?", count(several.len() as u64, "schedule"))),
        _ => None,
    };
    Some((Target::Schedules(schedules.to_vec()), question))
}

/// On the overview a verb is for what the selected line is about, if it can be done to such a thing.
fn overview_target(state: &State, verb: Verb) -> Option<(Target, Option<String>)> {
    let page = state.page();
    let Some(Body::Overview(overview)) = &page.body else { return None };
    match (overview.subject(page.cursor.at)?, verb) {
        (Subject::Queue(name), Verb::Pause) => {
            let queue = overview.queues.iter().find(|queue| queue.name == name)?;
            Some((Target::Queues(vec![(name, queue.paused)]), None))
        }
        (Subject::Job(id), Verb::Retry) => Some((Target::Jobs(vec![id]), None)),
        (Subject::Run(id) | Subject::Approval { run: id, .. }, Verb::Retry) => {
            let question = format!("retry run {}?", short(&id));
            Some((Target::Runs(vec![(id, false)]), Some(question)))
        }
        (Subject::Schedule(name), Verb::Trigger) => schedules_target(&[(name, false)], verb),
        _ => None,
    }
}

fn queues(state: &State) -> &[QueueRow] {
    match &state.page().body {
        Some(Body::List(Rows::Queues(rows))) => rows,
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
        Verb::Trigger => "trigger",
        Verb::Approve => "approve",
        Verb::Reject => "reject",
        Verb::Signal => "signal",
        Verb::Add => "add",
    }
}

/// What is written on the button that does it.
pub fn does(order: &Order) -> &'static str {
    match order.target {
        Target::Shard(_) => "remove",
        _ => word(order.verb),
    }
}

pub fn edit(state: &mut State) -> Vec<Effect> {
    if let Some(why) = state.why_no_verbs() {
        return flash(state, format!("edit did nothing: {why}"), true);
    }
    let example = match &state.page().body {
        // Of a group, the one that died last.
        Some(Body::Part(Part { rows: Rows::Groups(rows), .. })) => {
            rows.get(state.page().cursor.at).map(|group| group.example.id.clone())
        }
        _ => state.page().subject().map(str::to_owned),
    };
    match example {
        Some(id) => vec![Effect::Edit(id)],
        None => flash(state, "there is no job to edit here", true),
    }
}

pub fn copy(state: &mut State) -> Vec<Effect> {
    let page = state.page();
    let about = super::overview_subject(page).map(|subject| match subject {
        Subject::Queue(text) | Subject::Job(text) | Subject::Run(text) | Subject::Schedule(text) => text,
        Subject::Shard(text) => text,
        Subject::Approval { run, .. } => run,
    });
    // A row of a run's graph is a place in it; what is copied is the run.
    let of = page.of.clone().filter(|_| page.view == View::Run);
    let Some(id) = about.or(of).or_else(|| page.subject().map(str::to_owned)) else { return Vec::new() };
    flash(state, format!("copied {id}"), false);
    vec![Effect::Copy(id)]
}

/// The selected thing as JSON.
pub fn raw(state: &mut State) -> Vec<Effect> {
    let page = state.page();
    let text = match &page.body {
        Some(Body::Job(detail)) => Some(detail.raw.clone()),
        Some(Body::Run(detail)) => match page.tree_row() {
            Some(row) if row.step.is_some() => serde_json::to_string_pretty(&row.step).ok(),
            _ => serde_json::to_string_pretty(&detail.head).ok(),
        },
        Some(Body::List(rows) | Body::Part(Part { rows, .. })) => rows.raw(page.cursor.at),
        Some(Body::Jobs(part)) => part.rows.get(page.cursor.at).and_then(|row| serde_json::to_string_pretty(row).ok()),
        _ => None,
    };
    if let Some(text) = text {
        state.overlay = Some(Overlay::Raw { text, scroll: 0 });
    }
    Vec::new()
}
