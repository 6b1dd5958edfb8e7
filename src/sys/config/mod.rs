//! The configuration: found, read, checked, and every value with the source it came from. Knows the
//! precedence environment > project file > user file > default; flags are laid over it by `cli`.

pub mod keys;
pub mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::keys::{ALERTS, HANDLERS, KEYS, Kind, Setting};
use super::env::Env;
use super::paths::Paths;
use crate::domain::problem::{Place, Problem, Source};
use crate::domain::text::nearest;
use crate::domain::yaml::{self, Dialect, Entry, Node, Value};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Flag(&'static str),
    Environment(&'static str),
    File(PathBuf, Place),
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag(name) => write!(f, "flag {name}"),
            Origin::Environment(name) => write!(f, "environment {name}"),
            Origin::File(path, place) => write!(f, "{}:{}:{}", path.display(), place.line, place.column),
            Origin::Default => f.write_str("default"),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("the configuration {path} cannot be read: {why}")]
    Unreadable { path: String, why: String },
    /// Text that is not YAML, or a value that its key does not take.
    #[error("{0}")]
    Broken(Problem),
    #[error("the environment variable {name} is wrong: {message}")]
    Environment { name: &'static str, message: String },
}

/// A handler of the short form: `handlers: {checksum: {run: …}}`.
#[derive(Clone, Debug)]
pub struct RawHandler {
    pub name: String,
    /// Its fields, with variables put in but for lines of shell; `${{ … }}` is for later. Never to be
    /// shown as they are.
    pub fields: serde_json::Value,
    pub origin: Origin,
}

/// An alert: `{on: job.dead, slack: {url: …}}`.
#[derive(Clone, Debug)]
pub struct RawAlert {
    /// Its fields, with variables put in: never to be shown as they are.
    pub fields: serde_json::Value,
    pub origin: Origin,
}

/// Everything that was found.
#[derive(Clone, Debug, Default)]
pub struct Config {
    settings: BTreeMap<&'static str, (Setting, Option<Origin>)>,
    /// Of the project file, then of the user file; a project's handler hides the user's of that name.
    pub handlers: Vec<RawHandler>,
    /// Of the project file, then of the user file.
    pub alerts: Vec<RawAlert>,
    /// The files read, the strongest first.
    pub files: Vec<PathBuf>,
    /// What the operator should know, a sentence each.
    pub warnings: Vec<String>,
    layers: Vec<Layer>,
}

#[derive(Clone, Debug, Default)]
struct Layer {
    settings: BTreeMap<&'static str, (Setting, Origin)>,
}

/// How to look for the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// `--config`.
    pub flag: Option<&'a Path>,
    /// Where `./goflow.yaml` is looked for.
    pub folder: &'a Path,
    pub env: &'a Env,
    pub paths: Option<&'a Paths>,
}

impl Config {
    /// Finds, reads and checks.
    ///
    /// # Errors
    /// [`ConfigError`] names the file and place, or the variable.
    pub fn load(search: Search<'_>) -> Result<Config, ConfigError> {
        let mut config = Config::default();
        let mut unset = BTreeSet::new();
        for (path, named) in candidates(search) {
            let shown = shown_path(&path, search.folder);
            let text = match read(&path) {
                Ok(text) => text,
                Err(error) if !named && error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(ConfigError::Unreadable { path: shown, why: io_reason(&error) }),
            };
            let is_user_file = search.paths.is_some_and(|paths| paths.config_file() == path);
            if !is_user_file && !config.layers.is_empty() {
                // The first project file found is the project file.
                continue;
            }
            let file = File { path: PathBuf::from(&shown), text: &text, env: search.env };
            let Some(layer) = file.read(&mut config, &mut unset, named)? else { continue };
            config.layers.push(layer);
            config.files.push(path);
        }
        config.fill(search.env)?;
        Ok(config)
    }

    /// Lays environment over files over defaults.
    fn fill(&mut self, env: &Env) -> Result<(), ConfigError> {
        for key in KEYS {
            let from_env = match env.first(key.env) {
                Some((name, text)) => {
                    let read = key.read(text).map_err(|message| ConfigError::Environment { name, message })?;
                    Some((read, Some(Origin::Environment(name))))
                }
                None => None,
            };
            let from_files = || {
                let found = self.layers.iter().find_map(|layer| layer.settings.get(key.name));
                found.map(|(setting, origin)| (setting.clone(), Some(origin.clone())))
            };
            let from_default = || Some((key.read(key.default?).ok()?, Some(Origin::Default)));
            if let Some(found) = from_env.or_else(from_files).or_else(from_default) {
                self.settings.insert(key.name, found);
            }
        }
        Ok(())
    }

    /// Every key that has a value: name, value with secrets hidden, source.
    pub fn show(&self) -> Vec<(&'static str, String, String)> {
        let shown = KEYS.iter().filter_map(|key| {
            let (setting, origin) = self.settings.get(key.name)?;
            Some((key.name, key.show(setting), origin.as_ref().map(Origin::to_string).unwrap_or_default()))
        });
        shown.collect()
    }

    /// Every value that must never be shown.
    pub fn secrets(&self) -> Vec<String> {
        let secret = |key: &&keys::Key| key.kind == Kind::Secret;
        let texts = KEYS.iter().filter(secret).filter_map(|key| self.text(key.name));
        texts.map(str::to_owned).collect()
    }

    fn number(&self, name: &str) -> u64 {
        match self.settings.get(name) {
            Some((Setting::Number(number), _)) => *number,
            _ => 0,
        }
    }

    fn text(&self, name: &str) -> Option<&str> {
        match self.settings.get(name) {
            Some((Setting::Text(text), _)) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// Where `enqueue` puts jobs without `-q`, and where that is said.
    pub fn queue(&self) -> (&str, Option<&Origin>) {
        let origin = self.settings.get(keys::QUEUE).and_then(|(_, origin)| origin.as_ref());
        (self.text(keys::QUEUE).unwrap_or("default"), origin)
    }

    /// The word for how new work is spread over shards, and where that is said.
    pub fn strategy(&self) -> (&str, Option<&Origin>) {
        let origin = self.settings.get(keys::STRATEGY).and_then(|(_, origin)| origin.as_ref());
        (self.text(keys::STRATEGY).unwrap_or("hash"), origin)
    }

    pub fn max_retries(&self) -> u32 {
        u32::try_from(self.number(keys::MAX_RETRIES)).unwrap_or(u32::MAX)
    }

    pub fn concurrency(&self) -> u32 {
        u32::try_from(self.number(keys::CONCURRENCY)).unwrap_or(1).max(1)
    }

    /// Where a server listens: the address, or a name of one, and the port; 0 is any free one.
    pub fn listen(&self) -> (&str, u16) {
        let port = u16::try_from(self.number(keys::PORT)).unwrap_or(u16::MAX);
        (self.text(keys::BIND).unwrap_or("127.0.0.1"), port)
    }

    /// Hosts that a server answers to beside the usual, and web pages that may ask it.
    pub fn allowed(&self) -> (Vec<String>, Vec<String>) {
        (self.list(keys::ALLOWED_HOSTS), self.list(keys::ALLOWED_ORIGINS))
    }

    fn list(&self, key: &str) -> Vec<String> {
        match self.settings.get(key) {
            Some((Setting::List(items), _)) => items.iter().filter(|item| !item.is_empty()).cloned().collect(),
            _ => Vec::new(),
        }
    }

    /// The secret of webhooks that name none.
    pub fn webhook_secret(&self) -> Option<&str> {
        self.text(keys::WEBHOOK_SECRET)
    }

    pub fn shutdown_timeout(&self) -> Duration {
        self.duration(keys::SHUTDOWN).unwrap_or(Duration::from_secs(25))
    }

    /// How long a worker may be silent before its jobs are taken from it; a second at least, because
    /// it tells that it lives three times in this.
    pub fn lease(&self) -> Duration {
        self.duration(keys::LEASE).unwrap_or(crate::domain::limits::LEASE).max(Duration::from_secs(1))
    }

    fn duration(&self, key: &str) -> Option<Duration> {
        match self.settings.get(key) {
            Some((Setting::Duration(duration), _)) => Some(*duration),
            _ => None,
        }
    }
}

/// Files to try, strongest first, and whether somebody named them.
fn candidates(search: Search<'_>) -> Vec<(PathBuf, bool)> {
    let mut files = Vec::new();
    match (search.flag, search.env.get("GOFLOW_CONFIG")) {
        (Some(flag), _) => files.push((search.folder.join(flag), true)),
        (None, Some(named)) => files.push((search.folder.join(named), true)),
        (None, None) => {
            files.push((search.folder.join("goflow.yaml"), false));
            files.push((search.folder.join("config.yaml"), false));
        }
    }
    if let Some(paths) = search.paths {
        let user = paths.config_file();
        if files.iter().all(|(path, _)| *path != user) {
            files.push((user, false));
        }
    }
    files
}

/// The text of a file. A named pipe is refused: without a writer, opening it would wait for ever.
fn read(path: &Path) -> std::io::Result<String> {
    let is_shells_own = path.starts_with("/dev/fd") || path.starts_with("/proc");
    if std::fs::metadata(path)?.file_type().is_fifo() && !is_shells_own {
        return Err(std::io::Error::other("it is a pipe, not a file"));
    }
    std::fs::read_to_string(path)
}

fn shown_path(path: &Path, folder: &Path) -> String {
    path.strip_prefix(folder).unwrap_or(path).display().to_string()
}

/// An I/O error without its number.
fn io_reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    let reason = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = reason.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

struct File<'a> {
    path: PathBuf,
    text: &'a str,
    env: &'a Env,
}

impl File<'_> {
    /// `None` for a `config.yaml` that nobody named and that is not goflow's at all.
    fn read(
        &self,
        config: &mut Config,
        unset: &mut BTreeSet<String>,
        named: bool,
    ) -> Result<Option<Layer>, ConfigError> {
        let name = self.path.to_string_lossy();
        let source = Source { file: &name, text: self.text };
        let documents = yaml::parse(source, Dialect::Configuration).map_err(ConfigError::Broken)?;
        let empty = Node::from_json(&serde_json::Value::Object(serde_json::Map::new()));
        let root = documents.into_iter().next().unwrap_or(empty);
        let Value::Map(pairs) = &root.value else {
            return Err(self.broken(root.place, format!("a configuration is a mapping, this is {}", root.what())));
        };
        let known = keys::children("");
        let foreign = !pairs.is_empty() && pairs.iter().all(|entry| !known.contains(&entry.key.as_str()));
        if foreign && !named && self.path.ends_with("config.yaml") {
            return Ok(None);
        }
        let mut layer = Layer::default();
        self.section("", pairs, &mut layer, config, unset)?;
        Ok(Some(layer))
    }

    fn section(
        &self,
        section: &str,
        pairs: &[Entry],
        layer: &mut Layer,
        config: &mut Config,
        unset: &mut BTreeSet<String>,
    ) -> Result<(), ConfigError> {
        for Entry { key: name, place, value: node } in pairs {
            let full = if section.is_empty() { name.clone() } else { format!("{section}.{name}") };
            match (keys::find(&full), &node.value) {
                (_, Value::Null) if keys::find(&full).is_some() || keys::is_section(&full) => {}
                (None, Value::Null) if full == HANDLERS || full == ALERTS => {}
                (None, Value::List(alerts)) if full == ALERTS => self.alerts(alerts, config, unset),
                (None, _) if full == ALERTS => {
                    return Err(self.broken(node.place, format!("`{full}` is a list, not {}", node.what())));
                }
                (None, Value::Map(handlers)) if full == HANDLERS => self.handlers(handlers, config, unset),
                (None, Value::Map(pairs)) if keys::is_section(&full) => {
                    self.section(&full, pairs, layer, config, unset)?;
                }
                (None, _) if keys::is_section(&full) || full == HANDLERS => {
                    return Err(self.broken(node.place, format!("`{full}` is a mapping, not {}", node.what())));
                }
                (None, _) => {
                    let hint = match nearest(name, keys::children(section)) {
                        Some(near) => format!("; did you mean `{near}`?"),
                        None => String::new(),
                    };
                    let place = Origin::File(self.path.clone(), *place);
                    config.warnings.push(format!("{place}: unknown key `{full}`{hint}"));
                }
                (Some(key), _) => {
                    let setting = self.setting(key, node, config, unset)?;
                    layer.settings.insert(key.name, (setting, Origin::File(self.path.clone(), node.place)));
                }
            }
        }
        Ok(())
    }

    fn setting(
        &self,
        key: &keys::Key,
        node: &Node,
        config: &mut Config,
        unset: &mut BTreeSet<String>,
    ) -> Result<Setting, ConfigError> {
        if let (Kind::List, Value::List(items)) = (key.kind, &node.value) {
            let texts: Result<Vec<String>, ConfigError> =
                items.iter().map(|item| self.scalar(key, item, config, unset)).collect();
            return texts.map(Setting::List);
        }
        let text = self.scalar(key, node, config, unset)?;
        if text.is_empty() && !matches!(key.kind, Kind::Text | Kind::Secret) {
            // An unset variable leaves the key as if it were not written; the warning has been given.
            let default = key.default.and_then(|default| key.read(default).ok());
            return Ok(default.unwrap_or(Setting::List(Vec::new())));
        }
        key.read(&text).map_err(|message| self.broken(node.place, format!("`{}`: {message}", key.name)))
    }

    fn scalar(
        &self,
        key: &keys::Key,
        node: &Node,
        config: &mut Config,
        unset: &mut BTreeSet<String>,
    ) -> Result<String, ConfigError> {
        match &node.value {
            Value::Text(text) => Ok(self.substitute(text, node.place, config, unset)),
            Value::Number(number) if number.is_f64() && matches!(key.kind, Kind::Text | Kind::Secret) => {
                Err(self.broken(node.place, format!("`{}` is text: put the number in quotes", key.name)))
            }
            Value::Number(number) => Ok(number.to_string()),
            Value::Null => Ok(String::new()),
            Value::Bool(value) => Ok(value.to_string()),
            _ => Err(self.broken(node.place, format!("`{}` is a single value, not {}", key.name, node.what()))),
        }
    }

    /// `${NAME}` becomes the variable's value, after parsing: a value can never become structure.
    fn substitute(&self, text: &str, place: Place, config: &mut Config, unset: &mut BTreeSet<String>) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            out.push_str(&rest[..start]);
            let after = &rest[start + 2..];
            let end = after.find('}').filter(|end| is_variable(&after[..*end]));
            let Some(end) = end else {
                out.push_str("${");
                rest = after;
                continue;
            };
            let name = &after[..end];
            match self.env.get(name) {
                Some(value) => out.push_str(value),
                None => {
                    if unset.insert(name.to_owned()) {
                        let place = Origin::File(self.path.clone(), place);
                        config.warnings.push(format!("{place}: the variable {name} is not set; it reads as empty"));
                    }
                }
            }
            rest = &after[end + 1..];
        }
        out.push_str(rest);
        out
    }

    fn handlers(&self, handlers: &[Entry], config: &mut Config, unset: &mut BTreeSet<String>) {
        for Entry { key: name, place, value: node } in handlers {
            if config.handlers.iter().any(|handler| handler.name == *name) {
                continue;
            }
            let origin = Origin::File(self.path.clone(), *place);
            let mut fields = node.to_json();
            self.fill_in(&mut fields, *place, config, unset);
            config.handlers.push(RawHandler { name: name.clone(), fields, origin });
        }
    }

    fn alerts(&self, alerts: &[Node], config: &mut Config, unset: &mut BTreeSet<String>) {
        for node in alerts {
            let mut fields = node.to_json();
            self.fill_in(&mut fields, node.place, config, unset);
            config.alerts.push(RawAlert { fields, origin: Origin::File(self.path.clone(), node.place) });
        }
    }

    /// Puts variables into every text of a value but a line of shell: the shell has variables of its own,
    /// and a value that is put in would become code.
    fn fill_in(&self, value: &mut serde_json::Value, place: Place, config: &mut Config, unset: &mut BTreeSet<String>) {
        match value {
            serde_json::Value::String(text) => *text = self.substitute(text, place, config, unset),
            serde_json::Value::Array(items) => {
                items.iter_mut().for_each(|item| self.fill_in(item, place, config, unset));
            }
            serde_json::Value::Object(fields) => {
                let data = |(key, field): &(&String, &mut serde_json::Value)| {
                    !(matches!(key.as_str(), "run" | "pool") && field.is_string())
                };
                let data = fields.iter_mut().filter(data);
                data.for_each(|(_, field)| self.fill_in(field, place, config, unset));
            }
            _ => {}
        }
    }

    fn broken(&self, place: Place, message: String) -> ConfigError {
        let name = self.path.to_string_lossy();
        ConfigError::Broken(Problem::new(Source { file: &name, text: self.text }, place, message, None))
    }
}

fn is_variable(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests;
