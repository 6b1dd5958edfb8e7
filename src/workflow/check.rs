//! What only the whole graph can tell: unknown and circular needs, and names in expressions that
//! nothing will have given a value by the time they are read. Told at once, each at its place.

use std::collections::{BTreeMap, BTreeSet};

use super::expr::listed;
use super::expr::scan::Ref;
use super::problem::Place;
use super::read::{Reader, Site, Whereabouts};
use super::spec::{Field, Outputs, StepSpec};
use crate::domain::text::nearest;

/// A step as it was read, with the places that its mistakes are told at.
#[derive(Debug)]
pub struct Draft {
    pub spec: StepSpec,
    /// Its index in the manifest.
    pub nth: usize,
    pub place: Place,
    /// One for each item of `needs`.
    pub needs_places: Vec<Place>,
    pub needs_place: Place,
}

/// Checks the steps of a workflow against each other.
pub fn graph(reader: &mut Reader<'_>, drafts: &[Draft], input: Option<&[Field]>, sites: &[Site]) {
    let mut index: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, draft) in drafts.iter().enumerate().filter(|(_, draft)| !draft.spec.id.is_empty()) {
        if let Some(first) = index.get(draft.spec.id.as_str()) {
            let line = drafts[*first].place.line;
            let message = format!("the id `{}` stands twice, first in line {line}", draft.spec.id);
            reader.wrong(draft.place, message);
            continue;
        }
        index.insert(&draft.spec.id, at);
    }
    let mut needs: Vec<Vec<usize>> = Vec::with_capacity(drafts.len());
    for (at, draft) in drafts.iter().enumerate() {
        let mut known = Vec::new();
        for (id, place) in draft.spec.needs.iter().zip(&draft.needs_places) {
            match index.get(id.as_str()) {
                Some(need) if *need == at => reader.wrong(*place, format!("`{id}` needs itself")),
                Some(need) => known.push(*need),
                None => {
                    let message = format!("`needs` names the step `{id}`, which does not exist");
                    match nearest(id, index.keys().copied()) {
                        Some(name) => reader.wrong_hint(*place, message, format!("did you mean `{name}`?")),
                        None => reader.wrong(*place, message),
                    }
                }
            }
        }
        needs.push(known);
    }
    cycles(reader, drafts, &needs);
    let graph = Graph { drafts, index, needs, input };
    let mut ancestors: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for site in sites {
        let of = match site.at {
            Whereabouts::Step(nth) | Whereabouts::Undo(nth) => drafts.iter().position(|draft| draft.nth == nth),
            _ => None,
        };
        let before = of.map(|at| &*ancestors.entry(at).or_insert_with(|| graph.ancestors(at)));
        graph.site(reader, site, of, before);
    }
}

/// Checks the names that a handler's templates use.
pub fn handler(reader: &mut Reader<'_>, sites: &[Site]) {
    for site in sites {
        for found in site.expr.refs() {
            match found.path[0].as_str() {
                "payload" => {}
                "job" => part(reader, site, found, 1, JOB),
                _ => root(reader, site, found, &["payload", "job"], None),
            }
        }
    }
}

const STEP_PARTS: &[&str] = &["outputs", "state", "error", "attempt"];
const ERROR_PARTS: &[&str] = &["class", "message"];
const RUN: &[&str] = &["id", "workflow", "state", "started_at"];
const STEP: &[&str] = &["key", "attempt"];
const JOB: &[&str] = &["id", "type", "queue", "attempt"];

/// Finds each circle of needs once and prints it.
fn cycles(reader: &mut Reader<'_>, drafts: &[Draft], needs: &[Vec<usize>]) {
    // What is left when everything that waits for nothing left has been taken away.
    let mut left: BTreeSet<usize> = (0..drafts.len()).collect();
    loop {
        let free: Vec<usize> =
            left.iter().copied().filter(|at| needs[*at].iter().all(|need| !left.contains(need))).collect();
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
            let Some(next) = needs[here].iter().copied().find(|need| left.contains(need)) else { break };
            here = next;
        }
        if let Some(from) = walk.iter().position(|at| *at == here) {
            let circle: Vec<&str> =
                walk[from..].iter().chain([&walk[from]]).map(|at| drafts[*at].spec.id.as_str()).collect();
            let place = drafts[here].needs_place;
            let hint = format!("no step of {} can ever start", circle.join(" → "));
            reader.wrong_hint(place, format!("these steps wait for each other: {}", circle.join(" → ")), hint);
        }
    }
}

struct Graph<'a> {
    drafts: &'a [Draft],
    index: BTreeMap<&'a str, usize>,
    needs: Vec<Vec<usize>>,
    input: Option<&'a [Field]>,
}

impl Graph<'_> {
    /// Every step that has ended before this one starts.
    fn ancestors(&self, of: usize) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut next = self.needs[of].clone();
        while let Some(at) = next.pop() {
            if found.insert(at) {
                next.extend(&self.needs[at]);
            }
        }
        found
    }

    fn site(&self, reader: &mut Reader<'_>, site: &Site, of: Option<usize>, before: Option<&BTreeSet<usize>>) {
        let mut skip_until = 0;
        for found in site.expr.refs() {
            if found.at < skip_until {
                continue;
            }
            if let Some(end) = self.hyphen(reader, site, found) {
                skip_until = end;
                continue;
            }
            let known: &[&str] = match site.at {
                Whereabouts::Outputs => &["input", "steps", "run"],
                _ => &["input", "steps", "needs", "run", "step"],
            };
            match found.path[0].as_str() {
                "input" => self.input(reader, site, found),
                "run" => part(reader, site, found, 1, RUN),
                "steps" => self.step(reader, site, found, of, before),
                "step" if of.is_some() => part(reader, site, found, 1, STEP),
                "needs" if of.is_some() => self.need(reader, site, found, of),
                _ => root(reader, site, found, known, Some(&self.index)),
            }
        }
    }

    /// `steps.face-detect` reads as a subtraction. Gives where the misread name ends.
    fn hyphen(&self, reader: &mut Reader<'_>, site: &Site, found: &Ref) -> Option<usize> {
        let base = found.path[0].as_str();
        if base != "steps" && base != "needs" {
            return None;
        }
        let rest = site.expr.source().get(found.at + base.len() + 1..)?;
        let id = self.index.keys().filter(|id| id.contains('-') && rest.starts_with(**id)).max_by_key(|id| id.len())?;
        let read = found.path.get(1).is_some_and(|part| id.starts_with(part.as_str()) && part != id);
        if !read {
            return None;
        }
        let message = format!("`{base}.{id}` is read as a subtraction");
        let hint = Some(format!("a name with a hyphen is written `{base}['{id}']`"));
        let len = base.len() + 1 + id.len();
        let error = super::expr::ExprError { message, hint, at: found.at };
        reader.wrong_expr_at(&site.node, site.expr.source(), &error, len);
        Some(found.at + len)
    }

    fn input(&self, reader: &mut Reader<'_>, site: &Site, found: &Ref) {
        let (Some(fields), Some(name)) = (self.input, found.path.get(1)) else { return };
        if fields.iter().any(|field| field.name == *name) {
            return;
        }
        let hint = match nearest(name, fields.iter().map(|field| field.name.as_str())) {
            Some(name) => format!("did you mean `input.{name}`?"),
            None => format!("declare it: `input: {{{name}: {{type: …}}}}`"),
        };
        tell(reader, site, found, format!("the input `{name}` is not declared"), Some(hint));
    }

    fn need(&self, reader: &mut Reader<'_>, site: &Site, found: &Ref, of: Option<usize>) {
        let Some(id) = found.path.get(1) else { return };
        let needs = of.map(|at| &self.drafts[at].spec.needs);
        if needs.is_some_and(|needs| needs.contains(id)) {
            return self.parts(reader, site, found, self.index.get(id.as_str()).copied());
        }
        let message = format!("`{id}` is not in the `needs` of this step");
        tell(reader, site, found, message, Some(format!("use `steps.{id}` for steps further back")));
    }

    fn step(
        &self,
        reader: &mut Reader<'_>,
        site: &Site,
        found: &Ref,
        of: Option<usize>,
        before: Option<&BTreeSet<usize>>,
    ) {
        let Some(id) = found.path.get(1) else { return };
        let Some(at) = self.index.get(id.as_str()).copied() else {
            let hint = nearest(id, self.index.keys().copied()).map(|name| format!("did you mean `steps.{name}`?"));
            return tell(reader, site, found, format!("there is no step `{id}`"), hint);
        };
        let own = of == Some(at);
        if own && matches!(site.at, Whereabouts::Step(_)) {
            return tell(reader, site, found, format!("the step `{id}` cannot use its own outcome"), None);
        }
        if let (Some(of), Some(before), false) = (of, before, own)
            && !before.contains(&at)
        {
            let user = &self.drafts[of].spec;
            let mut needs = user.needs.clone();
            needs.push(id.clone());
            let message = format!("`{}` uses `steps.{id}` and does not wait for it", user.id);
            return tell(reader, site, found, message, Some(format!("write `needs: [{}]`", needs.join(", "))));
        }
        self.parts(reader, site, found, Some(at));
    }

    /// What comes after the id of a step.
    fn parts(&self, reader: &mut Reader<'_>, site: &Site, found: &Ref, at: Option<usize>) {
        part(reader, site, found, 2, STEP_PARTS);
        match (found.path.get(2).map(String::as_str), found.path.get(3), at) {
            (Some("error"), _, _) => part(reader, site, found, 3, ERROR_PARTS),
            (Some("outputs"), Some(name), Some(at)) => match self.drafts[at].spec.verb.outputs() {
                Some(Outputs::Names(names)) if !names.contains(name) => {
                    let id = &found.path[1];
                    let hint = match nearest(name, names.iter().map(String::as_str)) {
                        Some(name) => format!("did you mean `{name}`?"),
                        None => format!("its outputs are {}", listed(names)),
                    };
                    tell(reader, site, found, format!("the step `{id}` has no output `{name}`"), Some(hint));
                }
                Some(Outputs::Text) => {
                    let message = format!("the output of `{}` is text, which has no `{name}`", found.path[1]);
                    tell(reader, site, found, message, Some("`outputs: json` reads it as JSON".to_owned()));
                }
                _ => {}
            },
            _ => {}
        }
    }
}

fn part(reader: &mut Reader<'_>, site: &Site, found: &Ref, nth: usize, known: &[&str]) {
    let Some(name) = found.path.get(nth) else { return };
    if known.contains(&name.as_str()) {
        return;
    }
    let hint = match nearest(name, known.iter().copied()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("there is {}", listed(known)),
    };
    let base = super::expr::scan::written(&found.path[..nth]);
    tell(reader, site, found, format!("there is no `{name}` in `{base}`"), Some(hint));
}

fn root(reader: &mut Reader<'_>, site: &Site, found: &Ref, known: &[&str], steps: Option<&BTreeMap<&str, usize>>) {
    let name = &found.path[0];
    let hint = if steps.is_some_and(|steps| steps.contains_key(name.as_str())) {
        format!("a step is read as `steps.{name}`")
    } else if let Some(name) = nearest(name, known.iter().copied()) {
        format!("did you mean `{name}`?")
    } else {
        format!("the names here are {}; text stands in quotes", listed(known))
    };
    tell(reader, site, found, format!("there is no name `{name}` here"), Some(hint));
}

fn tell(reader: &mut Reader<'_>, site: &Site, found: &Ref, message: String, hint: Option<String>) {
    let error = super::expr::ExprError { message, hint, at: found.at };
    let expr = site.expr.source();
    reader.wrong_expr_at(&site.node, expr, &error, found.text().len());
}
