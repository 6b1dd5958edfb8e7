//! What of jobs and runs may be shown to whoever only looks: commands and requests of steps without the
//! secrets that stand in them, and what undoes a step likewise. Knows no face and no right.

use super::is_reserved;
use super::run::{Run, UndoEntry, UndoPart, UndoWhat};
use crate::domain::{Job, Json, secret};

fn without_secrets(json: &Json) -> Json {
    let whole = json.to_value();
    let shown = secret::manifest(&whole);
    if shown == whole { json.clone() } else { Json::from_value(&shown) }
}

/// A job's payload: that of an ordinary job is its sender's own, a step's is its command.
pub fn payload(job: &Job) -> Json {
    if is_reserved(&job.kind) { without_secrets(&job.payload) } else { job.payload.clone() }
}

/// The text of a definition; whoever knows only this may not make a run of it.
pub fn definition(text: &str) -> Json {
    without_secrets(&Json::checked(text))
}

fn entry(mut entry: UndoEntry) -> UndoEntry {
    if let UndoWhat::Job(payload) = &mut entry.what {
        *payload = without_secrets(payload);
    }
    entry
}

/// A run's header: its undo log holds commands.
pub fn run(mut run: Run) -> Run {
    let undo = &mut run.undo;
    undo.top = std::mem::take(&mut undo.top).into_iter().map(entry).collect();
    undo.owed = std::mem::take(&mut undo.owed).into_iter().map(entry).collect();
    undo.current = undo.current.take().map(entry);
    run
}

/// A value that lies beside the header, by its key: so does the rest of the undo log.
pub fn value(key: &str, value: Json) -> Json {
    if !key.starts_with(super::run::UNDO_KEYS) {
        return value;
    }
    // What cannot be read is not shown either.
    let Ok(part) = serde_json::from_str::<UndoPart>(value.as_str()) else { return Json::null() };
    let part = UndoPart { below: part.below, entries: part.entries.into_iter().map(entry).collect() };
    serde_json::to_value(&part).map_or_else(|_| Json::null(), |part| Json::from_value(&part))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::{Epoch, JobId, Ms, Name, RunId, Shard};
    use crate::workflow::Slot;

    fn name(text: &str) -> Name {
        text.parse().expect("a name")
    }

    #[test]
    fn commands_are_shown_without_their_secrets_wherever_they_lie() {
        let command = Json::from_value(&json!({"argv": ["pay"], "env": {"API_TOKEN": "t0p53cret", "N": "1"}}));
        let id = JobId::from_parts(Ms(5), Shard(0), 1);
        let step = Job::new(id, name(crate::workflow::RUN_KIND), name("default"), command.clone());
        let mail = Job::new(id, name("mail"), name("default"), command.clone());
        assert_eq!(payload(&step).to_value(), json!({"argv": ["pay"], "env": {"API_TOKEN": "***", "N": "1"}}));
        assert_eq!(payload(&mail), command, "what somebody has sent is shown as it is");
        let undo = UndoEntry { step: "pay".into(), order: 1, what: UndoWhat::Job(command.clone()), epoch: Epoch(0) };
        let part = UndoPart { below: None, entries: vec![undo.clone()] };
        let part = Json::from_value(&serde_json::to_value(&part).expect("JSON"));
        let shown = value("u/0", part.clone());
        assert!(part.as_str().contains("t0p53cret") && !shown.as_str().contains("t0p53cret"), "{}", shown.as_str());
        assert!(shown.as_str().contains("***"));
        assert_eq!(value("s/pay", part.clone()), part);
        let id = RunId::from_parts(Ms(5), Shard(0), 1);
        let mut kept = Run::pending(id, name("order"), "v".into(), Slot::Inline(Json::null()), Ms(5));
        kept.undo.top.push(undo.clone());
        kept.undo.owed.push(undo.clone());
        kept.undo.current = Some(undo);
        let bytes = run(kept).encode().expect("bytes");
        assert!(!String::from_utf8_lossy(&bytes).contains("t0p53cret"));
    }
}
