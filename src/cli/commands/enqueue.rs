//! `goflow enqueue`, also `goflow job enqueue`: the flags, one job, or many through `bulk`.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use clap_complete::ArgValueCompleter;

use super::bulk;
use crate::api::enqueue::near;
use crate::api::{Client, JobView};
use crate::cli::codes::Code;
use crate::cli::context::Context;
use crate::cli::error::{CommandError, Result, fail, reason};
use crate::cli::{complete, manifests};
use crate::domain::job::Concurrency;
use crate::domain::json::BadJson;
use crate::domain::time::parse_duration;
use crate::domain::{Job, JobId, Json, Ms, Name, RetryPolicy, limits, text};
use crate::store::{NewJob, Start};

/// Put a job on a queue, or one job for each line of standard input
///
/// Prints the job's id. The payload is one JSON value, given as it is, as @FILE, or as `-` for
/// standard input; without it the payload is null.
///
/// With --lines each line of standard input is the JSON payload of one job; with --text-lines each
/// line becomes a JSON string. Lines are stored in batches as they come, and the number of jobs is
/// printed at the end.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  One job, with its payload:
    goflow enqueue send_email -d '{\"to\": \"ada@example.com\"}'
  In five minutes, on a queue of its own, ahead of others:
    goflow enqueue report -q reports -p 10 --delay 5m
  A checksum of every file under version control:
    git ls-files | goflow enqueue checksum --text-lines
  At most one waiting or running for each customer; or many, one at a time:
    goflow enqueue sync --unique customer-42
    goflow enqueue sync --key customer-42
  A report once its import has completed:
    goflow enqueue report --after $(goflow enqueue import)")]
pub struct EnqueueArgs {
    /// The job type, which picks the handler
    #[arg(value_name = "TYPE", required_unless_present = "type_flag", conflicts_with = "type_flag",
          add = ArgValueCompleter::new(complete::types))]
    kind: Option<Name>,
    /// The job type (the same as TYPE)
    #[arg(short = 't', long = "type", id = "type_flag", value_name = "TYPE", hide_short_help = true,
          add = ArgValueCompleter::new(complete::types))]
    kind_flag: Option<Name>,
    /// The payload: JSON, @FILE, or - for standard input
    #[arg(short, long, value_name = "JSON", allow_negative_numbers = true)]
    data: Option<String>,
    /// The queue [default: `queue.name` of the configuration, else default]
    #[arg(short, long, value_name = "QUEUE", add = ArgValueCompleter::new(complete::queues))]
    queue: Option<Name>,
    /// From -100 to 100; higher is sooner
    #[arg(short, long, value_name = "N", default_value_t = 0, allow_negative_numbers = true,
          value_parser = clap::value_parser!(i8).range(-100..=100))]
    priority: i8,
    /// Not before so long from now
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, allow_hyphen_values = true, conflicts_with = "at")]
    delay: Option<Duration>,
    /// Not before this time, RFC 3339
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Retries after the first attempt [default: the handler's own, else `queue.max_retries` of the
    /// configuration, else 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=10_000))]
    max_retries: Option<u32>,
    /// Limit of one attempt
    #[arg(long, value_name = "DURATION", value_parser = positive_duration, allow_hyphen_values = true)]
    timeout: Option<Duration>,
    /// Limit of all attempts and the waits between them, from now on
    #[arg(long, hide_short_help = true, value_name = "DURATION", value_parser = positive_duration, allow_hyphen_values = true)]
    deadline: Option<Duration>,
    /// Refuse if a job with this key has not ended
    #[arg(long, value_name = "KEY", value_parser = key)]
    unique: Option<String>,
    /// Keep the key of --unique taken for at least so long, even if the job ends sooner
    #[arg(long, hide_short_help = true, value_name = "DURATION", value_parser = positive_duration, allow_hyphen_values = true, requires = "unique")]
    unique_for: Option<Duration>,
    /// Wait until this job has completed; cancelled if it dies. May be given more than once
    #[arg(long, value_name = "ID", conflicts_with_all = ["delay", "at"], value_delimiter = ',')]
    after: Vec<String>,
    /// Run no more jobs of this key at once than --key-limit, over all workers
    #[arg(long, hide_short_help = true, value_name = "KEY", value_parser = key)]
    key: Option<String>,
    /// Keep jobs of this key on one shard, in the order of their coming
    #[arg(long, hide_short_help = true, value_name = "KEY", value_parser = key)]
    partition: Option<String>,
    /// How many jobs of --key may run at once
    #[arg(long, hide_short_help = true, value_name = "N", requires = "key", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    key_limit: u32,
    /// Metadata; may be given more than once
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    meta: Vec<(String, String)>,
    /// One job for each line of standard input, which is its JSON payload
    #[arg(long, conflicts_with_all = ["data", "unique", "text_lines"])]
    lines: bool,
    /// One job for each line of standard input, whose text is its payload
    #[arg(long, conflicts_with_all = ["data", "unique"])]
    text_lines: bool,
}

fn positive_duration(text: &str) -> std::result::Result<Duration, String> {
    match parse_duration(text) {
        Ok(Duration::ZERO) => Err(format!("`{text}` leaves no time at all")),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}

fn key(text: &str) -> std::result::Result<String, String> {
    match text.len() {
        0 => Err("a key is not empty".to_owned()),
        1..=limits::KEY_BYTES => Ok(text.to_owned()),
        long => Err(format!("a key of {long} bytes is longer than {}", limits::KEY_BYTES)),
    }
}

fn pair(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not KEY=VALUE")),
    }
}

/// Everything of a job but its id and payload.
#[derive(Debug)]
pub struct Template {
    kind: Name,
    queue: Name,
    priority: i8,
    start: Start,
    retry: RetryPolicy,
    retry_is_own: bool,
    timeout_ms: Option<u64>,
    deadline_ms: Option<u64>,
    partition: Option<String>,
    unique_key: Option<String>,
    unique_for: Option<Duration>,
    after: Vec<JobId>,
    concurrency: Option<Concurrency>,
    metadata: BTreeMap<String, String>,
}

impl Template {
    pub fn job(&self, client: &Client, payload: Json) -> NewJob {
        let near = near(self.partition.as_deref(), self.unique_key.as_deref(), self.concurrency.as_ref(), &self.after);
        let id = client.job_id_near(near);
        let job = Job {
            priority: self.priority,
            retry: self.retry.clone(),
            retry_is_own: self.retry_is_own,
            timeout_ms: self.timeout_ms,
            deadline_ms: self.deadline_ms,
            unique_key: self.unique_key.clone(),
            after: self.after.clone(),
            concurrency: self.concurrency.clone(),
            metadata: self.metadata.clone(),
            ..Job::new(id, self.kind.clone(), self.queue.clone(), payload)
        };
        NewJob { start: self.start, unique_for: self.unique_for, ..NewJob::now(job) }
    }

    /// Finds the jobs that are to be waited for.
    async fn follow(&mut self, client: &Client, after: &[String]) -> Result {
        for part in after {
            let parent = client.job(part).await?.job.id;
            if !self.after.contains(&parent) {
                self.after.push(parent);
            }
        }
        Ok(())
    }
}

pub fn run(context: &Context, args: EnqueueArgs) -> Result {
    let mut template = template(context, &args)?;
    if args.lines || args.text_lines {
        return context.block_on(async {
            let client = context.client().await?;
            template.follow(&client, &args.after).await?;
            bulk::run(context, &client, template, args.text_lines).await
        });
    }
    let payload = payload(args.data.as_deref())?;
    context.block_on(async {
        let client = context.client().await?;
        template.follow(&client, &args.after).await?;
        let stored = client.enqueue(template.job(&client, payload)).await?;
        let view = JobView::from(&stored);
        context.ui.result(&view, &view.id)
    })
}

fn template(context: &Context, args: &EnqueueArgs) -> Result<Template> {
    let kind = args.kind.clone().or_else(|| args.kind_flag.clone());
    let kind = kind.ok_or_else(|| fail(Code::Usage, "TYPE is missing"))?;
    if kind.as_str().starts_with("goflow:") {
        return Err(fail(Code::ReservedType, format!("the job type `{kind}` is reserved"))
            .hint("types that begin with `goflow:` belong to goflow itself"));
    }
    let mut metadata = BTreeMap::new();
    for (key, value) in &args.meta {
        if metadata.insert(key.clone(), value.clone()).is_some() {
            return Err(fail(Code::Usage, format!("--meta gives `{key}` twice")));
        }
    }
    let bytes: usize = metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > limits::METADATA_BYTES {
        let (is, most) = (text::size(bytes as u64), text::size(limits::METADATA_BYTES as u64));
        return Err(fail(Code::PayloadTooLarge, format!("the metadata is {is}, more than the {most} allowed")));
    }
    if args.after.len() > limits::PARENTS {
        let (are, most) = (args.after.len(), limits::PARENTS);
        return Err(fail(Code::Usage, format!("--after names {are} jobs, more than the {most} allowed")));
    }
    let start = match (&args.delay, &args.at) {
        (Some(delay), _) => Start::After(*delay),
        (None, Some(at)) => Start::At(time_to_come(at, context.clock.now())?),
        (None, None) => Start::Now,
    };
    let max = match args.max_retries {
        Some(max) => max,
        None => context.config()?.max_retries(),
    };
    let queue = match &args.queue {
        Some(queue) => queue.clone(),
        None => context.default_queue()?,
    };
    Ok(Template {
        kind,
        queue,
        priority: args.priority,
        start,
        retry: RetryPolicy { max, ..RetryPolicy::default() },
        retry_is_own: args.max_retries.is_some(),
        timeout_ms: args.timeout.map(|timeout| timeout.as_millis() as u64),
        deadline_ms: args.deadline.map(|deadline| deadline.as_millis() as u64),
        partition: args.partition.clone(),
        unique_key: args.unique.clone(),
        unique_for: args.unique_for,
        after: Vec::new(),
        concurrency: args.key.clone().map(|key| Concurrency { key, limit: args.key_limit }),
        metadata,
    })
}

/// Reads an RFC 3339 time that has not passed.
fn time_to_come(text: &str, now: Ms) -> Result<Ms> {
    let at: jiff::Timestamp = text.parse().map_err(|_| {
        let year = text.trim_start_matches('+').split('-').next().and_then(|year| year.parse::<u64>().ok());
        if year.is_some_and(|year| year >= 9_999) {
            return fail(Code::PastTime, format!("--at: `{text}` lies beyond the times that goflow knows"))
                .hint("the last one is 9999-12-30T22:00:00Z");
        }
        fail(Code::PastTime, format!("--at: `{text}` is not a time of RFC 3339"))
            .hint("write it with its offset, as in 2030-01-31T09:00:00Z or 2030-01-31T10:00:00+01:00")
    })?;
    let at = Ms(at.as_millisecond());
    if at < now {
        let late = text::age(now.since(at));
        return Err(fail(Code::PastTime, format!("--at: {at} passed {late} ago"))
            .hint("leave --at out to run it now, or use --delay 5m for a time from now"));
    }
    Ok(at)
}

/// A payload or input: JSON, `@FILE`, or `-` for standard input; null when there is none.
///
/// # Errors
/// Unreadable, too large, not JSON.
pub fn payload(data: Option<&str>) -> Result<Json> {
    given(data, "the payload", "-d")
}

/// The input of a run, given as a payload is.
///
/// # Errors
/// As [`payload`].
pub fn input(data: Option<&str>) -> Result<Json> {
    given(data, "the input", "-i")
}

fn given(data: Option<&str>, what: &str, flag: &str) -> Result<Json> {
    let (source, text) = match data {
        None => return Ok(Json::null()),
        Some("-") => ("standard input".to_owned(), read_bounded("standard input", std::io::stdin().lock())?),
        Some(data) => match data.strip_prefix('@') {
            Some(path) => {
                let unreadable = |error: &std::io::Error| {
                    fail(Code::Unreadable, format!("{path} cannot be read: {}", reason(error)))
                };
                let path = Path::new(path);
                let kind = std::fs::metadata(path).map_err(|error| unreadable(&error))?.file_type();
                if manifests::is_lonely_pipe(path, kind) {
                    return Err(fail(Code::Unreadable, format!("{} is a pipe, not a file", path.display()))
                        .hint(format!("give it as standard input: `{flag} - < PIPE`")));
                }
                let file = std::fs::File::open(path).map_err(|error| unreadable(&error))?;
                let path = &*path.to_string_lossy();
                (path.to_owned(), read_bounded(path, file)?)
            }
            None => (what.to_owned(), data.to_owned()),
        },
    };
    Json::parse(&text, limits::PAYLOAD_BYTES).map_err(|error| match (&error, flag) {
        (BadJson::Syntax { .. }, "-i") => fail(Code::PayloadNotJson, format!("{source} is {error}"))
            .hint("an input is an object: -i '{\"order_id\": \"o-1\"}', -i @FILE, or -i - for standard input"),
        _ => bad_payload(&source, &error),
    })
}

/// Reads no more than a payload can be, however much there is.
fn read_bounded(source: &str, from: impl Read) -> Result<String> {
    let mut bytes = Vec::new();
    // White space around the value is not counted, so leave some room for it.
    let most = limits::PAYLOAD_BYTES as u64 + 4096;
    from.take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| fail(Code::Unreadable, format!("{source} cannot be read: {}", reason(&error))))?;
    if bytes.len() as u64 > most {
        return Err(too_large(source));
    }
    String::from_utf8(bytes).map_err(|_| fail(Code::PayloadNotJson, format!("{source} is not UTF-8 text")))
}

fn too_large(source: &str) -> CommandError {
    fail(Code::PayloadTooLarge, format!("{source}: the payload is larger than 1 MiB"))
        .hint("put the data somewhere else and enqueue its address")
}

/// The error for a payload from this source.
pub fn bad_payload(source: &str, error: &BadJson) -> CommandError {
    match error {
        BadJson::TooLarge { .. } => too_large(source),
        BadJson::TooDeep { .. } => fail(Code::PayloadTooLarge, format!("{source}: {error}")),
        BadJson::Syntax { .. } => {
            fail(Code::PayloadNotJson, format!("{source} is {error}")).hint("text must be quoted: -d '\"hello\"'")
        }
    }
}
