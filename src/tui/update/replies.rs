//! What the data task tells. An answer about a page that is no longer shown is dropped.

use super::{Effect, State, fetch};
use crate::tui::msg::{Answer, Body, Reply};
use crate::tui::state::{Flash, Link, Overlay};

pub fn take(state: &mut State, reply: Reply) -> Vec<Effect> {
    state.now = state.now.max(reply.at);
    match reply.answer {
        Answer::Acted(acted) => {
            if !acted.failed {
                // What was marked was marked for this.
                let page = state.page_mut();
                page.marks.clear();
                page.all_marked = false;
            }
            state.flash = Some(Flash { text: acted.sentence, command: Some(acted.command), bad: acted.failed });
            // What it changed is to be seen at once.
            if state.frozen || state.is_lost() { Vec::new() } else { vec![fetch(state)] }
        }
        Answer::Surveyed { order, sentence } => {
            if let Some(Overlay::Confirm(confirm)) = &mut state.overlay
                && confirm.order == order
            {
                confirm.counted = Some(sentence);
            }
            Vec::new()
        }
        Answer::Lost { why, retry_at } => {
            let since = match state.link {
                Link::Lost { since, .. } => since,
                _ => reply.at,
            };
            state.link = Link::Lost { since, retry_at, why };
            state.asked = None;
            Vec::new()
        }
        Answer::Refused(why) => {
            state.link = Link::Live;
            if reply.generation == state.generation {
                state.asked = None;
                state.page_mut().refused = Some(why.clone());
                state.flash = Some(Flash { text: why, command: None, bad: true });
            }
            Vec::new()
        }
        Answer::Body(body) => {
            state.link = Link::Live;
            if reply.generation == state.generation && body.is_of(state.page().view) {
                if is_less(state, &body) {
                    return Vec::new();
                }
                state.asked = Some(state.now).filter(|_| matches!(&body, Body::Jobs(part) if part.filling));
                state.page_mut().told = reply.generation;
                show(state, body, reply.at);
            }
            Vec::new()
        }
    }
}

/// A list that is filled anew would first shrink: what is shown stays until as much is there again.
fn is_less(state: &State, body: &Body) -> bool {
    let page = state.page();
    let Body::Jobs(part) = body else { return false };
    part.filling && page.told == state.generation && part.rows.len() < page.len()
}

fn show(state: &mut State, mut body: Body, at: crate::domain::Ms) {
    let page = state.page_mut();
    if let (Some(rows), true) = (body.rows_mut(), page.problems) {
        rows.keep_problems();
    }
    let is_whole = body.is_whole();
    page.body = Some(body);
    page.refused = None;
    page.at = Some(at);
    super::sorting::apply(page);
    let known: Vec<String> = page.marks.iter().filter(|id| page.position(id).is_none()).cloned().collect();
    // In a list that is here as a whole, what is not here is gone; marks of it would act on nothing.
    if is_whole {
        for id in known {
            page.marks.remove(&id);
        }
    }
}
