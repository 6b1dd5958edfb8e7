//! Reading what a step does: exactly one verb, and the keys that go with it.

use super::check::{Part, ScopeKind, Whereabouts};
use super::expr::scan::OPEN;
use super::expr::{Expr, Template};
use super::http_read;
use super::is_reserved;
use super::manifest::{ID_RULE, Kind, command, is_id, limit, outputs};
use super::read::{Fields, Reader};
use super::reference::{given, refer};
use super::spec::*;
use super::step_read::{Around, quorum, rest, steps};
use super::workflow_read::named_templates;
use super::yaml::{Node, Value};
use crate::domain::time::parse_duration;

pub(super) const VERBS: &[&str] =
    &["run", "http", "job", "call", "steps", "switch", "parallel", "wait", "approval", "sleep", "set", "end"];
pub(super) const SWITCH_KEYS: &[&str] = &["mode", "cases", "else"];
pub(super) const CASE_KEYS: &[&str] = &["name", "when", "steps"];
pub(super) const PARALLEL_KEYS: &[&str] = &["branches", "wait", "rest"];
pub(super) const BRANCH_KEYS: &[&str] = &["name", "steps"];
pub(super) const WAIT_KEYS: &[&str] = &["signal", "match", "timeout", "on_timeout"];
pub(super) const APPROVAL_KEYS: &[&str] = &["approvers", "timeout", "on_timeout"];
pub(super) const END_KEYS: &[&str] = &["state", "message"];

/// The one verb of a step or a compensation, and keys that belong to another.
pub fn word<'v>(reader: &mut Reader<'_>, fields: &Fields<'_>, verbs: &[&'v str], whose: &str) -> Option<&'v str> {
    let found: Vec<&str> = verbs.iter().copied().filter(|verb| fields.get(verb).is_some()).collect();
    let word = match found.as_slice() {
        [] => {
            let hint = match verbs.len() {
                3 => "give it `run`, `http` or `job`",
                _ => {
                    "give it `run`, `http`, `job`, `call`, `steps`, `switch`, `parallel`, `wait`, `approval`, `sleep`, \
                      `set` or `end`"
                }
            };
            reader.wrong_hint(fields.place, format!("this {whose} has no verb"), hint);
            return None;
        }
        [word] => *word,
        [several @ .., last] => {
            let places = found.iter().map(|verb| fields.place_of(verb));
            let place = places.max().unwrap_or(fields.place);
            let number = if several.len() == 1 { "two" } else { "several" };
            let names = format!("`{}` and `{last}`", several.join("`, `"));
            reader.wrong_hint(place, format!("this {whose} has {number} verbs, {names}"), "split it");
            return None;
        }
    };
    if fields.get("with").is_some() && !matches!(word, "job" | "call") {
        let hint = match word {
            "run" => "a command takes its data by `env:` or as arguments",
            _ => "it has keys of its own for its data",
        };
        reader.wrong_hint(fields.place_of("with"), "`with` is for `job` and `call`", hint);
    }
    if fields.get("env").is_some() && matches!(word, "http" | "job" | "call" | "sleep" | "set" | "end") {
        let hint = match word {
            "job" | "call" => "it has an environment of its own: give it its data in `with:`",
            _ => "it starts no command that could read it",
        };
        reader.wrong_hint(fields.place_of("env"), "`env` is for `run`, and for groups with commands in them", hint);
    }
    if fields.get("outputs").is_some() && !matches!(word, "run" | "http" | "job" | "steps") {
        let hint = match word {
            "switch" | "parallel" => "its output is an object: the outputs of the steps inside, by branch",
            "call" => "its output is that of the workflow it calls",
            "set" => "its output is what it sets",
            _ => "leave it out",
        };
        reader.wrong_hint(fields.place_of("outputs"), format!("`outputs` is not for `{word}`"), hint);
    }
    Some(word)
}

pub fn verb(reader: &mut Reader<'_>, fields: &Fields<'_>, word: &str, at: usize, inside: &Around<'_>) -> Option<Verb> {
    let node = fields.get(word)?;
    match word {
        "run" | "http" | "job" => job_verb(reader, fields, word, &inside.env),
        "call" => call(reader, fields, node),
        "steps" => Some(group(reader, fields, node, at, inside)),
        "switch" => switch(reader, node, at, inside),
        "parallel" => parallel(reader, node, at, inside),
        "wait" => wait(reader, node, at, inside).map(Verb::Wait),
        "approval" => approval(reader, node, at, inside).map(Verb::Approval),
        "sleep" => sleep(reader, node).map(Verb::Sleep),
        "set" => {
            if matches!(&node.value, Value::Map(entries) if entries.is_empty()) {
                reader.wrong_hint(node.place, "`set` sets nothing", "`set: {total: \"${{ … }}\"}`");
            }
            Some(Verb::Set(named_templates(reader, node, "`set`")))
        }
        _ => end(reader, node).map(Verb::End),
    }
}

/// `run`, `http` or `job`: what is done as one job.
pub fn job_verb(reader: &mut Reader<'_>, fields: &Fields<'_>, word: &str, env: &[(String, Template)]) -> Option<Verb> {
    let node = fields.get(word)?;
    match word {
        "run" => {
            let mut command = command(reader, fields)?;
            let own = std::mem::take(&mut command.env);
            let others = env.iter().filter(|(name, _)| own.iter().all(|(other, _)| other != name));
            command.env = others.cloned().chain(own.iter().cloned()).collect();
            Some(Verb::Run(command))
        }
        "http" => {
            let outputs = fields.get("outputs").and_then(|node| http_read::outputs_of(reader, node));
            http_read::http(reader, node, outputs, "GET").map(Verb::Http)
        }
        _ => {
            let outputs = fields.get("outputs").and_then(|node| outputs(reader, node));
            let with = fields.get("with").map(|node| reader.template(node));
            let kind = reader.name(node, "`job`")?;
            if is_reserved(&kind) {
                reader.wrong(node.place, format!("the job type `{kind}` is kept for goflow itself"));
            }
            Some(Verb::Job { kind, with, outputs })
        }
    }
}

fn call(reader: &mut Reader<'_>, fields: &Fields<'_>, node: &Node) -> Option<Verb> {
    if matches!(node.value, Value::Map(_)) {
        let hint = "`call: NAME`, and its input in `with:` beside it";
        reader.wrong_hint(node.place, "`call` is the name of a workflow, not a mapping", hint);
        return None;
    }
    let workflow = reader.name(node, "`call`")?;
    let with = fields.get("with").map(|node| {
        if !matches!(node.value, Value::Map(_) | Value::Text(_)) {
            reader.wrong(node.place, format!("the input of a workflow is a mapping, not {}", node.what()));
        }
        reader.template(node)
    });
    let place = fields.get("with").map_or(node.place, |with| with.place);
    refer(reader, node, Kind::Workflow, &workflow, given(reader, place, with.as_ref()));
    Some(Verb::Call { workflow, with })
}

fn group(reader: &mut Reader<'_>, fields: &Fields<'_>, node: &Node, at: usize, inside: &Around<'_>) -> Verb {
    let inner = steps(reader, node, "`steps`", Some(at), ScopeKind::Inner, inside);
    if matches!(&node.value, Value::List(items) if items.is_empty()) {
        reader.wrong(node.place, "`steps` is empty: a group has at least one step");
    }
    let outputs = fields.get("outputs").map(|node| {
        reader
            .within(Whereabouts::Step(at, Part::Inside), |reader| named_templates(reader, node, "`outputs` of a group"))
    });
    Verb::Steps { steps: inner, outputs: outputs.unwrap_or_default() }
}

fn switch(reader: &mut Reader<'_>, node: &Node, at: usize, inside: &Around<'_>) -> Option<Verb> {
    let fields = reader.fields(node, "`switch`", SWITCH_KEYS)?;
    let mode = fields.get("mode").and_then(|node| reader.word(node, "`mode`", &SwitchMode::WORDS)).unwrap_or_default();
    let Some(list) = fields.get("cases") else {
        reader.wrong_hint(node.place, "`switch` has no `cases`", "`cases: [{name: …, when: …, steps: […]}]`");
        return None;
    };
    let items = reader.list(list, "`cases`").unwrap_or_default();
    if items.is_empty() {
        reader.wrong(list.place, "`cases` is empty: a switch has at least one case");
    }
    let mut cases: Vec<Case> = Vec::new();
    for (nth, item) in items.iter().enumerate() {
        let Some(keys) = reader.fields(item, "a case", CASE_KEYS) else { continue };
        let name = branch_name(reader, &keys, "case", cases.iter().map(|case| case.name.as_str()));
        let when = match keys.get("when") {
            Some(node) => reader.expr(node, "`when`"),
            None => {
                reader.wrong_hint(item.place, "a case has no `when`", "`else:` is the branch without a condition");
                None
            }
        };
        let always = when.as_ref().is_some_and(|when| when.source().eq_ignore_ascii_case("true"));
        if always && mode == SwitchMode::First && nth + 1 < items.len() {
            let hint = "put it last, or make it the `else:`";
            reader.wrong_hint(keys.place_of("when"), "the cases behind this one can never be reached", hint);
        }
        let inner = branch_steps(reader, &keys, "a case", at, inside);
        // A case without a readable condition stays, so that what asks for its outputs is checked.
        let when = when.or_else(|| Expr::parse("false").ok());
        cases.extend(when.map(|when| Case { name, when, steps: inner }));
    }
    let otherwise = fields.get("else");
    let otherwise = otherwise.map(|node| steps(reader, node, "`else`", Some(at), ScopeKind::Inner, inside));
    Some(Verb::Switch { mode, cases, otherwise: otherwise.unwrap_or_default() })
}

/// The name of a case or a branch: expressions ask for its outputs by it.
fn branch_name<'n>(
    reader: &mut Reader<'_>,
    keys: &Fields<'_>,
    whose: &str,
    mut others: impl Iterator<Item = &'n str>,
) -> String {
    let Some(node) = keys.get("name") else {
        reader.wrong_hint(keys.place, format!("a {whose} has no `name`"), "its outputs are read by its name");
        return String::new();
    };
    let name = reader.text(node, "`name`").unwrap_or_default();
    if !is_id(&name) {
        reader.wrong_hint(node.place, format!("`{name}` cannot name a {whose}"), ID_RULE);
    } else if name == ELSE && whose == "case" {
        reader.wrong_hint(node.place, "`else` is the branch without a condition", "write it as `else:`");
    } else if others.any(|other| other == name) {
        reader.wrong(node.place, format!("the {whose} `{name}` stands twice"));
    }
    name
}

fn branch_steps(
    reader: &mut Reader<'_>,
    keys: &Fields<'_>,
    whose: &str,
    at: usize,
    inside: &Around<'_>,
) -> Vec<StepSpec> {
    match keys.get("steps") {
        Some(node) => steps(reader, node, "`steps`", Some(at), ScopeKind::Inner, inside),
        None => {
            reader.wrong_hint(keys.place, format!("{whose} has no `steps`"), "`steps: []` does nothing");
            Vec::new()
        }
    }
}

fn parallel(reader: &mut Reader<'_>, node: &Node, at: usize, inside: &Around<'_>) -> Option<Verb> {
    let fields = reader.fields(node, "`parallel`", PARALLEL_KEYS)?;
    let Some(list) = fields.get("branches") else {
        reader.wrong_hint(node.place, "`parallel` has no `branches`", "`branches: [{name: …, steps: […]}]`");
        return None;
    };
    let items = reader.list(list, "`branches`").unwrap_or_default();
    if items.is_empty() {
        reader.wrong(list.place, "`branches` is empty: there is nothing to do");
    }
    let mut branches: Vec<Branch> = Vec::new();
    for item in items {
        let Some(keys) = reader.fields(item, "a branch", BRANCH_KEYS) else { continue };
        let name = branch_name(reader, &keys, "branch", branches.iter().map(|branch| branch.name.as_str()));
        let inner = branch_steps(reader, &keys, "a branch", at, inside);
        branches.push(Branch { name, steps: inner });
    }
    let wait = fields.get("wait").and_then(|node| {
        let wait = quorum(reader, node, "`wait`")?;
        if let Quorum::Count(count) = wait
            && count as usize > items.len()
        {
            let has = items.len();
            reader.wrong(node.place, format!("`wait: {count}` can never be: there are {has} branches"));
        }
        Some(wait)
    });
    let wait = wait.unwrap_or_default();
    let rest = rest(reader, &fields, wait, "wait");
    Some(Verb::Parallel { branches, wait, rest })
}

fn wait(reader: &mut Reader<'_>, node: &Node, at: usize, inside: &Around<'_>) -> Option<WaitSpec> {
    if let Value::Text(_) = &node.value {
        let signal = reader.name(node, "`wait`")?;
        return Some(WaitSpec { signal, matching: None, timeout: None, on_timeout: OnTimeout::Fail });
    }
    if !matches!(node.value, Value::Map(_)) {
        let hint = "`wait: paid`, or `wait: {signal: paid, timeout: 3d}`; `sleep: 5m` waits for a time";
        reader.wrong_hint(node.place, format!("`wait` names a signal, it is not {}", node.what()), hint);
        return None;
    }
    let fields = reader.fields(node, "`wait`", WAIT_KEYS)?;
    let matching = fields
        .get("match")
        .and_then(|node| reader.within(Whereabouts::Step(at, Part::Match), |reader| reader.expr(node, "`match`")));
    let timeout = fields.get("timeout").and_then(|node| limit(reader, node));
    let words = [("fail", OnTimeout::Fail), ("continue", OnTimeout::Continue)];
    let on_timeout = on_timeout(reader, &fields, &words, at, inside);
    let Some(signal) = fields.get("signal") else {
        reader.wrong_hint(node.place, "`wait` has no `signal`", "name the signal that ends it: `signal: paid`");
        return None;
    };
    let signal = reader.name(signal, "`signal`")?;
    Some(WaitSpec { signal, matching, timeout, on_timeout })
}

fn approval(reader: &mut Reader<'_>, node: &Node, at: usize, inside: &Around<'_>) -> Option<ApprovalSpec> {
    let fields = reader.fields(node, "`approval`", APPROVAL_KEYS)?;
    let approvers = fields.get("approvers").map(|node| {
        if let Value::Text(who) = &node.value {
            reader.wrong_hint(node.place, "`approvers` is a list, not a string", format!("write `approvers: [{who}]`"));
            return Vec::new();
        }
        let items = reader.list(node, "`approvers`").unwrap_or_default();
        if items.is_empty() && matches!(node.value, Value::List(_)) {
            reader.wrong_hint(node.place, "`approvers` is empty: nobody could answer", "leave it out for anybody");
        }
        items.iter().map(|item| reader.text_template(item, "an approver")).collect()
    });
    let timeout = fields.get("timeout").and_then(|node| limit(reader, node));
    let words = [("fail", OnTimeout::Fail), ("approve", OnTimeout::Approve), ("reject", OnTimeout::Reject)];
    let on_timeout = on_timeout(reader, &fields, &words, at, inside);
    Some(ApprovalSpec { approvers: approvers.unwrap_or_default(), timeout, on_timeout })
}

/// A word, or steps to do instead.
fn on_timeout(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    words: &[(&str, OnTimeout)],
    at: usize,
    inside: &Around<'_>,
) -> OnTimeout {
    let Some(node) = fields.get("on_timeout") else { return OnTimeout::Fail };
    if fields.get("timeout").is_none() {
        let hint = "say when: `timeout: 24h`";
        reader.wrong_hint(fields.place_of("on_timeout"), "`on_timeout` is never reached without `timeout`", hint);
    }
    if let Value::Map(_) = &node.value {
        let Some(keys) = reader.fields(node, "`on_timeout`", &["steps"]) else { return OnTimeout::Fail };
        return OnTimeout::Steps(branch_steps(reader, &keys, "`on_timeout`", at, inside));
    }
    let indexes: Vec<(&str, usize)> = words.iter().enumerate().map(|(nth, (word, _))| (*word, nth)).collect();
    let found = reader.word(node, "`on_timeout`", &indexes);
    found.and_then(|nth| words.get(nth)).map_or(OnTimeout::Fail, |(_, what)| what.clone())
}

fn sleep(reader: &mut Reader<'_>, node: &Node) -> Option<Template> {
    if let Value::Map(_) | Value::List(_) | Value::Null | Value::Bool(_) = &node.value {
        reader.wrong_hint(node.place, format!("`sleep` is a duration, not {}", node.what()), "`sleep: 5m`");
        return None;
    }
    let length = reader.text_template(node, "`sleep`");
    if let Template::Literal(serde_json::Value::String(text)) = &length
        && !text.contains(OPEN)
        && let Err(error) = parse_duration(text)
    {
        reader.wrong(node.place, format!("`sleep`: {error}"));
    }
    Some(length)
}

fn end(reader: &mut Reader<'_>, node: &Node) -> Option<EndSpec> {
    if !matches!(node.value, Value::Map(_)) {
        let state = reader.word(node, "`end`", &EndState::WORDS)?;
        return Some(EndSpec { state, message: None });
    }
    let fields = reader.fields(node, "`end`", END_KEYS)?;
    let state = fields.get("state").and_then(|node| reader.word(node, "`state`", &EndState::WORDS));
    let message = fields.get("message").map(|node| reader.text_template(node, "`message`"));
    Some(EndSpec { state: state.unwrap_or_default(), message })
}
