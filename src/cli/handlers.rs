//! The handlers of this process: the standard ones of the engine and `handlers:` of the configuration.
//! Part of the composition root: it ties layers together and knows nothing of how work is done.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use super::codes::Code;
use super::context::Context;
use super::error::{Result, fail};
use crate::domain::Name;
use crate::domain::name::BadName;
use crate::engine::Handlers;
use crate::exec::{self, LogSink};
use crate::workflow::{self, HandlerDef};

/// From TERM to KILL for a command that is to end.
const GRACE: Duration = Duration::from_secs(5);

/// The short forms in the configuration.
///
/// # Errors
/// Their mistakes, with the place of the handler.
pub fn configured(context: &Context) -> Result<Vec<HandlerDef>> {
    let mut handlers = Vec::new();
    for raw in &context.config()?.handlers {
        let named = |why: String| fail(Code::Config, format!("{}: handler `{}`: {why}", raw.origin, raw.name));
        let name: Name = raw.name.parse().map_err(|error: BadName| named(error.to_string()))?;
        if workflow::is_reserved(&name) {
            return Err(named("names that begin with `goflow:` are reserved".to_owned()));
        }
        let handler = HandlerDef::from_value(name, &raw.fields).map_err(|problems| {
            let whys: Vec<String> = problems.0.iter().map(|problem| problem.message.clone()).collect();
            let told = named(whys.join("; "));
            problems.0.iter().filter_map(|problem| problem.hint.clone()).fold(told, |told, hint| told.hint(hint))
        })?;
        handlers.push(handler);
    }
    Ok(handlers)
}

/// Everything that a worker of this process can do, and the machine it is done on.
///
/// # Errors
/// As [`configured`].
pub fn all(context: &Context, sink: Arc<dyn LogSink>) -> Result<(Handlers, Arc<exec::Context>)> {
    let environment: BTreeMap<OsString, OsString> = exec::KEPT_VARIABLES
        .iter()
        .filter_map(|name| Some((OsString::from(name), OsString::from(context.env.get(name)?))))
        .collect();
    let machine = Arc::new(exec::Context::new(exec::Settings {
        environment,
        grace: GRACE,
        temp: std::env::temp_dir(),
        sink,
        containment: exec::Containment::default(),
        // goflow starts no other children.
        parentage: exec::Parentage::Sole,
        clock: context.clock.clone(),
        processors: crate::sys::host::processors(),
        secrets: Arc::new(super::log::secrets(context)?),
    }));
    let mut handlers = Handlers::standard(&machine);
    for handler in configured(context)? {
        handlers.add(handler, &machine);
    }
    Ok((handlers, machine))
}

/// Ends what workers that were killed have left behind on this machine, and says so.
pub async fn sweep(context: &Context, machine: &exec::Context) {
    match machine.sweep_stale().await {
        Ok(swept) if swept.processes > 0 => {
            let what = crate::domain::text::count(swept.processes as u64, "process");
            context.ui.say(&format!("ended {what} that a killed worker had left behind"));
        }
        Ok(_) => {}
        Err(error) => context.ui.warn(&format!("leftovers of killed workers cannot be looked for: {error}")),
    }
}
