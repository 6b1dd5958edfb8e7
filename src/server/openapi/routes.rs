//! A sentence for each route, and the shapes that it reads and answers. What lets a request in is not
//! said here: that is the table's.

use http::Method;

use super::{Op, op};
use crate::api::locks::{Granted, HolderView, LockView};
use crate::api::tokens::TokenView;
use crate::api::wanted::{AddedView, JobWanted};
use crate::api::webhooks::WebhookView;
use crate::api::{EventView, JobView, QueueView, RunView, ScheduleView, Triggered, WorkerView};
use crate::server::compat::{flows, queue, sagas, tasks, workflows};
use crate::server::health::{HealthView, ReadyView};
use crate::server::pull;
use crate::server::v1::{
    ChangedView, PageQuery, WaitQuery, definitions, jobs, locks, looks, queues, runs, schedules, tokens,
};

fn get(path: &'static str, summary: &'static str) -> Op {
    op(Method::GET, path, summary)
}

fn post(path: &'static str, summary: &'static str) -> Op {
    op(Method::POST, path, summary)
}

fn patch(path: &'static str, summary: &'static str) -> Op {
    op(Method::PATCH, path, summary)
}

fn delete(path: &'static str, summary: &'static str) -> Op {
    op(Method::DELETE, path, summary).gives_nothing(204, "It is gone")
}

/// Every route of which something is said.
pub fn all() -> Vec<Op> {
    let mut all = of_server();
    all.extend(of_jobs());
    all.extend(of_queues());
    all.extend(of_runs());
    all.extend(of_the_rest());
    all.extend(of_webhooks());
    all.extend(of_workers());
    all.extend(of_locks());
    all.extend(of_replaced_queues());
    all.extend(of_replaced_workflows());
    all
}

fn of_server() -> Vec<Op> {
    vec![
        get("/health", "Whether the process lives; `OK` for `Accept: text/plain`")
            .gives::<HealthView>(200, "It lives")
            .gives_text(200, "text/plain", "It lives"),
        get("/ready", "Whether the store can be reached").gives::<ReadyView>(200, "It can").refuses(503, "It cannot"),
        get("/metrics", "The whole store in Prometheus' text format").gives_text(200, "text/plain", "Metrics"),
        get("/errors/{code}", "The page of an error code")
            .gives_text(200, "text/markdown", "The page")
            .refuses(404, "There is no such code"),
    ]
}

const ACTED: &str = "What became of each";

fn of_jobs() -> Vec<Op> {
    vec![
        get("/api/v1/jobs", "List jobs, in the order of their states")
            .query::<PageQuery>()
            .lists::<JobView>(200, "A page"),
        post("/api/v1/jobs", "Add a job").takes::<JobWanted>().gives::<JobView>(201, "The job as it is kept"),
        post("/api/v1/jobs/batch", "Add many jobs at once")
            .takes::<jobs::Batch>()
            .lists::<AddedView>(201, "What became of each, in order"),
        post("/api/v1/jobs/cancel", "Cancel jobs").takes::<jobs::Which>().gives::<jobs::ActedView>(200, ACTED),
        post("/api/v1/jobs/retry", "Give dead and cancelled jobs a new life")
            .takes::<jobs::Which>()
            .gives::<jobs::ActedView>(200, ACTED),
        post("/api/v1/jobs/delete", "Delete jobs that do not run")
            .takes::<jobs::Which>()
            .gives::<jobs::ActedView>(200, ACTED),
        get("/api/v1/jobs/{id}", "Show a job").gives::<JobView>(200, "The job"),
        patch("/api/v1/jobs/{id}", "Change a job that waits")
            .takes::<jobs::JobChange>()
            .gives::<JobView>(200, "The job"),
        delete("/api/v1/jobs/{id}", "Delete a job that does not run"),
        get("/api/v1/jobs/{id}/logs", "Show what a job has printed")
            .query::<jobs::LogQuery>()
            .gives::<jobs::LogsView>(200, "Pieces of its log"),
        get("/api/v1/jobs/{id}/progress", "Show how far a job has come").gives::<jobs::HowFar>(200, "How far"),
        get("/api/v1/jobs/{id}/wait", "Wait until a job has ended")
            .query::<WaitQuery>()
            .gives::<JobView>(200, "It has ended")
            .gives::<JobView>(202, "The time ran out"),
        post("/api/v1/jobs/{id}/cancel", "Cancel a job")
            .gives::<JobView>(200, "It is cancelled")
            .gives::<JobView>(202, "It runs, and its worker was asked to end it"),
        post("/api/v1/jobs/{id}/retry", "Give a dead or cancelled job a new life").gives::<JobView>(200, "The job"),
        get("/api/v1/dlq", "List dead jobs").query::<PageQuery>().lists::<JobView>(200, "A page"),
        post("/api/v1/dlq/retry", "Give dead jobs a new life")
            .takes::<jobs::Which>()
            .gives::<jobs::ActedView>(200, ACTED),
        post("/api/v1/dlq/purge", "Throw dead jobs away").takes::<jobs::Which>().gives::<jobs::ActedView>(200, ACTED),
    ]
}

fn of_queues() -> Vec<Op> {
    const CHANGED: &str = "Whether that changed anything";
    vec![
        get("/api/v1/queues", "List queues with their counters and settings").lists::<QueueView>(200, "All of them"),
        get("/api/v1/queues/{name}", "Show a queue").gives::<QueueView>(200, "The queue"),
        patch("/api/v1/queues/{name}", "Set a queue, also one that has no job yet")
            .takes::<queues::QueueChange>()
            .gives::<QueueView>(200, "The queue"),
        post("/api/v1/queues/{name}/pause", "Pause a queue").gives::<ChangedView>(200, CHANGED),
        post("/api/v1/queues/{name}/resume", "Resume a queue").gives::<ChangedView>(200, CHANGED),
        post("/api/v1/queues/{name}/purge", "Throw away what waits in a queue")
            .takes::<jobs::Which>()
            .gives::<jobs::ActedView>(200, ACTED),
    ]
}

fn of_runs() -> Vec<Op> {
    const TOLD: &str = "It was told, and has taken it in; a worker does its steps";
    vec![
        get("/api/v1/runs", "List runs, live ones first, the latest of each first")
            .query::<runs::RunsQuery>()
            .lists::<RunView>(200, "A page"),
        get("/api/v1/runs/{id}", "Show a run").gives::<RunView>(200, "The run"),
        get("/api/v1/runs/{id}/history", "Show all that happened to a run").lists::<EventView>(200, "In order"),
        get("/api/v1/runs/{id}/wait", "Wait until a run has ended")
            .query::<WaitQuery>()
            .gives::<RunView>(200, "It has ended")
            .gives::<RunView>(202, "The time ran out"),
        post("/api/v1/runs/{id}/pause", "Pause a run").gives::<RunView>(202, TOLD),
        post("/api/v1/runs/{id}/resume", "Resume a run").gives::<RunView>(202, TOLD),
        post("/api/v1/runs/{id}/cancel", "Cancel a run").may_take::<runs::CancelWanted>().gives::<RunView>(202, TOLD),
        post("/api/v1/runs/{id}/retry", "Try a failed run again").gives::<RunView>(202, TOLD),
        post("/api/v1/runs/{id}/signal", "Send a run a signal")
            .takes::<runs::SignalWanted>()
            .gives::<RunView>(202, TOLD),
        post("/api/v1/runs/{id}/approve", "Approve a step that waits for it")
            .may_take::<runs::AnswerWanted>()
            .gives::<RunView>(202, TOLD),
        post("/api/v1/runs/{id}/reject", "Reject a step that waits for approval")
            .may_take::<runs::AnswerWanted>()
            .gives::<RunView>(202, TOLD),
        post("/api/v1/workflows/{name}/start", "Start a run of a workflow")
            .takes::<definitions::StartWanted>()
            .gives::<RunView>(201, "The run as it began"),
        post("/api/v1/apply", "Keep the definitions of manifests")
            .query::<definitions::ApplyQuery>()
            .takes_text("application/yaml", true)
            .lists::<definitions::AppliedView>(200, "What that changed"),
        get("/api/v1/definitions/{kind}", "List the definitions of a kind")
            .lists::<definitions::DefinitionView>(200, "All"),
        get("/api/v1/definitions/{kind}/{name}", "Show a definition").gives::<definitions::DefinitionView>(200, "It"),
        delete("/api/v1/definitions/{kind}/{name}", "Take a definition back"),
    ]
}

fn of_the_rest() -> Vec<Op> {
    const CHANGED: &str = "Whether that changed anything";
    vec![
        get("/api/v1/schedules", "List schedules").lists::<ScheduleView>(200, "All of them"),
        get("/api/v1/schedules/{name}", "Show a schedule").gives::<ScheduleView>(200, "The schedule"),
        get("/api/v1/schedules/{name}/next", "Tell when a schedule is due")
            .query::<schedules::NextQuery>()
            .gives::<schedules::TicksView>(200, "Its next ticks"),
        post("/api/v1/schedules/{name}/trigger", "Start what a schedule starts, now")
            .gives::<Triggered>(201, "What began"),
        post("/api/v1/schedules/{name}/pause", "Pause a schedule").gives::<ChangedView>(200, CHANGED),
        post("/api/v1/schedules/{name}/resume", "Resume a schedule").gives::<ChangedView>(200, CHANGED),
        get("/api/v1/workers", "List workers").query::<PageQuery>().lists::<WorkerView>(200, "A page"),
        post("/api/v1/workers/{id}/drain", "Tell a worker to take no more work and to end")
            .gives::<ChangedView>(200, CHANGED),
        get("/api/v1/events", "Read the event log, oldest first")
            .query::<PageQuery>()
            .lists::<EventView>(200, "A page"),
        get("/api/v1/stats", "Everything in numbers").gives::<looks::StatsView>(200, "The numbers"),
        get("/api/v1/tokens", "List tokens, without their secrets").lists::<TokenView>(200, "All of them"),
        post("/api/v1/tokens", "Make a token")
            .takes::<tokens::TokenWanted>()
            .gives::<tokens::NewTokenView>(201, "With its secret, which is not shown again"),
        delete("/api/v1/tokens/{name}", "Revoke a token"),
    ]
}

fn of_webhooks() -> Vec<Op> {
    let applied = |path| {
        post(path, "Keep a webhook: its manifest as JSON or YAML")
            .takes_text("application/yaml", true)
            .gives::<WebhookView>(200, "It was there and has changed")
            .gives::<WebhookView>(201, "It is new")
    };
    vec![
        get("/api/v1/webhooks", "List webhooks").lists::<WebhookView>(200, "All of them"),
        applied("/api/v1/webhooks"),
        get("/api/v1/webhooks/{name}", "Show a webhook").gives::<WebhookView>(200, "The webhook"),
        delete("/api/v1/webhooks/{name}", "Remove a webhook"),
        post("/api/v1/webhooks/{name}/enable", "Switch a webhook on").gives::<WebhookView>(200, "The webhook"),
        post("/api/v1/webhooks/{name}/disable", "Switch a webhook off: it answers 503")
            .gives::<WebhookView>(200, "The webhook"),
    ]
}

/// Workers in any language: `docs/workers-http.md` tells how they go together.
fn of_workers() -> Vec<Op> {
    vec![
        post("/api/v1/lease", "Take jobs to do, and prolong what is held")
            .takes::<pull::LeaseBody>()
            .gives::<pull::LeaseView>(200, "The jobs, each with its epoch"),
        post("/api/v1/heartbeat", "Prolong all leases of a worker")
            .takes::<pull::HeartbeatBody>()
            .gives::<pull::AliveView>(200, "What was lost, and what somebody wants to end"),
        post("/api/v1/progress", "Tell how far a job has come, and what it prints")
            .takes::<pull::ProgressBody>()
            .gives::<pull::LeaseId>(200, "The lease still holds"),
        post("/api/v1/settle", "End a lease: the job has completed, failed, or goes back")
            .takes::<pull::SettleBody>()
            .gives::<JobView>(200, "The job as it is now"),
        post("/api/v1/farewell", "Strike a worker off; what it holds goes to others at once")
            .takes::<pull::FarewellBody>()
            .gives::<pull::FarewellView>(200, "It is struck off"),
    ]
}

/// `docs/locks.md` tells what they promise.
fn of_locks() -> Vec<Op> {
    vec![
        get("/api/v1/locks", "List the locks and semaphores that are held, by name")
            .query::<PageQuery>()
            .lists::<LockView>(200, "A page"),
        get("/api/v1/locks/{name}", "Show who holds a lock").gives::<LockView>(200, "The lock"),
        post("/api/v1/locks/{name}/acquire", "Take a lock, or a slot of a semaphore")
            .may_take::<locks::LockWanted>()
            .gives::<Granted>(200, "It is held until then"),
        post("/api/v1/locks/{name}/extend", "Hold a slot for longer")
            .takes::<locks::ExtendWanted>()
            .gives::<Granted>(200, "It is held until then"),
        post("/api/v1/locks/{name}/release", "Give a slot back")
            .takes::<locks::ReleaseWanted>()
            .gives::<ChangedView>(200, "Whether it was still held"),
        post("/api/v1/locks/{name}/break", "Take a lock from those who hold it")
            .may_take::<locks::BreakWanted>()
            .lists::<HolderView>(200, "Who has lost it"),
    ]
}

fn of_replaced_queues() -> Vec<Op> {
    let listed = |path| {
        get(path, "List jobs, the newest first").query::<queue::JobsQuery>().gives::<queue::JobsView>(200, "Jobs")
    };
    let added = |path| post(path, "Add a job").takes::<queue::EnqueueWanted>().gives::<JobView>(201, "The job");
    vec![
        listed("/api/jobs"),
        added("/api/jobs"),
        get("/api/jobs/{id}", "Show a job").gives::<JobView>(200, "The job"),
        delete("/api/jobs/{id}", "Delete a job that does not run"),
        post("/api/jobs/{id}/retry", "Give a dead or cancelled job a new life").gives::<JobView>(200, "The job"),
        post("/api/jobs/{id}/cancel", "Cancel a job")
            .gives::<JobView>(200, "It is cancelled")
            .gives::<JobView>(202, "It runs, and its worker was asked to end it"),
        get("/api/queue/stats", "The counters of every queue").gives::<queue::QueueStatsView>(200, "Counters"),
        listed("/api/queue/jobs"),
        added("/api/queue/enqueue"),
        get("/api/dlq", "List dead jobs, the newest first")
            .query::<queue::DeadQuery>()
            .gives::<queue::JobsView>(200, "Jobs"),
        op(Method::DELETE, "/api/dlq", "Throw all dead jobs away").gives::<jobs::ActedView>(200, ACTED),
        post("/api/dlq/retry-all", "Give all dead jobs a new life").gives::<jobs::ActedView>(200, ACTED),
        post("/api/dlq/{id}/retry", "Give a dead job a new life").gives::<JobView>(200, "The job"),
        get("/api/events", "The latest events").query::<queue::EventsQuery>().gives::<queue::EventsView>(200, "Events"),
    ]
}

fn of_replaced_workflows() -> Vec<Op> {
    const TOLD: &str = "It was told, and has taken it in; a worker does its steps";
    let steered = |path, summary| post(path, summary).gives::<flows::AcceptedView>(202, TOLD);
    vec![
        get("/api/workflows", "List runs")
            .query::<workflows::WorkflowsQuery>()
            .gives::<workflows::WorkflowsView>(200, "Runs"),
        post("/api/workflows", "Start a run").takes::<workflows::WorkflowWanted>().gives::<RunView>(201, "The run"),
        get("/api/workflows/{id}", "Show a run").gives::<RunView>(200, "The run"),
        post("/api/workflows/{id}/pause", "Pause a run").gives::<RunView>(202, TOLD),
        post("/api/workflows/{id}/resume", "Resume a run").gives::<RunView>(202, TOLD),
        post("/api/workflows/{id}/cancel", "Cancel a run").may_take::<runs::CancelWanted>().gives::<RunView>(202, TOLD),
        post("/api/workflows/{id}/signal", "Send a run a signal")
            .takes::<runs::SignalWanted>()
            .gives::<RunView>(202, TOLD),
        post("/flow/{name}", "Start a flow; the body as it comes is its input")
            .takes_text("application/octet-stream", false)
            .gives::<flows::AcceptedView>(202, "It was accepted; `X-Reqid` is the id of the run"),
        get("/flow/{name}/state/{id}", "Show how far a request has come").gives::<flows::StateView>(200, "Its state"),
        steered("/flow/{name}/pause/{id}", "Pause a request"),
        steered("/flow/{name}/resume/{id}", "Resume a request"),
        steered("/flow/{name}/stop/{id}", "Stop a request"),
        get("/tasks", "List tasks, the newest first")
            .query::<tasks::TasksQuery>()
            .lists_bare::<tasks::TaskView>(200, "Tasks"),
        post("/tasks", "Add a task").takes::<tasks::TaskWanted>().gives::<tasks::TaskView>(201, "The task"),
        get("/tasks/{id}", "Show a task").gives::<tasks::TaskView>(200, "The task"),
        post("/orders", "Place an order, and wait for its end")
            .takes::<sagas::OrderWanted>()
            .gives::<sagas::OrderView>(201, "It was placed")
            .gives::<sagas::OrderView>(202, "It is still under way")
            .gives::<sagas::OrderFailed>(500, "It was refused, and what was done for it is undone"),
        get("/sagas/{id}", "Show a saga").gives::<sagas::SagaView>(200, "The saga"),
    ]
}
