//! Traces, seen by a collector: one whole trace from the enqueue to the steps, each span below the right
//! one, and passed on to what the handlers call.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message;

use crate::cli::TestEnvironment;
use crate::servers::http::{HttpServer, Reply};

const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A collector, and a place whose commands send their traces to it.
fn traced() -> (HttpServer, TestEnvironment) {
    let sink = HttpServer::start(|_, _| Reply::status(200));
    let mut env = TestEnvironment::new();
    env.set("OTEL_EXPORTER_OTLP_ENDPOINT", &sink.url(""));
    (sink, env)
}

fn received(sink: &HttpServer) -> Vec<Span> {
    let mut spans = Vec::new();
    for asked in sink.asked() {
        assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/v1/traces"));
        assert_eq!(asked.header("content-type"), Some("application/x-protobuf"));
        let request = ExportTraceServiceRequest::decode(asked.body.as_slice()).expect("OTLP");
        for resource in request.resource_spans {
            let named = resource.resource.iter().flat_map(|resource| &resource.attributes);
            assert!(named.clone().any(|one| one.key == "service.name"), "{resource:?}");
            spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
    spans
}

/// The one span of this name.
#[track_caller]
fn one<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found: Vec<&Span> = spans.iter().filter(|span| span.name == name).collect();
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(found.len(), 1, "{name} in {names:?}");
    found[0]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[track_caller]
fn below(child: &Span, parent: &Span) {
    assert_eq!(hex(&child.parent_span_id), hex(&parent.span_id), "{} below {}", child.name, parent.name);
    let (from, to) = (child.start_time_unix_nano, child.end_time_unix_nano);
    assert!(from <= to, "{} ends before it starts", child.name);
    assert!(from >= parent.start_time_unix_nano, "{} starts before {}", child.name, parent.name);
}

#[test]
fn a_job_is_one_trace_below_the_one_that_was_given() {
    let (sink, env) = traced();
    env.file("goflow.yaml", "handlers: {tell: {run: 'printf %s \"$TRACEPARENT\"', outputs: text}}\n");
    let meta = format!("traceparent={GIVEN}");
    let id = env.args(["enqueue", "tell", "--meta", &meta]).ok().line().to_owned();
    env.run("worker --until-empty").ok();
    let spans = received(&sink);
    assert!(spans.iter().all(|span| hex(&span.trace_id) == "4bf92f3577b34da6a3ce929d0e0e4736"), "{spans:?}");
    let (enqueue, life) = (one(&spans, "enqueue tell"), one(&spans, "job tell"));
    let (wait, attempt) = (one(&spans, "wait"), one(&spans, "attempt tell"));
    assert_eq!(hex(&enqueue.parent_span_id), "00f067aa0ba902b7");
    below(life, enqueue);
    below(wait, life);
    below(attempt, life);
    assert!(wait.end_time_unix_nano <= attempt.start_time_unix_nano);
    // The handler saw the attempt as the place that it works at.
    let told = env.run(&format!("job show {id} -o json")).ok().json();
    let wanted = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", hex(&attempt.span_id));
    assert_eq!(told["result"], wanted);
    assert_eq!(spans.len(), 4);
}

#[test]
fn a_run_is_one_trace_with_its_steps_and_their_retries() {
    let (sink, env) = traced();
    let called = HttpServer::start(|_, _| Reply::json("{}"));
    env.file(
        "w.yaml",
        format!(
            "name: order\nsteps:\n\
             - {{id: call, http: {{url: '{}', allow_hosts: [127.0.0.1]}}}}\n\
             - {{id: flaky, needs: [call], run: 'test -e once || {{ touch once; exit 1; }}', retry: {{max: 2, initial: 1ms}}}}\n\
             - {{id: nap, needs: [flaky], sleep: 1ms}}\n\
             - {{id: below, needs: [nap], call: inner}}\n\
             ---\nname: inner\nsteps: [{{id: leaf, job: noop}}]\n",
            called.url("/x")
        ),
    );
    env.run("run w.yaml --workflow order").ok();
    let spans = received(&sink);
    let trace = hex(&spans[0].trace_id);
    assert!(spans.iter().all(|span| hex(&span.trace_id) == trace), "one trace: {spans:?}");
    let (start, run) = (one(&spans, "start order"), one(&spans, "run order"));
    assert!(start.parent_span_id.is_empty(), "the root");
    below(run, start);
    for name in ["step call", "step flaky", "step nap", "step below"] {
        below(one(&spans, name), run);
    }
    below(one(&spans, "run inner"), run);
    below(one(&spans, "step leaf"), one(&spans, "run inner"));
    let flaky = one(&spans, "step flaky");
    let attempts: Vec<&Span> =
        spans.iter().filter(|span| span.name.starts_with("attempt") && span.parent_span_id == flaky.span_id).collect();
    let failed = |span: &&&Span| span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error);
    assert_eq!((attempts.len(), attempts.iter().filter(failed).count()), (2, 1));
    let waits = spans.iter().filter(|span| span.name == "wait" && span.parent_span_id == flaky.span_id);
    assert_eq!(waits.count(), 2);
    let call = one(&spans, "step call");
    let attempt = spans.iter().find(|span| span.name.starts_with("attempt") && span.parent_span_id == call.span_id);
    let wanted = format!("00-{trace}-{}-01", hex(&attempt.expect("an attempt").span_id));
    assert_eq!(called.asked()[0].header("traceparent"), Some(wanted.as_str()));
}

#[test]
fn without_a_collector_a_trace_is_only_passed_on() {
    let mut env = TestEnvironment::new();
    env.set("TRACEPARENT", GIVEN);
    env.file("goflow.yaml", "handlers: {tell: {run: 'printf %s \"$TRACEPARENT\"', outputs: text}}\n");
    env.file("w.yaml", "name: w\nsteps: [{id: tell, run: 'printf %s \"$TRACEPARENT\"', outputs: text}]\n");
    let id = env.run("enqueue tell").ok().line().to_owned();
    env.run("worker --until-empty").ok();
    assert_eq!(env.run(&format!("job show {id} -o json")).ok().json()["result"], GIVEN);
    let run = env.run("run w.yaml -o json").ok().json();
    let told = run["steps"][0]["output"].as_str().expect("text").to_owned();
    assert!(told.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && told != GIVEN, "{told}");
    let mut alone = TestEnvironment::new();
    alone.set("OTEL_SDK_DISABLED", "true").set("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1");
    alone.file("goflow.yaml", "handlers: {tell: {run: 'printf %s \"${TRACEPARENT-none}\"', outputs: text}}\n");
    let id = alone.run("enqueue tell").ok().line().to_owned();
    alone.run("worker --until-empty").ok();
    let job = alone.run(&format!("job show {id} -o json")).ok().json();
    assert_eq!((&job["result"], &job["metadata"]), (&"none".into(), &serde_json::json!({})));
}

#[test]
fn a_collector_that_is_away_costs_no_job_and_is_told() {
    let mut env = TestEnvironment::new();
    env.set("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1");
    env.run("enqueue noop").ok();
    let worked = env.run("worker --until-empty").ok();
    assert!(worked.stderr.contains("traces cannot be sent"), "{}", worked.text());
    assert!(worked.line().contains("completed 1 job"), "{}", worked.text());
    env.set("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    let refused = env.run("enqueue noop");
    assert_eq!(refused.status, Some(2), "{}", refused.text());
    assert!(refused.stderr.contains("OTEL_EXPORTER_OTLP_PROTOCOL is `grpc`"), "{}", refused.text());
}
