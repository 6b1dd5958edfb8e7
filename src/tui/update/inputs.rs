//! What takes the keys while it is open: the filter, the palette, questions, help.

use nucleo_matcher::pattern::{CaseMatching, Normalization, Pattern};
use nucleo_matcher::{Config, Matcher, Utf32Str};

use super::{Effect, State, act, fetch_anew};
use crate::api::Filter;
use crate::api::events::EVENT_FIELDS;
use crate::api::filter::Where;
use crate::api::queues::QUEUE_FIELDS;
use crate::api::run_list::RUN_FIELDS;
use crate::api::schedules::SCHEDULE_FIELDS;
use crate::api::shards::SHARD_FIELDS;
use crate::api::workers::WORKER_FIELDS;
use crate::tui::keys;
use crate::tui::msg::{Code, Key};
use crate::tui::state::{Choice, Confirm, Overlay};
use crate::tui::views::View;

/// More is not written into one line.
const LONGEST: usize = 1_000;

pub fn key(state: &mut State, key: Key) -> Vec<Effect> {
    match state.overlay.take() {
        Some(Overlay::Help { scroll }) => {
            let by = scrolled(key);
            state.overlay = by.map(|by| Overlay::Help { scroll: scroll.saturating_add_signed(by).min(200) });
            Vec::new()
        }
        Some(Overlay::Raw { text, scroll }) => {
            let last = text.lines().count().saturating_sub(1);
            let by = scrolled(key);
            state.overlay = by.map(|by| Overlay::Raw { scroll: scroll.saturating_add_signed(by).min(last), text });
            Vec::new()
        }
        Some(Overlay::Filter { input, before, .. }) => filter_key(state, input, before, key),
        Some(Overlay::Palette { input, at }) => palette_key(state, input, at, key),
        Some(Overlay::Confirm(confirm)) => confirm_key(state, confirm, key),
        Some(Overlay::Form(form)) => super::forms::key(state, form, key),
        None => Vec::new(),
    }
}

/// What a popup that is read does with a key: scroll, or close.
fn scrolled(key: Key) -> Option<isize> {
    match key.code {
        Code::Up | Code::Char('k') => Some(-1),
        Code::Down | Code::Char('j') => Some(1),
        Code::PageUp => Some(-10),
        Code::PageDown | Code::Char(' ') => Some(10),
        Code::Home | Code::Char('g') => Some(-100_000),
        Code::End | Code::Char('G') => Some(100_000),
        _ => None,
    }
}

pub fn paste(state: &mut State, text: &str) -> Vec<Effect> {
    let mut effects = Vec::new();
    for c in text.chars().filter(|c| !c.is_control()).take(LONGEST) {
        if matches!(state.overlay, Some(Overlay::Filter { .. } | Overlay::Palette { .. } | Overlay::Form(_))) {
            effects = key(state, Key { code: Code::Char(c), ctrl: false });
        }
    }
    effects
}

/// Changes one line of text as keys do; false for a key that means something else.
pub(super) fn type_into(input: &mut String, key: Key) -> bool {
    match (key.code, key.ctrl) {
        (Code::Char('u'), true) => input.clear(),
        (Code::Char('w'), true) => {
            let kept = input.trim_end().rfind(' ').map_or(0, |at| at + 1);
            input.truncate(kept);
        }
        (Code::Char(c), false) if input.len() < LONGEST => input.push(c),
        (Code::Char(_), _) => {}
        (Code::Backspace, _) => {
            input.pop();
        }
        _ => return false,
    }
    true
}

fn filter_key(state: &mut State, mut input: String, before: String, key: Key) -> Vec<Effect> {
    match key.code {
        Code::Esc => return narrow(state, before),
        Code::Enter => {
            return match problem(state.page().view, &input) {
                None => narrow(state, input),
                Some(why) => {
                    state.overlay = Some(Overlay::Filter { input, before, error: Some(why) });
                    Vec::new()
                }
            };
        }
        _ => {}
    }
    let typed = type_into(&mut input, key);
    let error = problem(state.page().view, &input);
    let effects = match (&error, typed) {
        (None, true) => narrow(state, input.clone()),
        _ => Vec::new(),
    };
    // A word that is being written is no mistake yet: only Enter asks for it to be right.
    let shown = error.filter(|_| input.ends_with(' '));
    state.overlay = Some(Overlay::Filter { input, before, error: shown });
    effects
}

/// Shows what matches.
fn narrow(state: &mut State, filter: String) -> Vec<Effect> {
    let page = state.page_mut();
    if page.filter == filter {
        return Vec::new();
    }
    page.filter = filter;
    page.window = Default::default();
    page.cursor.at = 0;
    page.cursor.top = 0;
    page.all_marked = false;
    fetch_anew(state)
}

/// Why a text is no filter of a view.
pub fn problem(view: View, text: &str) -> Option<String> {
    let error = match view {
        View::Queues => Where::parse(text, QUEUE_FIELDS).err(),
        View::Workers => Where::parse(text, WORKER_FIELDS).err(),
        View::Runs => Where::parse(text, RUN_FIELDS).err(),
        View::Schedules => Where::parse(text, SCHEDULE_FIELDS).err(),
        View::Events => Where::parse(text, EVENT_FIELDS).err(),
        View::Shards => Where::parse(text, SHARD_FIELDS).err(),
        _ => Filter::parse(text).err(),
    };
    error.map(|error| error.to_string())
}

/// The lines of the palette that fit what is written, the best first.
pub fn choices(state: &State, input: &str) -> Vec<Choice> {
    let view = state.page().view;
    let unicode = state.theme.unicode;
    let all = keys::held(view, state.about.sharded).map(|one| Choice {
        text: one.text.to_owned(),
        key: keys::names(one, unicode),
        action: one.action,
    });
    let pattern = Pattern::parse(input, CaseMatching::Ignore, Normalization::Smart);
    let mut matcher = Matcher::new(Config::DEFAULT);
    let mut buffer = Vec::new();
    let mut scored: Vec<(u32, Choice)> = all
        .filter_map(|choice| {
            let score = pattern.score(Utf32Str::new(&choice.text, &mut buffer), &mut matcher)?;
            Some((score, choice))
        })
        .collect();
    // The sort is stable: equal ones stay in the order of the table.
    scored.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    scored.into_iter().map(|(_, choice)| choice).collect()
}

fn palette_key(state: &mut State, mut input: String, mut at: usize, key: Key) -> Vec<Effect> {
    let found = choices(state, &input);
    match key.code {
        Code::Esc => return Vec::new(),
        Code::Enter => {
            return match found.get(at) {
                Some(choice) => act(state, choice.action),
                None => Vec::new(),
            };
        }
        Code::Up | Code::BackTab => at = at.saturating_sub(1),
        Code::Down | Code::Tab => at = (at + 1).min(found.len().saturating_sub(1)),
        _ => {
            if type_into(&mut input, key) {
                at = 0;
            }
        }
    }
    state.overlay = Some(Overlay::Palette { input, at });
    Vec::new()
}

fn confirm_key(state: &mut State, mut confirm: Confirm, key: Key) -> Vec<Effect> {
    match key.code {
        Code::Esc | Code::Char('n' | 'q') => return Vec::new(),
        Code::Char('y') => return vec![Effect::Act(confirm.order)],
        Code::Enter if confirm.yes => return vec![Effect::Act(confirm.order)],
        Code::Enter => return Vec::new(),
        Code::Left | Code::Right | Code::Tab | Code::BackTab | Code::Char('h' | 'l') => confirm.yes = !confirm.yes,
        _ => {}
    }
    state.overlay = Some(Overlay::Confirm(confirm));
    Vec::new()
}
