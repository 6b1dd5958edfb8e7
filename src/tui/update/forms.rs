//! Forms: what has to be written before a verb can be done: who answers an approval, what a signal
//! carries. Nothing is sent that the command line would refuse for its form.

use super::inputs::type_into;
use super::{Effect, State, flash};
use crate::domain::{Json, Name, limits};
use crate::store::StoreUrl;
use crate::tui::msg::{Body, Code, Key, Order, Subject, Target, Verb};
use crate::tui::rows::Rows;
use crate::tui::state::{Asks, Form, FormField, Overlay};
use crate::tui::text::short;
use crate::tui::views::View;

fn field(name: &'static str, text: impl Into<String>) -> FormField {
    FormField { name, text: text.into() }
}

/// Opens the form of a verb; says why if there is nothing for it here.
pub fn open(state: &mut State, verb: Verb) -> Vec<Effect> {
    if let Some(why) = state.why_no_verbs() {
        return flash(state, format!("{} did nothing: {why}", super::word(verb)), true);
    }
    let form = match verb {
        Verb::Signal => signal(state),
        Verb::Add => Ok(add_shard()),
        Verb::Drain => drain_shard(state),
        _ => answer(state, verb == Verb::Approve),
    };
    match form {
        Ok(form) => {
            state.overlay = Some(Overlay::Form(form));
            Vec::new()
        }
        Err(why) => flash(state, why, true),
    }
}

/// The run that is selected, or that the page is of.
fn run(state: &State) -> Option<String> {
    let page = state.page();
    match (page.view, &page.body) {
        (View::Run, _) => page.of.clone(),
        (_, Some(Body::Overview(overview))) => match overview.subject(page.cursor.at)? {
            Subject::Run(run) | Subject::Approval { run, .. } => Some(run),
            _ => None,
        },
        _ => page.id_at(page.cursor.at).map(str::to_owned),
    }
}

fn answer(state: &State, approved: bool) -> Result<Form, String> {
    let page = state.page();
    let nothing = "nothing waits for an approval here".to_owned();
    let run = run(state).ok_or_else(|| nothing.clone())?;
    let (step, who) = match &page.body {
        Some(Body::Run(_)) => {
            let waits =
                |row: &&crate::tui::run_page::TreeRow| row.step.as_ref().is_some_and(|step| step.approvers.is_some());
            // The selected one, or else the only one.
            let selected = page.tree_row().filter(waits);
            let mut others = page.tree.iter().filter(waits);
            let row = match (selected, others.next(), others.next()) {
                (Some(row), ..) | (None, Some(row), None) => row,
                (None, Some(_), Some(_)) => return Err("several steps wait: select the one that is meant".to_owned()),
                (None, None, _) => return Err(nothing),
            };
            (Some(row.path.clone()), row.step.as_ref().and_then(|step| step.approvers.clone()).unwrap_or_default())
        }
        Some(Body::Overview(overview)) => match overview.subject(page.cursor.at) {
            Some(Subject::Approval { step, .. }) => (Some(step), Vec::new()),
            _ => return Err(nothing),
        },
        Some(Body::Part(part)) => match &part.rows {
            Rows::Runs(rows) if rows.get(page.cursor.at).is_some_and(|run| run.approvals > 0) => (None, Vec::new()),
            _ => return Err(nothing),
        },
        _ => return Err(nothing),
    };
    let verb = if approved { "approve" } else { "reject" };
    let what = step.clone().unwrap_or_else(|| "what waits".to_owned());
    // A name alone may not be enough: whoever may answer is proposed beside it.
    let by = std::iter::once(state.about.user.clone()).chain(who).filter(|name| !name.is_empty());
    let by = by.collect::<Vec<_>>().join(" ");
    Ok(Form {
        title: format!("{verb} {what} of run {}", short(&run)),
        asks: Asks::Answer { run, step, approved },
        hint: "",
        fields: vec![field("by", by), field("comment", "")],
        at: 0,
        error: None,
    })
}

fn signal(state: &State) -> Result<Form, String> {
    let run = run(state).ok_or("there is no run to signal here")?;
    let waits = |row: &&crate::tui::run_page::TreeRow| {
        row.signal.is_some() && row.step.as_ref().is_some_and(|step| !step.state.has_ended())
    };
    let page = state.page();
    let selected = page.tree_row().filter(waits).or_else(|| page.tree.iter().find(waits));
    let name = selected.and_then(|row| row.signal.clone()).unwrap_or_default();
    let at = usize::from(!name.is_empty());
    let title = format!("signal run {}", short(&run));
    Ok(Form {
        title,
        asks: Asks::Signal { run },
        hint: "without JSON it carries null",
        fields: vec![field("name", name), field("JSON", "")],
        at,
        error: None,
    })
}

/// Carried to where the least waits, if nobody says otherwise.
fn drain_shard(state: &State) -> Result<Form, String> {
    let rows = super::acts::shards(state);
    let row = rows.get(state.page().cursor.at).ok_or("there is no shard to drain here")?;
    let id = row.number().ok_or("this is no number of a shard")?;
    if row.state == "removed" {
        return Err(format!("shard {id} was removed: nothing is on it"));
    }
    let into = row.carried_to.map_or(String::new(), |into| into.to_string());
    Ok(Form {
        title: format!("drain shard {id}: it takes no new work"),
        asks: Asks::DrainShard { id },
        hint: "left empty, what lies there is done there",
        fields: vec![field("move to", into)],
        at: 0,
        error: None,
    })
}

fn add_shard() -> Form {
    Form {
        title: "add an empty store as a shard".to_owned(),
        asks: Asks::AddShard,
        hint: "left empty, it lies beside the others, on a server there is",
        fields: vec![field("URL", "")],
        at: 0,
        error: None,
    }
}

pub fn key(state: &mut State, mut form: Form, key: Key) -> Vec<Effect> {
    let fields = form.fields.len().max(1);
    match key.code {
        Code::Esc => return Vec::new(),
        Code::Tab | Code::Down => form.at = (form.at + 1) % fields,
        Code::BackTab | Code::Up => form.at = (form.at + fields - 1) % fields,
        Code::Enter => match order(&form) {
            Ok(order) => {
                if order.verb == Verb::Add {
                    // It takes some seconds, and nothing is seen of it before.
                    flash(state, "adding a shard: every process hears of it first", false);
                }
                return vec![Effect::Act(order)];
            }
            Err((at, why)) => (form.at, form.error) = (at, Some(why)),
        },
        _ => {
            if let Some(field) = form.fields.get_mut(form.at)
                && type_into(&mut field.text, key)
            {
                // JSON that is being written is no mistake yet, and one that was mended is none any more.
                let was_wrong = form.error.is_some();
                form.error = order(&form).err().map(|(_, why)| why).filter(|_| was_wrong);
            }
        }
    }
    state.overlay = Some(Overlay::Form(form));
    Vec::new()
}

/// What a form asks for; or which field is wrong, and why.
fn order(form: &Form) -> Result<Order, (usize, String)> {
    let text = |at: usize| form.fields.get(at).map_or("", |field| field.text.trim());
    match &form.asks {
        Asks::Answer { run, step, approved } => {
            let by: Vec<String> = text(0).split_whitespace().map(str::to_owned).collect();
            let comment = Some(text(1).to_owned()).filter(|text| !text.is_empty());
            let verb = if *approved { Verb::Approve } else { Verb::Reject };
            Ok(Order { verb, target: Target::Answer { run: run.clone(), step: step.clone(), by, comment } })
        }
        Asks::Signal { run } => {
            let name: Name = text(0).parse().map_err(|error: crate::domain::name::BadName| (0, error.to_string()))?;
            let data = if text(1).is_empty() { "null" } else { text(1) };
            let parsed = Json::parse(data, limits::PAYLOAD_BYTES).map_err(|error| (1, format!("the JSON {error}")))?;
            let data = parsed.as_str().to_owned();
            Ok(Order { verb: Verb::Signal, target: Target::Signal { run: run.clone(), name: name.to_string(), data } })
        }
        Asks::DrainShard { id } => {
            let number = |text: &str| text.parse::<u16>().map_err(|_| (0, format!("`{text}` is no number of a shard")));
            let into = Some(text(0)).filter(|text| !text.is_empty()).map(number).transpose()?;
            if into == Some(*id) {
                return Err((0, "a shard is carried to another one".to_owned()));
            }
            Ok(Order { verb: Verb::Drain, target: Target::DrainShard { id: *id, into } })
        }
        Asks::AddShard => {
            let url = Some(text(0).to_owned()).filter(|url| !url.is_empty());
            if let Some(url) = &url {
                may_be_shard(url).map_err(|why| (0, why))?;
            }
            Ok(Order { verb: Verb::Add, target: Target::AddShard { url } })
        }
    }
}

/// The same that `goflow shard add` refuses before it asks anybody.
fn may_be_shard(url: &str) -> Result<(), String> {
    match url.parse::<StoreUrl>() {
        Ok(StoreUrl::Memory | StoreUrl::Shards(_)) => Err("a shard is one store that outlives this console".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}
