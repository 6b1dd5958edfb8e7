//! Playing messages to a state, and looking at what it asks for.

use super::samples::{self, key, state, told};
use crate::tui::msg::{Ask, Effect, Msg, Order, Query};
use crate::tui::state::State;
use crate::tui::update::update;
use crate::tui::views::View;

/// A page as it usually is.
pub fn typical(view: View) -> State {
    told(state(view, (100, 30)), samples::typical(view))
}

/// Plays messages and answers the effects of the last.
pub fn play(state: &mut State, msgs: impl IntoIterator<Item = Msg>) -> Vec<Effect> {
    let mut effects = Vec::new();
    for msg in msgs {
        effects = update(state, msg);
    }
    effects
}

pub fn typed(text: &str) -> impl Iterator<Item = Msg> {
    text.chars().map(key)
}

pub fn asked(effects: &[Effect]) -> Option<&Ask> {
    effects.iter().find_map(|effect| if let Effect::Fetch(ask) = effect { Some(ask) } else { None })
}

/// What the first question among them is about.
pub fn query(effects: &[Effect]) -> Option<&Query> {
    asked(effects).map(|ask| &ask.query)
}

pub fn order(effects: &[Effect]) -> Option<&Order> {
    effects.iter().find_map(|effect| if let Effect::Act(order) = effect { Some(order) } else { None })
}
