//! Commands: a handler as it was described, and a command rendered from data, ready to be executed.
//! Renders and encodes only; nothing is executed here.

use serde_json::{Map, Value as Json, json};

use super::expr::{ExprError, Scope, Template};
use super::manifest;
use super::problem::{Problems, Source};
use super::read::Reader;
use super::spec::{self, CommandSpec, Outputs, ProgramSpec};
use super::yaml::Node;
use crate::domain::retry::RetryPolicy;
use crate::domain::{Job, JobState, Name};
use std::time::Duration;

/// How jobs of one type are done: a command.
#[derive(Clone, Debug, PartialEq)]
pub struct HandlerDef {
    /// The job type.
    pub name: Name,
    pub command: CommandSpec,
    /// Limit of one attempt, for jobs that name none.
    pub timeout: Option<Duration>,
    /// For jobs that name none.
    pub retry: Option<RetryPolicy>,
}

/// A command with all data in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub program: Program,
    /// What the command's environment has besides what every command gets, in the order of the manifest.
    pub env: Vec<(String, String)>,
    /// How its output becomes the result; `None` means that it has none.
    pub outputs: Option<Outputs>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// The program and its arguments; never empty.
    Argv(Vec<String>),
    /// A line for `sh -c`.
    Shell(String),
}

/// A job's payload that should be a command and is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the payload is not a command: {0}")]
pub struct BadCommand(&'static str);

impl HandlerDef {
    /// The short form of a configuration: `{run: […], outputs: text}` under the handler's name.
    ///
    /// # Errors
    /// All mistakes of the value, without lines.
    pub fn from_value(name: Name, value: &Json) -> Result<HandlerDef, Problems> {
        let what = format!("handler {name}");
        let mut reader = Reader::new(Source { file: &what, text: "" });
        let handler = manifest::short_handler(&mut reader, &Node::from_json(value), name);
        // Without a mistake there is a handler.
        reader.finish(())?;
        handler.ok_or(Problems(Vec::new()))
    }

    /// In a few words, for lists.
    pub fn summary(&self) -> String {
        match &self.command.program {
            ProgramSpec::Shell(line) => format!("run {}", line.lines().next().unwrap_or_default()),
            ProgramSpec::Argv(argv) => {
                let program = argv.first().map(Template::source).unwrap_or_default();
                format!("run {}", program.as_str().unwrap_or_default())
            }
        }
    }

    /// The manifest again, in a fixed order of keys: what a store keeps.
    pub fn canonical(&self) -> Json {
        let mut map = Map::new();
        map.insert("apiVersion".into(), json!(manifest::API_VERSION));
        map.insert("kind".into(), json!("Handler"));
        map.insert("name".into(), json!(self.name.as_str()));
        self.command.canonical(&mut map);
        spec::put(&mut map, "timeout", self.timeout.map(spec::exact));
        // Told even where it is the usual one: a handler that names a policy differs from one that does not.
        let policy = self.retry.as_ref();
        let retry = policy.map(|policy| spec::retry(policy, &RetryPolicy::default()).unwrap_or(json!({})));
        spec::put(&mut map, "retry", retry);
        Json::Object(map)
    }

    /// The command for a job that is about to run.
    ///
    /// # Errors
    /// An expression that fails on this payload, or a NUL character, which no argument can hold.
    pub fn render(&self, job: &Job) -> Result<Command, ExprError> {
        let attempt = job.attempt(JobState::Running);
        let mut about = Map::new();
        about.insert("id".into(), json!(job.id.to_string()));
        about.insert("type".into(), json!(job.kind.as_str()));
        about.insert("queue".into(), json!(job.queue.as_str()));
        about.insert("attempt".into(), json!(attempt));
        let needs_payload = self.command.templates().iter().any(|template| {
            let mut exprs = Vec::new();
            template.exprs(&mut exprs);
            exprs.iter().any(|expr| expr.refs().iter().any(|found| found.path[0] == "payload"))
        });
        let payload = if needs_payload { job.payload.to_value() } else { Json::Null };
        self.command.render(&Scope::new(vec![("payload", payload), ("job", Json::Object(about))]))
    }
}

impl CommandSpec {
    /// # Errors
    /// As [`HandlerDef::render`].
    pub fn render(&self, scope: &Scope) -> Result<Command, ExprError> {
        let program = match &self.program {
            ProgramSpec::Shell(line) => Program::Shell(line.clone()),
            ProgramSpec::Argv(argv) => Program::Argv(
                argv.iter().map(|item| no_nul("an argument", item.render_text(scope)?)).collect::<Result<_, _>>()?,
            ),
        };
        let env = self.env.iter().map(|(name, value)| Ok((name.clone(), no_nul(name, value.render_text(scope)?)?)));
        Ok(Command { program, env: env.collect::<Result<_, ExprError>>()?, outputs: self.outputs.clone() })
    }
}

fn no_nul(what: &str, text: String) -> Result<String, ExprError> {
    if text.contains('\0') {
        let message = format!("{what} holds a NUL character, which no command can be given");
        return Err(ExprError { message, hint: None, at: 0 });
    }
    Ok(text)
}

impl Command {
    /// `{"argv": […] | "shell": "…", "env": {…}, "outputs": …}`: the payload of a step's job.
    pub fn to_json(&self) -> Json {
        let mut map = Map::new();
        match &self.program {
            Program::Argv(argv) => map.insert("argv".into(), json!(argv)),
            Program::Shell(line) => map.insert("shell".into(), json!(line)),
        };
        if !self.env.is_empty() {
            let env = self.env.iter().map(|(name, value)| (name.clone(), json!(value)));
            map.insert("env".into(), Json::Object(env.collect()));
        }
        spec::put(&mut map, "outputs", self.outputs.as_ref().map(Outputs::to_json));
        Json::Object(map)
    }

    /// Reads what [`Command::to_json`] wrote.
    ///
    /// # Errors
    /// What is not of its form: a payload that `advance` did not make.
    pub fn from_json(json: &Json) -> Result<Command, BadCommand> {
        let program = match (json.get("argv"), json.get("shell")) {
            (Some(Json::Array(argv)), None) if !argv.is_empty() => {
                let argv = argv.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<_>>();
                Program::Argv(argv.ok_or(BadCommand("an argument is not text"))?)
            }
            (None, Some(Json::String(line))) => Program::Shell(line.clone()),
            _ => return Err(BadCommand("it has no argv and no shell")),
        };
        let env = match json.get("env") {
            None => Vec::new(),
            Some(Json::Object(env)) => {
                let pairs = env.iter().map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
                pairs.collect::<Option<_>>().ok_or(BadCommand("a variable is not text"))?
            }
            Some(_) => return Err(BadCommand("its env is not an object")),
        };
        let outputs = match json.get("outputs") {
            None => None,
            Some(json) => Some(Outputs::from_json(json).ok_or(BadCommand("its outputs are unknown"))?),
        };
        Ok(Command { program, env, outputs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{JobId, Json as Text, Ms, Shard};

    fn name(text: &str) -> Name {
        text.parse().expect("a name")
    }

    fn job(payload: Json) -> Job {
        let id = JobId::from_parts(Ms(1), Shard(0), 7);
        Job::new(id, name("checksum"), name("default"), Text::from_value(&payload))
    }

    #[test]
    fn the_short_form_renders_payload_as_one_argument() {
        let value = json!({"run": ["sha256sum", "${{ payload }}", "n=${{ job.attempt }}"], "outputs": "text"});
        let handler = HandlerDef::from_value(name("checksum"), &value).expect("a handler");
        let argv = |payload: Json| match handler.render(&job(payload)).expect("rendered").program {
            Program::Argv(argv) => argv,
            Program::Shell(line) => panic!("{line}"),
        };
        assert_eq!(
            argv(json!("a b; rm -rf $(x) ${{ payload }}")),
            ["sha256sum", "a b; rm -rf $(x) ${{ payload }}", "n=1"]
        );
        assert_eq!(argv(json!({"a": [true, null]}))[1], "{\"a\":[true,null]}");
        assert_eq!(argv(json!(null))[1], "null");
        let nul = handler.render(&job(json!("a\0b"))).expect_err("NUL");
        assert!(nul.message.contains("NUL"));
        assert_eq!(manifest::parse("", &handler.canonical().to_string()).expect("again").len(), 1);
    }

    #[test]
    fn mistakes_in_the_short_form_are_told() {
        let wrong = |value: Json| HandlerDef::from_value(name("x"), &value).expect_err("wrong").to_string();
        assert!(wrong(json!({"runs": ["a"]})).contains("`runs` is not a key"));
        assert!(wrong(json!({"run": "echo ${{ payload }}"})).contains("data in a shell line"));
        assert!(wrong(json!({"run": ["a", "${{ paylod.x }}"]})).contains("no name `paylod`"));
        assert!(wrong(json!(7)).contains("a mapping"));
    }

    #[test]
    fn a_command_survives_its_payload() {
        for command in [
            Command { program: Program::Argv(vec!["a".into(), "".into()]), env: vec![], outputs: None },
            Command {
                program: Program::Shell("echo \"$A\"".into()),
                env: vec![("Z".into(), "1".into()), ("A".into(), "x\ny".into())],
                outputs: Some(Outputs::Names(vec!["n".into()])),
            },
        ] {
            assert_eq!(Command::from_json(&command.to_json()), Ok(command));
        }
        assert!(Command::from_json(&json!({"argv": []})).is_err());
        assert!(Command::from_json(&json!(null)).is_err());
    }
}
