//! The names that expressions use, against what has a value where they stand: `steps` and what it
//! publishes, `needs`, `item`, `loop`, `signal`, and the fixed names of each place.

use std::collections::{BTreeMap, BTreeSet};

use super::outline::{Draft, Outline, Part, ScopeKind, Shape, Site, Whereabouts};
use crate::domain::text::nearest;
use crate::workflow::expr::scan::Ref;
use crate::workflow::expr::{ExprError, listed, scan};
use crate::workflow::read::Reader;
use crate::workflow::spec::Field;

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

/// Checks the names that a webhook's templates use.
pub fn webhook(reader: &mut Reader<'_>, sites: &[Site]) {
    for site in sites {
        for found in site.expr.refs() {
            if !["payload", "headers"].contains(&found.path[0].as_str()) {
                root(reader, site, found, &["payload", "headers"], None);
            }
        }
    }
}

const STEP_PARTS: &[&str] = &["outputs", "state", "error", "attempt"];
const ERROR_PARTS: &[&str] = &["class", "message"];
const RUN: &[&str] = &["id", "workflow", "state", "started_at"];
const STEP: &[&str] = &["key", "attempt"];
const LOOP: &[&str] = &["index", "key"];
/// Every name but that of an item.
const FIXED: &[&str] = &["input", "steps", "needs", "run", "step", "loop", "signal", "payload", "headers", "job"];
const JOB: &[&str] = &["id", "type", "queue", "attempt"];

/// Why no expression sees the environment, and what to do instead.
const MACHINE: &str = "what an expression gives is kept for all to read: let a handler of the worker's configuration have it, \
     `handlers: {pay: {run: [./pay], env: {TOKEN: \"${TOKEN}\"}}}`, and do the step by `job: pay`";

pub struct Graph<'a> {
    outline: &'a Outline,
    input: Option<&'a [Field]>,
    /// Of the steps that were asked for: every step beside them that has ended before they start.
    ancestors: BTreeMap<usize, BTreeSet<usize>>,
    /// Every id at any depth, and a step that has it.
    ids: BTreeMap<&'a str, usize>,
}

/// What `steps.ID` is, seen from somewhere.
enum Seen {
    /// It has ended there, or is the step itself where it may look at itself.
    Ended(usize),
    Itself,
    /// It is beside this step, or a step around this one, which does not wait for it.
    NotAwaited {
        user: usize,
    },
    /// It stands inside of this step.
    Inside(usize),
    Unknown,
}

impl<'a> Graph<'a> {
    pub fn new(outline: &'a Outline, input: Option<&'a [Field]>) -> Graph<'a> {
        let ids = outline.drafts.iter().enumerate().rev().map(|(at, draft)| (draft.id.as_str(), at));
        let ids = ids.filter(|(id, _)| !id.is_empty()).collect();
        Graph { outline, input, ancestors: BTreeMap::new(), ids }
    }

    fn ancestors(&mut self, of: usize) -> &BTreeSet<usize> {
        let outline = self.outline;
        self.ancestors.entry(of).or_insert_with(|| {
            let needs = |at: usize| {
                let draft: &Draft = &outline.drafts[at];
                draft.needs.iter().filter_map(move |(id, _)| outline.find(draft.scope, id)).collect::<Vec<_>>()
            };
            let mut found = BTreeSet::new();
            let mut next = needs(of);
            while let Some(at) = next.pop() {
                if found.insert(at) {
                    next.extend(needs(at));
                }
            }
            found
        })
    }

    pub fn site(&mut self, reader: &mut Reader<'_>, site: &Site) {
        let known = self.known(site.at);
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let mut skip_until = 0;
        for found in site.expr.refs() {
            if found.at < skip_until {
                continue;
            }
            if let Some(end) = self.hyphen(reader, site, found) {
                skip_until = end;
                continue;
            }
            let name = found.path[0].as_str();
            if !known.contains(&name) {
                root(reader, site, found, &known, Some(&self.ids));
                continue;
            }
            match name {
                "input" => self.input(reader, site, found),
                "run" => part(reader, site, found, 1, RUN),
                "step" => part(reader, site, found, 1, STEP),
                "loop" => part(reader, site, found, 1, LOOP),
                "steps" => self.step(reader, site, found),
                "needs" => self.need(reader, site, found),
                _ => {}
            }
        }
    }

    /// The names that have a value in a place.
    fn known(&self, at: Whereabouts) -> Vec<String> {
        let mut known: Vec<&str> = match at {
            Whereabouts::Concurrency => vec!["input"],
            Whereabouts::Step(_, Part::GroupEnv) => vec!["input", "steps", "run"],
            Whereabouts::Step(..) => vec!["input", "steps", "needs", "run", "step"],
            _ => vec!["input", "steps", "run"],
        };
        let Whereabouts::Step(of, part) = at else { return known.into_iter().map(str::to_owned).collect() };
        let own = (part != Part::Before).then_some(of);
        for around in own.into_iter().chain(self.outline.owners(of)) {
            let draft = &self.outline.drafts[around];
            known.extend(draft.item.as_deref());
            if (draft.item.is_some() || draft.repeats) && !known.contains(&"loop") {
                known.push("loop");
            }
        }
        if part == Part::Match {
            known.push("signal");
        }
        known.into_iter().map(str::to_owned).collect()
    }

    /// `steps.face-detect` reads as a subtraction. Gives where the misread name ends.
    fn hyphen(&self, reader: &mut Reader<'_>, site: &Site, found: &Ref) -> Option<usize> {
        let base = found.path[0].as_str();
        if base != "steps" && base != "needs" {
            return None;
        }
        let rest = site.expr.source().get(found.at + base.len() + 1..)?;
        let id = self.ids.keys().filter(|id| id.contains('-') && rest.starts_with(**id)).max_by_key(|id| id.len())?;
        let read = found.path.get(1).is_some_and(|part| id.starts_with(part.as_str()) && part != id);
        if !read {
            return None;
        }
        let message = format!("`{base}.{id}` is read as a subtraction");
        let hint = Some(format!("a name with a hyphen is written `{base}['{id}']`"));
        let len = base.len() + 1 + id.len();
        let error = ExprError { message, hint, at: found.at };
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

    fn need(&self, reader: &mut Reader<'_>, site: &Site, found: &Ref) {
        let (Some(id), Whereabouts::Step(of, _)) = (found.path.get(1), site.at) else { return };
        let draft = &self.outline.drafts[of];
        if draft.needs.iter().any(|(need, _)| need == id) {
            let shape = self.outline.find(draft.scope, id).map(|at| self.outline.drafts[at].shape.clone());
            return parts(reader, site, found, &shape.unwrap_or_default());
        }
        let message = format!("`{id}` is not in the `needs` of this step");
        tell(reader, site, found, message, Some(format!("use `steps.{id}` for steps further back")));
    }

    fn step(&mut self, reader: &mut Reader<'_>, site: &Site, found: &Ref) {
        let Some(id) = found.path.get(1) else { return };
        match self.look(site.at, id) {
            Seen::Ended(at) => {
                let shape = self.outline.drafts[at].shape.clone();
                parts(reader, site, found, &shape);
            }
            Seen::Itself => {
                tell(reader, site, found, format!("the step `{id}` cannot use its own outcome"), None);
            }
            Seen::NotAwaited { user } => {
                let user = &self.outline.drafts[user];
                let needs = user.needs.iter().map(|(need, _)| need.as_str()).chain([id.as_str()]);
                let hint = format!("write `needs: [{}]`", needs.collect::<Vec<_>>().join(", "));
                let message = format!("`{}` uses `steps.{id}` and does not wait for it", user.id);
                tell(reader, site, found, message, Some(hint));
            }
            Seen::Inside(at) => {
                let outer = self.outline.owners(at).last().map_or("", |at| self.outline.drafts[at].id.as_str());
                let message = format!("the step `{id}` stands inside of `{outer}`");
                let hint = format!("what it published is a part of `steps.{outer}.outputs`");
                tell(reader, site, found, message, Some(hint));
            }
            Seen::Unknown => {
                let hint = nearest(id, self.ids.keys().copied()).map(|name| format!("did you mean `steps.{name}`?"));
                tell(reader, site, found, format!("there is no step `{id}`"), hint);
            }
        }
    }

    /// What `steps.ID` is, seen from a place: first beside it, then beside the steps around it.
    fn look(&mut self, from: Whereabouts, id: &str) -> Seen {
        let outline = self.outline;
        let main = outline.scopes.iter().position(|scope| scope.kind == ScopeKind::Main);
        let Whereabouts::Step(of, part) = from else {
            let found = (0..outline.scopes.len())
                .filter(|scope| outline.scopes[*scope].owner.is_none())
                .find_map(|scope| outline.find(scope, id));
            return found.map_or_else(|| self.deeper(id), Seen::Ended);
        };
        if part == Part::Inside {
            let inner = |scope: &usize| outline.scopes[*scope].owner == Some(of);
            if let Some(at) = (0..outline.scopes.len()).filter(inner).find_map(|scope| outline.find(scope, id)) {
                return Seen::Ended(at);
            }
        }
        let mut user = of;
        loop {
            let scope = outline.drafts[user].scope;
            match outline.find(scope, id) {
                Some(at) if at == of && matches!(part, Part::Undo | Part::While) => return Seen::Ended(at),
                Some(at) if at == user => return Seen::Itself,
                Some(at) if self.ancestors(user).contains(&at) => return Seen::Ended(at),
                Some(_) => return Seen::NotAwaited { user },
                None => {}
            }
            match outline.scopes[scope].owner {
                Some(owner) => user = owner,
                None => {
                    let seen = (outline.scopes[scope].kind == ScopeKind::Finally)
                        .then(|| main.and_then(|main| outline.find(main, id)))
                        .flatten();
                    return seen.map_or_else(|| self.deeper(id), Seen::Ended);
                }
            }
        }
    }

    fn deeper(&self, id: &str) -> Seen {
        match self.ids.get(id) {
            Some(at) if self.outline.owner(*at).is_some() => Seen::Inside(*at),
            _ => Seen::Unknown,
        }
    }
}

/// What comes after the id of a step.
fn parts(reader: &mut Reader<'_>, site: &Site, found: &Ref, shape: &Shape) {
    part(reader, site, found, 2, STEP_PARTS);
    match found.path.get(2).map(String::as_str) {
        Some("error") => part(reader, site, found, 3, ERROR_PARTS),
        Some("outputs") => outputs(reader, site, found, shape),
        _ => {}
    }
}

fn outputs(reader: &mut Reader<'_>, site: &Site, found: &Ref, shape: &Shape) {
    let mut shape = shape;
    for (nth, name) in found.path.iter().enumerate().skip(3) {
        let id = &found.path[1];
        match shape {
            Shape::Any => return,
            Shape::Text => {
                let message = format!("the output of `{id}` is text, which has no `{name}`");
                return tell(reader, site, found, message, Some("`outputs: json` reads it as JSON".to_owned()));
            }
            Shape::Fields(fields) => match fields.iter().find(|(field, _)| field == name) {
                Some((_, inner)) => shape = inner,
                None => {
                    let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
                    let hint = match nearest(name, names.iter().copied()) {
                        Some(name) => format!("did you mean `{name}`?"),
                        None if names.is_empty() => "it publishes nothing".to_owned(),
                        None => format!("its outputs are {}", listed(&names)),
                    };
                    let message = match nth {
                        3 => format!("the step `{id}` has no output `{name}`"),
                        _ => format!("there is no `{name}` in `{}`", scan::written(&found.path[..nth])),
                    };
                    return tell(reader, site, found, message, Some(hint));
                }
            },
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
    let base = scan::written(&found.path[..nth]);
    tell(reader, site, found, format!("there is no `{name}` in `{base}`"), Some(hint));
}

fn root(reader: &mut Reader<'_>, site: &Site, found: &Ref, known: &[&str], steps: Option<&BTreeMap<&str, usize>>) {
    let name = &found.path[0];
    let hint = if ["env", "secrets"].contains(&name.as_str()) {
        MACHINE.to_owned()
    } else if steps.is_some_and(|steps| steps.contains_key(name.as_str())) {
        format!("a step is read as `steps.{name}`")
    } else if let Some(name) = nearest(name, known.iter().copied()) {
        format!("did you mean `{name}`?")
    } else {
        let item = known.iter().find(|name| !FIXED.contains(name));
        match (name.as_str(), item) {
            ("item", Some(item)) => format!("the item is called `{item}` here"),
            ("item" | "loop", _) => "an item is there inside of a `foreach` alone".to_owned(),
            ("signal", _) => "a signal is there in the `match` of a `wait` alone".to_owned(),
            ("null" | "nil" | "undefined", _) => "nothing is written `none` in expressions".to_owned(),
            _ => format!("the names here are {}; text stands in quotes", listed(known)),
        }
    };
    tell(reader, site, found, format!("there is no name `{name}` here"), Some(hint));
}

fn tell(reader: &mut Reader<'_>, site: &Site, found: &Ref, message: String, hint: Option<String>) {
    let error = ExprError { message, hint, at: found.at };
    let expr = site.expr.source();
    reader.wrong_expr_at(&site.node, expr, &error, found.text().len());
}
