//! Sends spans to a collector: OTLP over HTTP as protobuf, in batches, from a thread of its own, so that
//! no job waits for it. Where to is said by the variables of OpenTelemetry. It must not know what the
//! spans are of. <https://opentelemetry.io/docs/specs/otlp/>

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind as OtelKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use tokio::time::Instant;

use super::env::Env;
use crate::domain::Ms;
use crate::domain::trace::{Span, SpanKind, Spans};

/// Spans that wait to be sent; what comes when there are so many is dropped, and counted.
const WAITING: usize = 16_384;
/// Spans in one request.
const BATCH: usize = 512;
/// How long a span may wait for others to be sent with.
const GATHER: Duration = Duration::from_millis(500);
/// How long the end of a process waits for the last ones.
const LAST: Duration = Duration::from_secs(5);

/// The variables that say where traces go; the first that is set counts.
pub const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// Why traces cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    #[error("traces are sent as http/protobuf: {name} is `{value}`")]
    Protocol { name: &'static str, value: String },
    #[error("traces cannot be sent: {0}")]
    SetUp(String),
}

/// A collector that spans are sent to.
pub struct Otlp {
    to: SyncSender<Message>,
    lost: AtomicU64,
}

enum Message {
    Span(Span),
    /// Everything that came before is to be sent now.
    Flush(SyncSender<()>),
}

impl fmt::Debug for Otlp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Otlp")
    }
}

impl Spans for Otlp {
    fn record(&self, span: Span) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.to.try_send(Message::Span(span)) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Whether the environment asks for traces, and by which variable.
pub fn asked(env: &Env) -> Option<&'static str> {
    let off = env.get("OTEL_SDK_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true"))
        || env.get("OTEL_TRACES_EXPORTER") == Some("none");
    env.first(&ENDPOINTS).map(|(name, _)| name).filter(|_| !off)
}

impl Otlp {
    /// Sends to where the environment says, if it says so.
    ///
    /// # Errors
    /// A protocol that is not spoken here, an endpoint that is none.
    pub fn from_env(env: &Env) -> Result<Option<Otlp>, OtlpError> {
        if asked(env).is_none() {
            return Ok(None);
        }
        let protocols = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
        if let Some((name, value)) = env.first(&protocols).filter(|(_, value)| *value != "http/protobuf") {
            return Err(OtlpError::Protocol { name, value: value.to_owned() });
        }
        let set_up = |error: String| OtlpError::SetUp(error);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| set_up(error.to_string()))?;
        let exporter = exporter(env).map_err(set_up)?;
        let (to, from) = sync_channel(WAITING);
        let send = move || runtime.block_on(async { send(&exporter, &from).await });
        let thread = std::thread::Builder::new().name("traces".to_owned()).spawn(send);
        thread.map_err(|error| set_up(error.to_string()))?;
        Ok(Some(Otlp { to, lost: AtomicU64::new(0) }))
    }

    /// Sends what waits, at the end of a process; answers how many spans were dropped because too many
    /// waited.
    pub fn flush(&self) -> u64 {
        let (done, wait) = sync_channel(1);
        let deadline = Instant::now() + LAST;
        let mut message = Message::Flush(done);
        // The thread may be behind: it makes room.
        while let Err(TrySendError::Full(back)) = self.to.try_send(message) {
            if Instant::now() >= deadline {
                return self.lost.load(Ordering::Relaxed);
            }
            message = back;
            std::thread::yield_now();
        }
        // One that does not answer has said why in the log.
        let _ = wait.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        self.lost.load(Ordering::Relaxed)
    }
}

fn exporter(env: &Env) -> Result<SpanExporter, String> {
    // Another provider that the process has installed already is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    let secure = env.first(&ENDPOINTS).is_some_and(|(_, url)| url.trim_start().starts_with("https:"));
    let mut client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    if !secure {
        // Works on a machine without certificates, too.
        client = client.tls_certs_only([]);
    }
    let client = client.build().map_err(|error| error.to_string())?;
    let exporter = SpanExporter::builder().with_http().with_http_client(client).with_protocol(Protocol::HttpBinary);
    let mut exporter = exporter.build().map_err(|error| error.to_string())?;
    let mut resource = Resource::builder();
    if env.get("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name("goflow");
    }
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    exporter.set_resource(&resource.with_attribute(version).build());
    Ok(exporter)
}

/// Sends batches until nobody is left who could record a span.
async fn send(exporter: &SpanExporter, from: &Receiver<Message>) {
    let mut batch: Vec<SpanData> = Vec::new();
    let mut since = Instant::now();
    let mut told = false;
    loop {
        let wait = if batch.is_empty() { GATHER } else { GATHER.saturating_sub(since.elapsed()) };
        let mut flush = None;
        let mut over = false;
        match from.recv_timeout(wait) {
            Ok(Message::Span(span)) => {
                if batch.is_empty() {
                    since = Instant::now();
                }
                batch.push(data(span));
            }
            Ok(Message::Flush(done)) => flush = Some(done),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => over = true,
        }
        let due = flush.is_some() || over || batch.len() >= BATCH || since.elapsed() >= GATHER;
        if due && !batch.is_empty() {
            match exporter.export(std::mem::take(&mut batch)).await {
                Ok(()) => told = false,
                // Once, until it works again: a collector that is away must not fill the log.
                Err(error) if !told => {
                    tracing::warn!(%error, "traces cannot be sent: their spans are dropped until they can");
                    told = true;
                }
                Err(_) => {}
            }
        }
        if let Some(done) = flush {
            let _ = done.send(());
        }
        if over {
            return;
        }
    }
}

fn data(span: Span) -> SpanData {
    let trace = span.place.trace;
    let flags = if trace.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let (id, own) = (TraceId::from_bytes(trace.id), SpanId::from_bytes(trace.span));
    SpanData {
        span_context: SpanContext::new(id, own, flags, false, TraceState::default()),
        parent_span_id: span.place.parent.map_or(SpanId::INVALID, SpanId::from_bytes),
        parent_span_is_remote: span.place.parent.is_some(),
        span_kind: match span.kind {
            SpanKind::Internal => OtelKind::Internal,
            SpanKind::Producer => OtelKind::Producer,
            SpanKind::Consumer => OtelKind::Consumer,
        },
        name: span.name.into(),
        start_time: moment(span.start),
        end_time: moment(span.end),
        attributes: span.attributes.into_iter().map(|(key, value)| KeyValue::new(key, value)).collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: span.error.map_or(Status::Unset, Status::error),
        instrumentation_scope: InstrumentationScope::builder("goflow").with_version(env!("CARGO_PKG_VERSION")).build(),
    }
}

fn moment(at: Ms) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(at.0).unwrap_or(0))
}
