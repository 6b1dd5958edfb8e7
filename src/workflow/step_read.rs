//! Reading a step: its id, when it runs, and the modifiers that go with any verb. What it does is in
//! `verb_read`.

use super::check::{Part, ScopeKind, Shape, Whereabouts};
use super::expr::Template;
use super::manifest::{ID_RULE, env, is_id, limit, limit_of, retry_of};
use super::problem::Place;
use super::read::{Fields, Reader};
use super::spec::*;
use super::verb_read::{self, VERBS};
use super::workflow_read::Defaults;
use super::yaml::{Node, Value};
use crate::domain::Name;
use crate::domain::limits::PRIORITY;
use crate::domain::retry::RetryPolicy;
use crate::domain::time::format_duration;

/// What the steps inside of something take over from it.
#[derive(Clone, Debug)]
pub struct Around<'d> {
    pub defaults: &'d Defaults,
    pub env: Vec<(String, Template)>,
    pub queue: Option<Name>,
    pub priority: i8,
}

impl<'d> Around<'d> {
    pub fn new(defaults: &'d Defaults) -> Around<'d> {
        Around { defaults, env: Vec::new(), queue: None, priority: 0 }
    }
}

pub(super) const KEYS: &[&str] = &[
    "id",
    "run",
    "http",
    "job",
    "call",
    "steps",
    "switch",
    "parallel",
    "wait",
    "approval",
    "sleep",
    "set",
    "end",
    "with",
    "needs",
    "join",
    "rest",
    "if",
    "foreach",
    "while",
    "retry",
    "timeout",
    "deadline",
    "compensate",
    "env",
    "outputs",
    "queue",
    "priority",
    "continue_on_error",
];
pub(super) const FOREACH_KEYS: &[&str] = &["items", "as", "key", "max_parallel", "on_error", "wait", "rest"];
pub(super) const WHILE_KEYS: &[&str] = &["condition", "max"];
pub(super) const COMPENSATE_KEYS: &[&str] =
    &["scope", "run", "http", "job", "with", "env", "outputs", "retry", "timeout"];

/// A list of steps. `owner` is the step it stands in.
pub fn steps(
    reader: &mut Reader<'_>,
    node: &Node,
    what: &str,
    owner: Option<usize>,
    kind: ScopeKind,
    around: &Around<'_>,
) -> Vec<StepSpec> {
    let scope = reader.outline.open(owner, kind);
    let Some(items) = reader.list(node, what) else { return Vec::new() };
    items.iter().filter_map(|item| step(reader, item, scope, around)).collect()
}

fn step(reader: &mut Reader<'_>, node: &Node, scope: usize, around: &Around<'_>) -> Option<StepSpec> {
    let fields = reader.fields(node, "a step", KEYS)?;
    let place = fields.get("id").map_or(node.place, |node| node.place);
    let at = reader.outline.add(scope, place);
    let id = id(reader, &fields, place);
    reader.outline.drafts[at].id.clone_from(&id);
    let needs = needs(reader, &fields);
    let (join, rest) = join(reader, &fields, needs.len());
    reader.outline.drafts[at].needs.clone_from(&needs);
    reader.outline.drafts[at].needs_place = fields.place_of("needs");
    let before = Whereabouts::Step(at, Part::Before);
    let condition = fields.get("if").and_then(|node| reader.within(before, |reader| reader.expr(node, "`if`")));
    let foreach = fields.get("foreach").and_then(|node| foreach(reader, node, at));
    reader.outline.drafts[at].item = foreach.as_ref().map(|foreach| foreach.name.clone());
    reader.outline.drafts[at].repeats = fields.get("while").is_some();
    let repeat = fields
        .get("while")
        .and_then(|node| reader.within(Whereabouts::Step(at, Part::While), |reader| repeat(reader, node)));
    let queue = fields.get("queue").and_then(|node| reader.name(node, "`queue`")).or_else(|| around.queue.clone());
    let most = i64::from(PRIORITY);
    let priority = fields.get("priority").and_then(|node| reader.whole(node, "`priority`", -most, most));
    let priority = priority.and_then(|priority| i8::try_from(priority).ok()).unwrap_or(around.priority);
    let word = verb_read::word(reader, &fields, VERBS, "step");
    let inside = Around { defaults: around.defaults, env: Vec::new(), queue: queue.clone(), priority };
    let inside = Around { env: inherited(reader, &fields, at, word, around), ..inside };
    let verb = word.and_then(|word| {
        reader.within(Whereabouts::Step(at, Part::Work), |reader| verb_read::verb(reader, &fields, word, at, &inside))
    });
    if let Some(word) = word {
        fitting(reader, &fields, word, reader.outline.scopes[scope].kind);
    }
    let is_job = verb.as_ref().is_some_and(Verb::is_job);
    let limits = Limits::read(reader, &fields, around.defaults, is_job);
    let continue_on_error =
        fields.get("continue_on_error").and_then(|node| reader.flag(node, "`continue_on_error`")).unwrap_or(false);
    let compensate = fields
        .get("compensate")
        .and_then(|node| reader.within(Whereabouts::Step(at, Part::Undo), |reader| compensate(reader, node, around)));
    // A step without a readable verb stays in the graph, so that the others are checked in full.
    let verb = verb.unwrap_or(Verb::Set(Vec::new()));
    reader.outline.drafts[at].shape = match (&foreach, word) {
        (None, Some(_)) => Shape::of(&verb),
        _ => Shape::Any,
    };
    let (queue, priority) = if is_job { (queue, priority) } else { (None, 0) };
    let needs = needs.into_iter().map(|(id, _)| id).collect();
    let Limits { retry, timeout, deadline } = limits;
    let retry = retry.unwrap_or_else(|| verb.usual_retry());
    Some(StepSpec {
        id,
        verb,
        needs,
        join,
        rest,
        condition,
        foreach,
        repeat,
        retry,
        timeout,
        deadline,
        compensate,
        queue,
        priority,
        continue_on_error,
    })
}

fn id(reader: &mut Reader<'_>, fields: &Fields<'_>, place: Place) -> String {
    let Some(node) = fields.get("id") else {
        reader.wrong_hint(place, "a step has no `id`", "give it one: `id: …`");
        return String::new();
    };
    let id = reader.text(node, "`id`").unwrap_or_default();
    if !id.is_empty() && !is_id(&id) {
        reader.wrong_hint(place, format!("`{id}` cannot be the id of a step"), ID_RULE);
    }
    id
}

fn needs(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Vec<(String, Place)> {
    let Some(node) = fields.get("needs") else { return Vec::new() };
    if let Value::Text(id) = &node.value {
        reader.wrong_hint(node.place, "`needs` is a list, not a string", format!("write `needs: [{id}]`"));
        return vec![(id.clone(), node.place)];
    }
    let mut needs: Vec<(String, Place)> = Vec::new();
    for item in reader.list(node, "`needs`").unwrap_or_default() {
        let Some(id) = reader.text(item, "an item of `needs`") else { continue };
        if needs.iter().any(|(other, _)| *other == id) {
            reader.wrong(item.place, format!("`{id}` stands twice in `needs`"));
        } else {
            needs.push((id, item.place));
        }
    }
    needs
}

fn join(reader: &mut Reader<'_>, fields: &Fields<'_>, needs: usize) -> (Quorum, Rest) {
    let join = fields.get("join").and_then(|node| {
        let join = quorum(reader, node, "`join`")?;
        match join {
            _ if needs == 0 => {
                let hint = "name what it waits for in `needs`, or leave `join` out";
                reader.wrong_hint(node.place, "`join` has nothing to join: this step has no `needs`", hint);
            }
            Quorum::Count(count) if count as usize > needs => {
                let message = format!("`join: {count}` can never be: this step has {needs} in `needs`");
                reader.wrong(node.place, message);
            }
            _ => {}
        }
        Some(join)
    });
    let rest = rest(reader, fields, join.unwrap_or_default(), "join");
    (join.unwrap_or_default(), rest)
}

/// `all`, `any`, or how many.
pub fn quorum(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Quorum> {
    if matches!(node.value, Value::Number(_)) {
        return reader.count(node, what).map(Quorum::Count);
    }
    if !matches!(node.value, Value::Text(_)) {
        reader.wrong(node.place, format!("{what} is `all`, `any` or a whole number, not {}", node.what()));
        return None;
    }
    reader.word(node, what, &[("all", Quorum::All), ("any", Quorum::Any)])
}

/// `rest`, which goes with a quorum that does not wait for all.
pub fn rest(reader: &mut Reader<'_>, fields: &Fields<'_>, quorum: Quorum, with: &str) -> Rest {
    let Some(node) = fields.get("rest") else { return Rest::default() };
    if quorum == Quorum::All {
        let hint = format!("`rest` goes with `{with}: any` or a number");
        reader.wrong_hint(fields.place_of("rest"), "there is no rest where all are waited for", hint);
    }
    reader.word(node, "`rest`", &Rest::WORDS).unwrap_or_default()
}

/// Names that an item cannot have, because expressions know them already.
const TAKEN: &[&str] =
    &["input", "steps", "needs", "run", "step", "loop", "signal", "env", "secrets", "job", "payload"];

fn foreach(reader: &mut Reader<'_>, node: &Node, at: usize) -> Option<Foreach> {
    let before = Whereabouts::Step(at, Part::Before);
    let items_of = |reader: &mut Reader<'_>, node: &Node| {
        reader.within(before, |reader| match &node.value {
            Value::List(_) | Value::Map(_) => Some(reader.template(node)),
            _ => reader.expr(node, "`items`").map(Template::Whole),
        })
    };
    if !matches!(node.value, Value::Map(_)) {
        let items = items_of(reader, node)?;
        let name = named_item(reader, Foreach::USUAL_NAME.to_owned(), node.place, at);
        let (max_parallel, on_error) = (Foreach::USUAL_PARALLEL, OnError::default());
        return Some(Foreach { items, name, key: None, max_parallel, on_error, wait: Quorum::All, rest: Rest::Cancel });
    }
    let fields = reader.fields(node, "`foreach`", FOREACH_KEYS)?;
    let Some(items) = fields.get("items") else {
        reader.wrong_hint(node.place, "`foreach` has no `items`", "`foreach: {items: input.list}`");
        return None;
    };
    let items = items_of(reader, items);
    let (name, place) = match fields.get("as") {
        Some(node) => (reader.text(node, "`as`").unwrap_or_default(), node.place),
        None => (Foreach::USUAL_NAME.to_owned(), node.place),
    };
    let name = named_item(reader, name, place, at);
    reader.outline.drafts[at].item = Some(name.clone());
    let key = fields
        .get("key")
        .and_then(|node| reader.within(Whereabouts::Step(at, Part::Key), |reader| reader.expr(node, "`key`")));
    let most = i64::from(Foreach::MOST_PARALLEL);
    let max_parallel = fields.get("max_parallel").and_then(|node| reader.whole(node, "`max_parallel`", 1, most));
    let max_parallel = max_parallel.and_then(|most| u32::try_from(most).ok()).unwrap_or(Foreach::USUAL_PARALLEL);
    let on_error = fields.get("on_error").and_then(|node| reader.word(node, "`on_error`", &OnError::WORDS));
    let wait = fields.get("wait").and_then(|node| quorum(reader, node, "`wait`")).unwrap_or_default();
    let rest = rest(reader, &fields, wait, "wait");
    let on_error = on_error.unwrap_or_default();
    Some(Foreach { items: items?, name, key, max_parallel, on_error, wait, rest })
}

fn named_item(reader: &mut Reader<'_>, name: String, place: Place, at: usize) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let around = reader.outline.owners(at).find(|owner| reader.outline.drafts[*owner].item.as_deref() == Some(&name));
    if !plain {
        reader.wrong_hint(place, format!("`{name}` cannot name an item"), "letters, digits and _, no digit first");
    } else if TAKEN.contains(&name.as_str()) {
        reader.wrong_hint(place, format!("`{name}` is a name that expressions know already"), "choose another");
    } else if let Some(owner) = around {
        let message =
            format!("`{name}` is the item of `{}`, around this step, already", reader.outline.drafts[owner].id);
        reader.wrong_hint(place, message, "give one of them another name: `as: …`");
    }
    name
}

fn repeat(reader: &mut Reader<'_>, node: &Node) -> Option<While> {
    let fields = reader.fields(node, "`while`", WHILE_KEYS)?;
    for key in WHILE_KEYS {
        if fields.get(key).is_none() {
            let hint = "`while: {condition: \"…\", max: 10}`: an end that is sure to come";
            reader.wrong_hint(node.place, format!("`while` has no `{key}`"), hint);
        }
    }
    let condition = fields.get("condition").and_then(|node| reader.expr(node, "`condition`"));
    let max = fields.get("max").and_then(|node| reader.count(node, "`max`"));
    Some(While { condition: condition?, max: max? })
}

/// The variables for commands of this step: those of the steps around it, under its own. Those of a
/// command itself are read with it.
fn inherited(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    at: usize,
    word: Option<&str>,
    around: &Around<'_>,
) -> Vec<(String, Template)> {
    let mut all = around.env.clone();
    if let (Some(node), Some("steps" | "switch" | "parallel" | "wait" | "approval")) = (fields.get("env"), word) {
        let own = reader.within(Whereabouts::Step(at, Part::GroupEnv), |reader| env(reader, node));
        all.retain(|(name, _)| own.iter().all(|(other, _)| other != name));
        all.extend(own);
    }
    all
}

/// Tells modifiers that can mean nothing beside a verb.
fn fitting(reader: &mut Reader<'_>, fields: &Fields<'_>, word: &str, scope: ScopeKind) {
    let mut refuse = |keys: &[&str], why: &str, hint: &str| {
        for key in keys.iter().filter(|key| fields.get(key).is_some()) {
            reader.wrong_hint(fields.place_of(key), format!("`{key}` means nothing beside `{word}`: {why}"), hint);
        }
    };
    match word {
        "wait" | "approval" => {
            refuse(&["timeout"], "it has a limit of its own", &format!("write `{word}: {{timeout: …}}`"));
        }
        "sleep" => refuse(&["timeout"], "it ends by itself", "leave it out"),
        "set" | "end" => refuse(&["retry", "timeout", "deadline"], "it is done at once", "leave it out"),
        _ => {}
    }
    if word == "end" {
        refuse(&["foreach", "while", "compensate"], "it ends the run", "leave it out");
    }
    if matches!(word, "wait" | "approval" | "sleep" | "set" | "end" | "call") {
        refuse(&["queue", "priority"], "it is no job", "leave it out");
    }
    if scope == ScopeKind::Finally {
        refuse(&["compensate"], "a step of `finally` is not undone", "leave it out");
    }
}

struct Limits {
    retry: Option<RetryPolicy>,
    timeout: Option<std::time::Duration>,
    deadline: Option<std::time::Duration>,
}

impl Limits {
    /// Defaults are for jobs alone: a wait of days would end by a limit that was meant for commands.
    fn read(reader: &mut Reader<'_>, fields: &Fields<'_>, defaults: &Defaults, is_job: bool) -> Limits {
        let retry = (is_job || fields.get("retry").is_some()).then(|| retry_of(reader, fields, defaults.retry.clone()));
        let timeout = fields.get("timeout").and_then(|node| limit(reader, node));
        let timeout = timeout.or(defaults.timeout.filter(|_| is_job));
        let deadline = fields.get("deadline").and_then(|node| limit_of(reader, node, "`deadline`"));
        if let (Some(one), Some(all), Some(_)) = (timeout, deadline, fields.get("timeout"))
            && one > all
        {
            let message = format!("all attempts may take {}, and one of them longer", format_duration(all));
            let hint = "`deadline` is the limit of all attempts, `timeout` that of one";
            reader.wrong_hint(fields.place_of("deadline"), message, hint);
        }
        Limits { retry, timeout, deadline }
    }
}

fn compensate(reader: &mut Reader<'_>, node: &Node, around: &Around<'_>) -> Option<Compensate> {
    let fields = reader.fields(node, "`compensate`", COMPENSATE_KEYS)?;
    let scope = fields.get("scope").and_then(|node| reader.word(node, "`scope`", &CompensateScope::WORDS));
    let retry = retry_of(reader, &fields, patient());
    let timeout = fields.get("timeout").and_then(|node| limit(reader, node)).or(around.defaults.timeout);
    let word = verb_read::word(reader, &fields, &["run", "http", "job"], "compensation")?;
    let verb = verb_read::job_verb(reader, &fields, word, &around.env)?;
    Some(Compensate { scope: scope.unwrap_or(CompensateScope::Completed), verb, retry, timeout })
}
