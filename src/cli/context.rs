//! The composition root: what a command is given. Configuration, store and runtime are made when a
//! command asks for them, so that `goflow --version` pays for none of them.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use super::args::{Global, LogFormat};
use super::codes::Code;
use super::error::{Result, fail, reason, unusable};
use super::ui::Ui;
use crate::api::Client;
#[cfg(feature = "otlp")]
use crate::domain::text::count;
use crate::domain::trace::{Spans, Trace};
use crate::domain::{Clock, Entropy, Name};
use crate::store::StoreUrl;
use crate::store::open::{OpenOptions, open};
use crate::store::remote::Token;
use crate::store::sharded::Strategy;
use crate::sys::clock::SystemClock;
use crate::sys::config::store::{StoreChoice, StoreFlags};
use crate::sys::config::{Config, Origin, Search};
use crate::sys::entropy::SystemEntropy;
use crate::sys::env::Env;
use crate::sys::paths::Paths;

/// Names the token for a server, and on a server the one that may do everything.
pub const TOKEN: &str = "GOFLOW_TOKEN";

pub struct Context {
    pub ui: Ui,
    pub env: Env,
    pub global: Global,
    pub paths: Option<Paths>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    config: OnceCell<Config>,
    #[cfg(feature = "otlp")]
    otlp: OnceCell<Option<Arc<crate::sys::otlp::Otlp>>>,
}

/// For the torture tests: `GOFLOW_SKEW=-90000` is a machine whose clock is ninety seconds late.
#[cfg(feature = "fault")]
fn clock(env: &Env) -> Arc<dyn Clock> {
    match env.get("GOFLOW_SKEW").and_then(|skew| skew.parse().ok()) {
        Some(skew) => Arc::new(crate::sys::clock::Skewed(skew)),
        None => Arc::new(SystemClock),
    }
}

#[cfg(not(feature = "fault"))]
fn clock(_: &Env) -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

impl Context {
    pub fn new(env: Env, global: Global) -> Context {
        let mut ui = Ui::new(&env, global.output, global.color, global.verbose);
        if global.log_format == LogFormat::Json {
            ui.talk_as_log();
        }
        let paths = Paths::find(&env);
        let clock = clock(&env);
        Context {
            ui,
            env,
            global,
            paths,
            clock,
            entropy: Arc::new(SystemEntropy::default()),
            config: OnceCell::new(),
            #[cfg(feature = "otlp")]
            otlp: OnceCell::new(),
        }
    }

    /// As [`Context::new`], but says nothing: for completion.
    pub fn silent(env: Env, global: Global) -> Context {
        let mut context = Context::new(env, global);
        context.ui.silence();
        context
    }

    /// The configuration, read on first use; its warnings are said then.
    ///
    /// # Errors
    /// A broken configuration, told with its place.
    pub fn config(&self) -> Result<&Config> {
        if let Some(config) = self.config.get() {
            return Ok(config);
        }
        let folder = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
        let flag = self.global.config.as_deref();
        let config = Config::load(Search { flag, folder: &folder, env: &self.env, paths: self.paths.as_ref() })?;
        for warning in &config.warnings {
            self.ui.warn(warning);
        }
        Ok(self.config.get_or_init(|| config))
    }

    /// Which store is asked for, and by whom.
    ///
    /// # Errors
    /// A URL that is none; no home folder for the embedded store.
    pub fn store_choice(&self) -> Result<(StoreUrl, StoreChoice)> {
        let Global { store, redis, server, .. } = &self.global;
        let flags = StoreFlags { store: store.as_deref(), redis: redis.as_deref(), server: server.as_deref() };
        let choice = self.config()?.store(flags, &self.env, self.paths.as_ref())?;
        match choice.url.parse() {
            Ok(url) => Ok((url, choice)),
            Err(error) => Err(super::error::CommandError::from(error).hint(format!("it comes from {}", choice.origin))),
        }
    }

    /// Opens the store.
    ///
    /// # Errors
    /// The store's, with the place it was looked for.
    pub async fn client(&self) -> Result<Client> {
        self.client_for(None).await
    }

    /// Opens the store to work for these of its shards only.
    ///
    /// # Errors
    /// As [`Context::client`]; a store that is not sharded.
    pub async fn client_for(&self, only: Option<BTreeSet<u16>>) -> Result<Client> {
        self.open(OpenOptions { only, ..OpenOptions::default() }).await
    }

    /// Opens the store to change its shards; one that has none becomes the first.
    ///
    /// # Errors
    /// As [`Context::client`].
    pub async fn sharded_client(&self) -> Result<Client> {
        if self.store_choice()?.0 == StoreUrl::Memory {
            return Err(fail(Code::StateConflict, "a store in memory has no shards: it ends with this command"));
        }
        self.open(OpenOptions { begin: true, ..OpenOptions::default() }).await
    }

    async fn open(&self, options: OpenOptions) -> Result<Client> {
        let (url, choice) = self.store_choice()?;
        self.ui.whisper(&format!("store {url}"));
        let strategy = self.strategy()?;
        let token = match &url {
            StoreUrl::Server(_) => self.token()?.map(|(token, _)| token),
            _ => None,
        };
        let options = OpenOptions { allow_eviction: self.global.allow_eviction, strategy, token, ..options };
        let store = open(&url, self.clock.clone(), self.entropy.clone(), options).await;
        let store = store.map_err(|error| unusable(error, &url, &choice.origin.to_string()))?;
        // What lies there is left out of lists and counts: whoever looks is to know.
        if let Some(shards) = store.shards() {
            for (id, why) in shards.away() {
                self.ui.warn(&format!("shard {id} does not answer, what it holds is not seen: {why}"));
            }
        }
        let store = self.with_faults(store)?;
        Ok(Client::new(store, self.clock.clone(), self.entropy.clone()).with_spans(self.spans()?).within(self.trace()))
    }

    /// The token for a server, and who gave it: a file, or the environment; never the command line, which
    /// everybody on the machine can read.
    ///
    /// # Errors
    /// A file that cannot be read, or holds no token.
    pub fn token(&self) -> Result<Option<(Token, Origin)>> {
        let (text, origin, what) = match (&self.global.token_file, self.env.get(TOKEN)) {
            (Some(path), _) => {
                let shown = path.display();
                let text = std::fs::read_to_string(path).map_err(|error| {
                    fail(Code::Unreadable, format!("the token file {shown} cannot be read: {}", reason(&error)))
                })?;
                (text, Origin::Flag("--token-file"), format!("the token file {shown}"))
            }
            (None, Some(text)) => (text.to_owned(), Origin::Environment(TOKEN), TOKEN.to_owned()),
            (None, None) => return Ok(None),
        };
        match Token::new(&text) {
            Ok(token) => Ok(Some((token, origin))),
            Err(why) => Err(fail(Code::Usage, format!("{what}: {why}"))),
        }
    }

    /// Who takes the spans of what this process does, if the environment names a collector.
    ///
    /// # Errors
    /// An endpoint or a protocol that cannot be used.
    #[cfg(feature = "otlp")]
    pub fn spans(&self) -> Result<Option<Arc<dyn Spans>>> {
        if self.otlp.get().is_none() {
            let otlp = crate::sys::otlp::Otlp::from_env(&self.env);
            let otlp = otlp.map_err(|error| fail(Code::Config, error.to_string()).hint("see docs/tracing.md"))?;
            let _ = self.otlp.set(otlp.map(Arc::new));
        }
        Ok(self.otlp.get().and_then(Option::as_ref).map(|otlp| otlp.clone() as Arc<dyn Spans>))
    }

    /// Sends the last spans, at the end of a command.
    #[cfg(feature = "otlp")]
    pub fn end_traces(&self) {
        if let Some(lost) = self.otlp.get().and_then(Option::as_ref).map(|otlp| otlp.flush()).filter(|lost| *lost > 0) {
            self.ui.warn(&format!("{} of traces were dropped: too many waited to be sent", count(lost, "span")));
        }
    }

    #[cfg(not(feature = "otlp"))]
    #[expect(clippy::unnecessary_wraps, reason = "the same shape as with the feature")]
    pub fn spans(&self) -> Result<Option<Arc<dyn Spans>>> {
        let names = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
        if let Some((name, _)) = self.env.first(&names) {
            self.ui.warn(&format!(
                "{name} is set, and this goflow was built without the feature `otlp`: it sends no traces"
            ));
        }
        Ok(None)
    }

    #[cfg(not(feature = "otlp"))]
    #[expect(clippy::unused_self, reason = "the same shape as with the feature")]
    pub fn end_traces(&self) {}

    /// For the torture tests: `GOFLOW_FAULT=kill-before:3` ends the process at its third commit, as
    /// kill -9 would. Not in a build without the feature `fault`.
    #[cfg(feature = "fault")]
    fn with_faults(&self, store: Arc<dyn crate::store::Store>) -> Result<Arc<dyn crate::store::Store>> {
        use crate::store::fault::{Death, FaultStore};
        let Some(text) = self.env.get("GOFLOW_FAULT") else { return Ok(store) };
        let death = Death::parse(text, crate::sys::process::die);
        let death = death.ok_or_else(|| fail(Code::Usage, format!("GOFLOW_FAULT: `{text}` is no fault")))?;
        Ok(Arc::new(FaultStore::new(store, Arc::new(death))))
    }

    #[cfg(not(feature = "fault"))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "the same shape as with the feature")]
    fn with_faults(&self, store: Arc<dyn crate::store::Store>) -> Result<Arc<dyn crate::store::Store>> {
        Ok(store)
    }

    /// The trace that this process was started in, by the variable that OpenTelemetry's tools set: a W3C
    /// traceparent.
    fn trace(&self) -> Option<Trace> {
        self.env.get("TRACEPARENT").and_then(|text| text.parse().ok())
    }

    /// How new work is spread over the shards of a list.
    ///
    /// # Errors
    /// A configured word that is none.
    pub fn strategy(&self) -> Result<Strategy> {
        let (word, origin) = self.config()?.strategy();
        word.parse().map_err(|error| {
            let place = origin.map(ToString::to_string).unwrap_or_default();
            fail(Code::Config, format!("{place}: `shards.strategy`: {error}"))
        })
    }

    /// Where `enqueue` puts jobs without `-q`.
    ///
    /// # Errors
    /// A configured name that is none.
    pub fn default_queue(&self) -> Result<Name> {
        let (name, origin) = self.config()?.queue();
        name.parse().map_err(|error| {
            let place = origin.map(ToString::to_string).unwrap_or_default();
            fail(Code::Config, format!("{place}: `queue.name`: {error}"))
        })
    }

    /// Runs a command that waits for something, on this thread alone; Ctrl-C ends it.
    ///
    /// # Errors
    /// The command's; `GF0130` on Ctrl-C.
    pub fn block_on<T>(&self, command: impl Future<Output = Result<T>>) -> Result<T> {
        runtime(tokio::runtime::Builder::new_current_thread())?.block_on(async {
            tokio::select! {
                biased;
                answer = command => answer,
                interrupted = tokio::signal::ctrl_c() => match interrupted {
                    Ok(()) => Err(fail(Code::Interrupted, "interrupted")),
                    Err(error) => Err(fail(Code::Bug, format!("Ctrl-C cannot be watched for: {error}"))),
                },
            }
        })
    }
}

/// Builds a runtime.
pub fn runtime(mut builder: tokio::runtime::Builder) -> Result<tokio::runtime::Runtime> {
    builder.enable_all().build().map_err(|error| fail(Code::Bug, format!("no runtime: {error}")))
}
