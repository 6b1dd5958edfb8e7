//! The command line as types. What a command takes stands in its own file under `commands/`; here
//! are the global flags and the tree.

use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand, ValueEnum};

use super::commands;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Yellow.on_default().bold())
    .usage(AnsiColor::Yellow.on_default().bold())
    .literal(AnsiColor::Blue.on_default().bold())
    .placeholder(AnsiColor::Blue.on_default());

/// Background jobs and durable workflows from one binary
///
/// Jobs wait in a store: an embedded SQLite file unless you name another one. The same commands work
/// on Redis and PostgreSQL with many workers behind them.
#[derive(Debug, Parser)]
#[command(
    name = "goflow",
    bin_name = "goflow",
    version,
    styles = STYLES,
    max_term_width = 100,
    disable_help_subcommand = true,
    after_help = "Everywhere: --store URL, --config FILE, -o FORMAT, --color WHEN, -v; more with --help",
    after_long_help = "\
Examples:
  Put three jobs on the queue and look at them:
    printf 'a\\nb\\nc\\n' | goflow enqueue echo --text-lines
    goflow job list
  Use another store for every command of this shell:
    export GOFLOW_STORE=redis://localhost:6379
  Use a server instead of a store, with a token that only you can read:
    goflow --server https://jobs.example.com --token-file ~/.goflow-token job list"
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Flags of every command.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The store: sqlite:PATH, redis://…, postgres://…, memory:, or a server, http(s)://…
    #[arg(long, global = true, hide_short_help = true, value_name = "URL", conflicts_with = "redis")]
    pub store: Option<String>,
    /// The store at redis://ADDRESS
    #[arg(long, global = true, hide_short_help = true, value_name = "ADDRESS")]
    pub redis: Option<String>,
    /// Instead of a store, the `goflow server` at this http:// or https:// URL
    #[arg(long, global = true, hide_short_help = true, value_name = "URL", conflicts_with_all = ["store", "redis"])]
    pub server: Option<String>,
    /// A file that holds the token for a server; else GOFLOW_TOKEN counts
    #[arg(long, global = true, hide_short_help = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Use a Redis even if its maxmemory-policy lets it throw jobs away
    #[arg(long, global = true, hide_short_help = true)]
    pub allow_eviction: bool,
    /// The configuration file
    #[arg(long, global = true, hide_short_help = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Output format
    #[arg(short, long, global = true, hide_short_help = true, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Format,
    /// Colours
    #[arg(long, global = true, hide_short_help = true, value_name = "WHEN", value_enum, default_value_t)]
    pub color: ColorWhen,
    /// How goflow's own log on stderr is written
    #[arg(long, global = true, hide_short_help = true, value_name = "FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
    /// Say more on stderr
    #[arg(short, long, global = true, hide_short_help = true)]
    pub verbose: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns
    #[default]
    Table,
    /// More columns
    Wide,
    /// One JSON value
    Json,
    /// One JSON value a line
    Jsonl,
    Yaml,
    /// Names or ids only
    Name,
}

impl Format {
    pub fn is_json(self) -> bool {
        matches!(self, Format::Json | Format::Jsonl)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorWhen {
    /// On a terminal, unless NO_COLOR or TERM=dumb
    #[default]
    Auto,
    Always,
    Never,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line for people
    #[default]
    Text,
    /// A JSON object a line
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Enqueue(commands::enqueue::EnqueueArgs),
    Run(commands::run::RunArgs),
    Worker(commands::worker::WorkerCommand),
    Scheduler(commands::scheduler::SchedulerArgs),
    Server(commands::server::ServerArgs),
    Up(commands::up::UpArgs),
    Apply(commands::apply::ApplyArgs),
    Diff(commands::diff::DiffArgs),
    Validate(commands::validate::ValidateArgs),
    Get(commands::get::GetArgs),
    Delete(commands::delete::DeleteArgs),
    #[command(subcommand)]
    Workflow(commands::workflow::WorkflowCommand),
    #[command(subcommand)]
    Job(commands::job::JobCommand),
    #[command(subcommand)]
    Queue(commands::queue::QueueCommand),
    #[command(subcommand)]
    Dlq(commands::dlq::DlqCommand),
    Events(commands::events::EventsArgs),
    Top(commands::top::TopArgs),
    #[command(subcommand)]
    Schedule(commands::schedule::ScheduleCommand),
    Scale(commands::scale::ScaleCommand),
    #[command(subcommand)]
    Shard(commands::shard::ShardCommand),
    #[command(subcommand)]
    Webhook(commands::webhook::WebhookCommand),
    #[command(subcommand)]
    Lock(commands::lock::LockCommand),
    #[command(subcommand)]
    Semaphore(commands::lock::SemaphoreCommand),
    #[command(subcommand)]
    Token(commands::token::TokenCommand),
    #[command(subcommand)]
    Bench(commands::bench::BenchCommand),
    Doctor(commands::doctor::DoctorArgs),
    #[command(subcommand)]
    Config(commands::config::ConfigCommand),
    Explain(commands::explain::ExplainArgs),
    Completions(commands::completions::CompletionsArgs),
    Man(commands::man::ManArgs),
}
