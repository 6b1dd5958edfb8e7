//! Handlers as they are described: which job type, how its jobs are done, and within which limits.
//! Renders only; nothing is executed here.

use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use super::command::Command;
use super::expr::{ExprError, Scope, Template};
use super::handler_read;
use super::manifest;
use super::problem::{Problems, Source};
use super::read::Reader;
use super::request::{Request, RequestBody, has_body};
use super::spec::{self, CommandSpec, HttpSpec, ProgramSpec};
use super::yaml::Node;
use crate::domain::retry::RetryPolicy;
use crate::domain::{Job, JobState, Name, Rate, secret};

/// The built-in handlers, by the names under which a Handler can give them to another job type.
pub const BUILTINS: [&str; 5] = ["noop", "echo", "sleep", "fail", "log"];

/// How jobs of one type are done.
#[derive(Clone, Debug, PartialEq)]
pub struct HandlerDef {
    /// The job type.
    pub name: Name,
    pub how: How,
    /// Limit of one attempt, for jobs that name none.
    pub timeout: Option<Duration>,
    /// For jobs that name none.
    pub retry: Option<RetryPolicy>,
    /// At most so many starts in a time, over all workers.
    pub rate_limit: Option<Rate>,
    /// Whether it takes several jobs at once.
    pub batch: Option<Batching>,
}

/// The four kinds of handlers that a text can describe.
#[derive(Clone, Debug, PartialEq)]
pub enum How {
    /// A command for each job.
    Run(CommandSpec),
    /// Long-lived processes that take jobs as lines of JSON.
    Pool(PoolSpec),
    Http(HttpSpec),
    /// One of [`BUILTINS`].
    Builtin(&'static str),
}

/// Processes that live longer than a job. They are started before any data is there, so nothing in
/// this can be an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSpec {
    pub program: ProgramText,
    pub env: Vec<(String, String)>,
    /// Processes of one worker, at least 1; `None` means one a processor.
    pub size: Option<u32>,
    /// Jobs, or batches, that one process is given at the same time; at least 1.
    pub concurrency: u32,
}

/// A program without expressions.
pub type ProgramText = super::command::Program;

/// Jobs of one type that are done together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// At most so many; 2 to [`HANDLER_BATCH`](crate::domain::limits::HANDLER_BATCH).
    pub max: usize,
    /// How long the first one waits for others; zero takes what is there.
    pub within: Duration,
}

impl HandlerDef {
    /// The short form of a configuration: `{run: […], outputs: text}` under the handler's name.
    ///
    /// # Errors
    /// All mistakes of the value, without lines.
    pub fn from_value(name: Name, value: &Json) -> Result<HandlerDef, Problems> {
        let what = format!("handler {name}");
        let mut reader = Reader::new(Source { file: &what, text: "" });
        let handler = handler_read::short(&mut reader, &Node::from_json(value), name);
        // Without a mistake there is a handler.
        reader.finish(())?;
        handler.ok_or(Problems(Vec::new()))
    }

    /// What must not be shown of its jobs: the secrets that stand in it.
    pub fn secrets(&self) -> Vec<String> {
        secret::of_manifest(&self.canonical())
    }

    /// In a few words, for lists.
    pub fn summary(&self) -> String {
        match &self.how {
            How::Run(command) => match &command.program {
                ProgramSpec::Shell(line) => format!("run {}", line.lines().next().unwrap_or_default()),
                ProgramSpec::Argv(argv) => {
                    let program = argv.first().map(Template::source).unwrap_or_default();
                    format!("run {}", program.as_str().unwrap_or_default())
                }
            },
            How::Pool(pool) => match &pool.program {
                ProgramText::Shell(line) => format!("pool of {}", line.lines().next().unwrap_or_default()),
                ProgramText::Argv(argv) => format!("pool of {}", argv.join(" ")),
            },
            How::Http(http) => {
                let url = http.url.source();
                format!("{} {}", http.method, secret::origin(url.as_str().unwrap_or_default()))
            }
            How::Builtin(name) => format!("builtin {name}"),
        }
    }

    /// The manifest again, in a fixed order of keys: what a store keeps.
    pub fn canonical(&self) -> Json {
        let mut map = Map::new();
        map.insert("apiVersion".into(), json!(manifest::API_VERSION));
        map.insert("kind".into(), json!("Handler"));
        map.insert("name".into(), json!(self.name.as_str()));
        match &self.how {
            How::Run(command) => command.canonical(&mut map),
            How::Http(http) => http.canonical(&mut map),
            How::Pool(pool) => pool.canonical(&mut map),
            How::Builtin(name) => {
                map.insert("builtin".into(), json!(name));
            }
        }
        spec::put(&mut map, "timeout", self.timeout.map(spec::exact));
        // Told even where it is the usual one: a handler that names a policy differs from one that does not.
        let policy = self.retry.as_ref();
        let retry = policy.map(|policy| spec::retry(policy, &RetryPolicy::default()).unwrap_or(json!({})));
        spec::put(&mut map, "retry", retry);
        spec::put(&mut map, "rate_limit", self.rate_limit.map(|rate| json!(rate.to_string())));
        let batch = |batch: Batching| json!({"max": batch.max, "within": spec::exact(batch.within)});
        spec::put(&mut map, "batch", self.batch.map(batch));
        Json::Object(map)
    }
}

impl PoolSpec {
    fn canonical(&self, into: &mut Map<String, Json>) {
        let mut map = Map::new();
        let run = match &self.program {
            ProgramText::Argv(argv) => json!(argv),
            ProgramText::Shell(line) => json!(line),
        };
        map.insert("run".into(), run);
        spec::put(&mut map, "size", self.size.map(|size| json!(size)));
        if self.concurrency > 1 {
            map.insert("concurrency".into(), json!(self.concurrency));
        }
        into.insert("pool".into(), Json::Object(map));
        if !self.env.is_empty() {
            let env = self.env.iter().map(|(name, value)| (name.clone(), json!(value)));
            into.insert("env".into(), Json::Object(env.collect()));
        }
    }
}

/// The names that a handler's expressions see, of the job that is about to run.
fn scope(job: &Job, templates: &[&Template]) -> Scope {
    let attempt = job.attempt(JobState::Running);
    let mut about = Map::new();
    about.insert("id".into(), json!(job.id.to_string()));
    about.insert("type".into(), json!(job.kind.as_str()));
    about.insert("queue".into(), json!(job.queue.as_str()));
    about.insert("attempt".into(), json!(attempt));
    let mut exprs = Vec::new();
    templates.iter().for_each(|template| template.exprs(&mut exprs));
    let needs_payload = exprs.iter().any(|expr| expr.refs().iter().any(|found| found.path[0] == "payload"));
    let payload = if needs_payload { job.payload.to_value() } else { Json::Null };
    Scope::new(vec![("payload", payload), ("job", Json::Object(about))])
}

impl CommandSpec {
    /// The command for a job that is about to run.
    ///
    /// # Errors
    /// An expression that fails on this payload, or a NUL character, which no argument can hold.
    pub fn for_job(&self, job: &Job) -> Result<Command, ExprError> {
        self.render(&scope(job, &self.templates()))
    }
}

impl HttpSpec {
    /// The request for a job that is about to run.
    ///
    /// # Errors
    /// An expression that fails on this payload, or data that would lead a URL elsewhere.
    pub fn for_job(&self, job: &Job) -> Result<Request, ExprError> {
        let mut request = Request::render(self, &scope(job, &self.templates()))?;
        if request.body == RequestBody::None && has_body(&request.method) {
            request.body = RequestBody::Job;
        }
        Ok(request)
    }
}

impl ProgramSpec {
    /// A program without expressions; `None` if it has one.
    pub(super) fn as_text(&self) -> Option<ProgramText> {
        match self {
            ProgramSpec::Shell(line) => Some(ProgramText::Shell(line.clone())),
            ProgramSpec::Argv(argv) => {
                let words = argv.iter().map(|word| match word {
                    Template::Literal(Json::String(text)) => Some(text.clone()),
                    _ => None,
                });
                words.collect::<Option<_>>().map(ProgramText::Argv)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::command::Program;
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
        let How::Run(command) = &handler.how else { panic!("{handler:?}") };
        let argv = |payload: Json| match command.for_job(&job(payload)).expect("rendered").program {
            Program::Argv(argv) => argv,
            Program::Shell(line) => panic!("{line}"),
        };
        assert_eq!(
            argv(json!("a b; rm -rf $(x) ${{ payload }}")),
            ["sha256sum", "a b; rm -rf $(x) ${{ payload }}", "n=1"]
        );
        assert_eq!(argv(json!({"a": [true, null]}))[1], "{\"a\":[true,null]}");
        assert_eq!(argv(json!(null))[1], "null");
        let nul = command.for_job(&job(json!("a\0b"))).expect_err("NUL");
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
    fn every_kind_of_handler_reads_as_it_is_written() {
        for value in [
            json!({"pool": {"run": ["python3", "w.py"], "size": 4, "concurrency": 2}, "env": {"A": "1"}, "timeout": "30s"}),
            json!({"pool": {"run": "exec ruby w.rb"}, "batch": {"max": 50, "within": "200ms"}}),
            json!({"http": {"url": "https://h/${{ payload.id }}", "headers": {"Authorization": "Bearer x"},
                   "allow_hosts": ["*.internal"]}, "outputs": "json", "rate_limit": "100/s"}),
            json!({"http": {"method": "PUT", "url": "http://h", "json": {"n": "${{ payload }}"}}, "retry": {"max": 0}}),
            json!({"http": {"method": "PATCH", "url": "http://h", "text": "x", "query": {"a": "${{ job.id }}"}}}),
            json!({"http": {"url": "http://h", "form": {"a": "${{ payload }}"}}}),
            json!({"builtin": "echo"}),
        ] {
            let handler = HandlerDef::from_value(name("x"), &value).unwrap_or_else(|error| panic!("{value}: {error}"));
            let text = handler.canonical().to_string();
            let again = manifest::parse("", &text).unwrap_or_else(|error| panic!("{text}: {error}"));
            let [manifest::Manifest::Handler(again)] = &*again else { panic!("{text}") };
            assert_eq!(*again, handler, "{text}");
        }
    }

    #[test]
    fn each_mistake_of_a_handler_is_told() {
        let wrong = |value: Json| HandlerDef::from_value(name("x"), &value).expect_err("wrong").render();
        for (value, part) in [
            (json!({}), "says nothing about how its jobs are done"),
            (json!({"run": ["a"], "builtin": "noop"}), "two kinds at once, `run` and `builtin`"),
            (json!({"builtin": "ecoh"}), "did you mean `echo`?"),
            (json!({"pool": {"run": ["a", "${{ payload }}"]}}), "a pool is started before there is a job"),
            (json!({"pool": ["a"], "env": {"A": "${{ payload }}"}}), "a pool is started before there is a job"),
            (json!({"pool": ["a"], "outputs": "json"}), "`outputs` is for `run` and `http`"),
            (json!({"http": {"url": "https://h"}, "env": {"A": "1"}}), "`env` is for `run` and `pool`"),
            (json!({"http": {"url": "ftp://h"}}), "begins with http:// or https://"),
            (json!({"http": {"method": "TRACE", "url": "https://h"}}), "`method` cannot be `TRACE`"),
            (json!({"http": {"url": "https://h", "json": 1, "text": "x"}}), "has one body, not `json` and `text`"),
            (json!({"http": {"url": "https://h", "headers": {"Ho st": "x"}}}), "cannot name a header"),
            (json!({"http": {"url": "https://h", "headers": {"Content-Length": "1"}}}), "is set by goflow"),
            (json!({"http": {"url": "https://h"}, "outputs": ["a"]}), "is `text` or `json`"),
            (json!({"run": ["a"], "rate_limit": "100"}), "`100` is not a rate"),
            (json!({"pool": {"run": ["a"], "size": 0}}), "a whole number from 1"),
            (json!({"run": ["a", "${{ payload }}"], "batch": {"max": 9}}), "a batch has many payloads"),
            (json!({"run": ["a"], "outputs": "text", "batch": {"max": 9}}), "one result for each job"),
            (json!({"run": ["a"], "batch": {"max": 1}}), "a whole number from 2"),
            (json!({"run": ["a"], "batch": {"within": "1s"}}), "a batch has no `max`"),
            (json!({"builtin": "noop", "batch": {"max": 9}}), "a built-in takes one job at a time"),
        ] {
            let told = wrong(value.clone());
            assert!(told.contains(part), "{value}: {told}");
        }
    }
}
