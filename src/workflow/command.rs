//! A command rendered from data, ready to be executed, and its form as the payload of a step's job.
//! Renders and encodes only; nothing is executed here.

use serde_json::{Map, Value as Json, json};

use super::expr::{ExprError, Scope};
use super::spec::{self, CommandSpec, Outputs, ProgramSpec};

/// A command with all data in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub program: Program,
    /// What the command's environment has besides what every command gets, in the order of the
    /// manifest. `GOFLOW_…` of the work itself are stronger.
    pub env: Vec<(String, String)>,
    /// How its output becomes the result; `None` means that it has none.
    pub outputs: Option<Outputs>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// The program and its arguments, as they are; never empty. Without a `/` the program is looked for
    /// in the command's own PATH.
    Argv(Vec<String>),
    /// A line for `/bin/sh -c`. Never holds data: that comes by environment or input.
    Shell(String),
}

/// A job's payload that should be a command, or a request, and is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the payload is not what a step makes: {0}")]
pub struct BadCommand(pub(super) &'static str);

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
    /// A command without variables and without a result.
    pub fn new(program: Program) -> Command {
        Command { program, env: Vec::new(), outputs: None }
    }

    /// The program and its arguments; empty for a list that names no program.
    pub fn argv(&self) -> Vec<&str> {
        match &self.program {
            Program::Argv(argv) => argv.iter().map(String::as_str).collect(),
            Program::Shell(line) => vec!["/bin/sh", "-c", line],
        }
    }

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
