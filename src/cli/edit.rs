//! A job in the operator's editor: what of it can be changed, as text and back. A payload that is not
//! touched stays the same byte for byte. Knows nothing of when a change is allowed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::codes::Code;
use super::context::Context;
use super::error::{CommandError, Result, fail, pointing_at};
use super::verbs;
use crate::api::verbs::Left;
use crate::api::{Client, JobView, Verb};
use crate::domain::edit::Edit;
use crate::domain::text::{display_safe, size};
use crate::domain::time::{format_duration, parse_duration};
use crate::domain::{JobState, Json, limits};
use crate::store::Stored;
use crate::sys::editor::{Draft, EditError};

/// Lets the operator change a job; with `retry`, a dead one lives again with the change.
///
/// # Errors
/// A state that does not allow it, before the editor is opened; a text that is not understood, with
/// its place and where it is kept.
pub async fn one(context: &Context, client: &Client, stored: &Stored, retry: bool) -> Result {
    allowed(stored, retry)?;
    let (id, before) = (stored.job.id, stored.job.editable());
    let name = format!("goflow-{}-{:08x}.json", id.short(), context.entropy.next() as u32);
    let mut draft = Draft::new(&std::env::temp_dir(), &name, &text(stored, &before)).map_err(failed)?;
    let text = draft.edit(&context.env).map_err(failed)?;
    let edit = match read(&text, &before.payload) {
        Ok(edit) => edit,
        Err(error) => {
            return Err(error.hint(format!("nothing was changed; your text is in {}", draft.keep().display())));
        }
    };
    if edit == before && !retry {
        context.ui.say("nothing was changed");
        return Ok(());
    }
    match client.edit(stored, edit, retry).await? {
        Ok(stored) => {
            let did = if retry { "retried" } else { "changed" };
            context.ui.result(&JobView::from(&stored), &format!("{did} 1 job"))
        }
        Err(left) => {
            let path = draft.keep().display().to_string();
            let error = if retry { verbs::refused(Verb::Retry, id, &left) } else { moved_on(stored, &left) };
            Err(error.hint(format!("your text is in {path}")))
        }
    }
}

fn allowed(stored: &Stored, retry: bool) -> Result {
    let (id, state) = (stored.job.id, stored.place.state());
    if let Some(link) = &stored.job.link {
        let left = Left::Step { run: link.run, step: link.step.clone() };
        return Err(verbs::refused(Verb::Retry, id, &left));
    }
    match (state, retry) {
        (JobState::Dead | JobState::Cancelled, true) => Ok(()),
        (state, true) => Err(verbs::refused(Verb::Retry, id, &Left::State(state))),
        (JobState::Scheduled | JobState::Pending | JobState::Retrying, false) => Ok(()),
        (state, false) => Err(moved_on(stored, &Left::State(state))),
    }
}

fn moved_on(stored: &Stored, left: &Left) -> CommandError {
    let (id, state) = (stored.job.id, stored.place.state());
    match left {
        Left::State(JobState::Dead) => fail(Code::StateConflict, format!("job {id} is dead"))
            .hint(format!("`goflow dlq retry --edit {}` changes it and retries it", id.short())),
        Left::State(_) => {
            fail(Code::StateConflict, format!("job {id} is {state}, and only a job that waits can be changed"))
        }
        _ => fail(Code::StateConflict, format!("job {id} had changed meanwhile")),
    }
}

fn failed(error: EditError) -> CommandError {
    fail(Code::Edit, error.to_string()).hint("nothing was changed; $VISUAL or $EDITOR names the editor")
}

/// The text for the editor. Lines with `#` are for the reader.
fn text(stored: &Stored, edit: &Edit) -> String {
    let job = &stored.job;
    let mut text = format!(
        "# job {} of type {} on queue {}, {}\n# change the values; lines that begin with # are left out\n",
        job.id,
        job.kind,
        job.queue,
        stored.place.state()
    );
    if let Some(error) = &job.error {
        for line in error.to_string().lines().take(10) {
            let _ = writeln!(text, "# {}", display_safe(line));
        }
    }
    let timeout = edit.timeout_ms.map(|ms| format_duration(Duration::from_millis(ms)));
    let indented = |json: String| json.replace('\n', "\n  ");
    let metadata = serde_json::to_string_pretty(&edit.metadata).unwrap_or_default();
    let _ = write!(
        text,
        "{{\n  \"payload\": {},\n  \"priority\": {},\n  \"max_retries\": {},\n  \"timeout\": {},\n  \"metadata\": {}\n}}\n",
        indented(laid_out(&edit.payload)),
        edit.priority,
        edit.max_retries,
        serde_json::json!(timeout),
        indented(metadata),
    );
    text
}

/// A payload on several lines, if that loses nothing of it.
fn laid_out(payload: &Json) -> String {
    let value = payload.to_value();
    match serde_json::to_string_pretty(&value) {
        Ok(pretty) if squeezed(&pretty) == squeezed(payload.as_str()) => pretty,
        _ => payload.to_string(),
    }
}

/// JSON text without the white space between its parts.
fn squeezed(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    json.chars()
        .filter(|c| {
            let keep = in_string || !c.is_ascii_whitespace();
            match c {
                _ if escaped => escaped = false,
                '\\' if in_string => escaped = true,
                '"' => in_string = !in_string,
                _ => {}
            }
            keep
        })
        .collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Edited<'a> {
    #[serde(borrow)]
    payload: &'a RawValue,
    priority: i8,
    max_retries: u32,
    timeout: Option<String>,
    metadata: BTreeMap<String, String>,
}

fn read(text: &str, before: &Json) -> Result<Edit> {
    // Empty lines in their stead keep the numbers of the others.
    let blank = |line: &str| if line.trim_start().starts_with('#') { String::new() } else { line.to_owned() };
    let json: String = text.lines().map(|line| blank(line) + "\n").collect();
    let edited: Edited<'_> = serde_json::from_str(&json).map_err(|error| {
        let whole = error.to_string();
        let message = whole.split(" at line ").next().unwrap_or(&whole);
        let (line, column) = (error.line(), error.column());
        let source = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
        fail(Code::Edit, format!("line {line}, column {column} of the edited job: {message}")).detail(pointing_at(
            source,
            column.saturating_sub(1),
            1,
        ))
    })?;
    let wrong = |message: String| fail(Code::Edit, message);
    let payload = match edited.payload.get() {
        same if squeezed(same) == squeezed(before.as_str()) => before.clone(),
        // What was laid out over several lines for the editor goes back without that.
        other => Json::parse(&squeezed(other), limits::PAYLOAD_BYTES)
            .map_err(|error| wrong(format!("`payload`: {error}")))?,
    };
    if edited.priority.unsigned_abs() > limits::PRIORITY.unsigned_abs() {
        return Err(wrong(format!("`priority`: {} is not in -100 to 100", edited.priority)));
    }
    if edited.max_retries > 10_000 {
        return Err(wrong(format!("`max_retries`: {} is not in 0 to 10000", edited.max_retries)));
    }
    let timeout = edited.timeout.as_deref().map(parse_duration).transpose();
    let timeout = timeout.map_err(|error| wrong(format!("`timeout`: {error}")))?;
    if timeout.is_some_and(|timeout| timeout.is_zero()) {
        return Err(wrong("`timeout`: it leaves no time at all".to_owned()));
    }
    let bytes: usize = edited.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > limits::METADATA_BYTES {
        let (is, most) = (size(bytes as u64), size(limits::METADATA_BYTES as u64));
        return Err(wrong(format!("`metadata`: it is {is}, more than the {most} allowed")));
    }
    Ok(Edit {
        payload,
        priority: edited.priority,
        max_retries: edited.max_retries,
        timeout_ms: timeout.map(|timeout| timeout.as_millis() as u64),
        metadata: edited.metadata,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Job, JobId, Ms, Place};

    fn stored(payload: &str) -> Stored {
        let name = |text: &str| text.parse().expect("a name");
        let payload = Json::parse(payload, 1_000).expect("JSON");
        let job = Job::new(JobId::from_parts(Ms(1), Default::default(), 7), name("mail"), name("default"), payload);
        Stored::idle(job, Place::Pending, Ms(0))
    }

    #[test]
    fn a_job_that_was_not_touched_comes_back_the_same() {
        for payload in [
            "null",
            r##"{"a":[1,2],"b":{"c":"x  y\n\"#}"}}"##,
            r#"{"b": 1.50, "a": 12345678901234567890123}"#,
            "{\n\"a\":1.50}",
            r##"[1e3,"#x"]"##,
            "{}",
        ] {
            let mut stored = stored(payload);
            stored.job.timeout_ms = Some(90_000);
            stored.job.metadata.insert("k".into(), "v\n#".into());
            let edit = stored.job.editable();
            assert_eq!(read(&text(&stored, &edit), &edit.payload).map_err(|_| "refused").expect(payload), edit);
        }
        assert!(text(&stored(r#"{"a":1}"#), &stored(r#"{"a":1}"#).job.editable()).contains("{\n    \"a\": 1\n  }"));
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let stored = stored("{\"a\":1}");
        let text = text(&stored, &stored.job.editable());
        for (from, to, part) in [
            ("\"a\": 1", "\"a\": ", "line 6, column 3"),
            ("\"priority\": 0", "\"priority\": 101", "`priority`: 101 is not in -100 to 100"),
            ("\"priority\": 0", "\"prio\": 0", "line 7, column 8 of the edited job: unknown field `prio`"),
            ("\"timeout\": null", "\"timeout\": \"5\"", "`timeout`: `5` has no unit"),
            ("\"max_retries\": 3", "\"max_retries\": -1", "line 8"),
        ] {
            assert!(text.contains(from), "{text}");
            let Err(CommandError::Told(told)) = read(&text.replace(from, to), &stored.job.payload) else {
                panic!("{to}")
            };
            assert!(told.message.contains(part), "{}", told.message);
        }
    }
}
