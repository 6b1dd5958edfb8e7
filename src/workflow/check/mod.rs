//! What only the whole graph can tell: unknown and circular needs, and names in expressions that
//! nothing will have given a value by the time they are read. Told at once, each at its place.

mod names;
mod outline;

use std::collections::{BTreeMap, BTreeSet};

pub use names::{handler, webhook};
pub use outline::{Outline, Part, ScopeKind, Shape, Site, Whereabouts};

use self::names::Graph;
use super::read::Reader;
use super::spec::Field;
use crate::domain::text::nearest;

/// Checks the steps of a workflow against each other.
pub fn graph(reader: &mut Reader<'_>, outline: &Outline, input: Option<&[Field]>, sites: &[Site]) {
    for scope in 0..outline.scopes.len() {
        ids(reader, outline, scope);
        needs(reader, outline, scope);
        cycles(reader, outline, scope);
    }
    let mut graph = Graph::new(outline, input);
    for site in sites {
        graph.site(reader, site);
    }
}

/// Each id stands once in its list, and is not the id of a step around it or beside one around it: an
/// expression inside would not know which one is meant.
fn ids(reader: &mut Reader<'_>, outline: &Outline, scope: usize) {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for at in outline.scopes[scope].steps.iter().copied() {
        let draft = &outline.drafts[at];
        if draft.id.is_empty() {
            continue;
        }
        let around = outline.owners(at).find_map(|owner| outline.find(outline.drafts[owner].scope, &draft.id));
        let main = (outline.scopes[scope].kind == ScopeKind::Finally).then(|| main_step(outline, &draft.id)).flatten();
        if let Some(first) = seen.insert(&draft.id, at).or(main) {
            let line = outline.drafts[first].place.line;
            reader.wrong(draft.place, format!("the id `{}` stands twice, first in line {line}", draft.id));
        } else if let Some(first) = around {
            let line = outline.drafts[first].place.line;
            let message = format!("the id `{}` is that of a step around it, in line {line}", draft.id);
            reader.wrong_hint(draft.place, message, "`steps` sees both: give this one another id");
        }
    }
}

fn main_step(outline: &Outline, id: &str) -> Option<usize> {
    let main = outline.scopes.iter().position(|scope| scope.kind == ScopeKind::Main)?;
    outline.find(main, id)
}

fn needs(reader: &mut Reader<'_>, outline: &Outline, scope: usize) {
    let ids: Vec<&str> = outline.scopes[scope].steps.iter().map(|at| outline.drafts[*at].id.as_str()).collect();
    for at in outline.scopes[scope].steps.iter().copied() {
        let draft = &outline.drafts[at];
        for (id, place) in &draft.needs {
            if *id == draft.id {
                reader.wrong(*place, format!("`{id}` needs itself"));
            } else if !ids.contains(&id.as_str()) {
                let (message, hint) = unknown_need(outline, at, id, &ids);
                match hint {
                    Some(hint) => reader.wrong_hint(*place, message, hint),
                    None => reader.wrong(*place, message),
                }
            }
        }
    }
}

fn unknown_need(outline: &Outline, of: usize, id: &str, ids: &[&str]) -> (String, Option<String>) {
    let is = |at: &usize| outline.drafts[*at].id == *id;
    if let Some(around) = outline.owners(of).find(|owner| outline.find(outline.drafts[*owner].scope, id).is_some()) {
        let owner = &outline.drafts[around].id;
        let message = format!("`needs` names `{id}`, which does not stand beside this step");
        return (message, Some(format!("name it in the `needs` of `{owner}`, around this step")));
    }
    if let Some(inside) = (0..outline.drafts.len()).filter(is).find_map(|at| outline.owners(at).last()) {
        let message = format!("`needs` names `{id}`, which stands inside of another step");
        return (message, Some(format!("name the step around it: `needs: [{}]`", outline.drafts[inside].id)));
    }
    let message = format!("`needs` names the step `{id}`, which does not exist");
    (message, nearest(id, ids.iter().copied()).map(|name| format!("did you mean `{name}`?")))
}

/// Finds each circle of needs once and prints it.
fn cycles(reader: &mut Reader<'_>, outline: &Outline, scope: usize) {
    let steps = &outline.scopes[scope].steps;
    let needs: BTreeMap<usize, Vec<usize>> = steps
        .iter()
        .map(|at| {
            let needs = outline.drafts[*at].needs.iter().filter_map(|(id, _)| outline.find(scope, id));
            (*at, needs.filter(|need| need != at).collect())
        })
        .collect();
    // What is left when everything that waits for nothing left has been taken away.
    let mut left: BTreeSet<usize> = steps.iter().copied().collect();
    loop {
        let free: Vec<usize> =
            left.iter().copied().filter(|at| needs[at].iter().all(|need| !left.contains(need))).collect();
        if free.is_empty() {
            break;
        }
        free.iter().for_each(|at| {
            left.remove(at);
        });
    }
    let mut seen = BTreeSet::new();
    for start in left.iter().copied() {
        let mut walk = Vec::new();
        let mut here = start;
        while seen.insert(here) {
            walk.push(here);
            // Each of those left waits for another of them, or it would have been taken away.
            let Some(next) = needs[&here].iter().copied().find(|need| left.contains(need)) else { break };
            here = next;
        }
        if let Some(from) = walk.iter().position(|at| *at == here) {
            let circle: Vec<&str> =
                walk[from..].iter().chain([&walk[from]]).map(|at| outline.drafts[*at].id.as_str()).collect();
            let circle = circle.join(" → ");
            let hint = format!("no step of {circle} can ever start");
            reader.wrong_hint(
                outline.drafts[here].needs_place,
                format!("these steps wait for each other: {circle}"),
                hint,
            );
        }
    }
}
