//! The verbs behind the commands, against a store that loses answers, and on what runs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use goflow::api::verbs::Left;
use goflow::api::{Client, Filter, Verb};
use goflow::domain::{Clock, EventKind, Job, JobId, JobState, Json, Name, Place, WorkerId, limits};
use goflow::store::fault::{FaultStore, RandomFaults};
use goflow::store::{Claim, Exchange, Heartbeat, MemoryStore, NewJob, Start, Store, WorkerInfo};
use goflow::sys::clock::SystemClock;
use goflow::sys::entropy::SystemEntropy;

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn client(store: Arc<dyn Store>) -> Client {
    Client::new(store, Arc::new(SystemClock), Arc::new(SystemEntropy::default()))
}

async fn enqueue(client: &Client, n: usize, start: Start) -> Vec<JobId> {
    let job = |_| Job::new(client.job_id(), name("noop"), name("default"), Json::null());
    let jobs: Vec<NewJob> = (0..n).map(job).map(|job| NewJob { start, ..NewJob::now(job) }).collect();
    let ids = jobs.iter().map(|new| new.job.id).collect();
    client.producer(Default::default()).send(jobs).await.expect("sent");
    ids
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_lost_change_nothing_twice_and_are_not_taken_for_others_moves() {
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
    let ids = enqueue(&client(memory.clone()), 500, Start::After(Duration::from_secs(3_600))).await;
    let faults = Arc::new(RandomFaults::new(0.2, 0.3, Arc::new(SystemEntropy::default())));
    let client = client(Arc::new(FaultStore::new(memory.clone(), faults.clone())));
    let (filter, now) = (Filter::parse("state:scheduled").expect("a filter"), SystemClock.now());
    for (verb, kind, filter) in [
        (Verb::Cancel, EventKind::JobCancelled, filter),
        (Verb::Retry, EventKind::JobRequeued, Filter::parse("state:cancelled").expect("a filter")),
        (Verb::Delete, EventKind::JobDeleted, Filter::default()),
    ] {
        let survey = client.survey(verb, &filter, now, |_| {}).await.expect("surveyed");
        assert_eq!((survey.done.len(), survey.left.len()), (500, 0), "{verb:?}");
        let mut done = BTreeSet::new();
        for part in ids.chunks(17) {
            let acted = client.act(verb, part, Some((&filter, now))).await.expect("acted");
            assert_eq!((acted.left, acted.asked), (Vec::new(), Vec::new()), "{verb:?}");
            done.extend(acted.done);
        }
        assert_eq!(done, ids.iter().copied().collect(), "{verb:?}");
        let (events, _) = memory.events(None, 100_000).await.expect("events");
        assert_eq!(events.iter().filter(|event| event.kind == kind).count(), 500, "{verb:?}");
    }
    assert!(faults.fired() > 20, "only {} faults fired", faults.fired());
    assert_eq!(memory.stats().await.expect("stats")[0].pending, 0);
}

#[tokio::test]
async fn what_runs_is_asked_to_end_and_what_moved_on_is_left() {
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
    let client = client(memory.clone());
    let ids = enqueue(&client, 3, Start::Now).await;
    let worker = WorkerId::from_parts(SystemClock.now(), Default::default(), 7);
    let info = WorkerInfo {
        id: worker,
        host: "h".into(),
        pid: 1,
        version: "0".into(),
        concurrency: 1,
        queues: Vec::new(),
        types: vec![name("noop")],
        started_at: SystemClock.now(),
    };
    memory.heartbeat(&Heartbeat { info, lease: limits::LEASE }).await.expect("registered");
    let claim = Claim { worker, queues: vec![name("default")], want: 1, alone: false };
    let claimed =
        memory.exchange(&Exchange { commits: Vec::new(), claim: Some(claim) }).await.expect("claimed").claimed;
    assert_eq!(claimed[0].job.id, ids[0]);

    let acted = client.act(Verb::Cancel, &ids[..2], None).await.expect("acted");
    assert_eq!((acted.asked, acted.done, acted.left), (vec![ids[0]], vec![ids[1]], Vec::new()));
    let asked = memory.asked(worker, 10).await.expect("asked");
    assert_eq!(asked.iter().map(|stored| stored.job.id).collect::<Vec<_>>(), [ids[0]]);
    let again = client.act(Verb::Cancel, &ids[..1], None).await.expect("acted");
    assert_eq!(again.left, [(ids[0], Left::Asked)]);
    let deleted = client.act(Verb::Delete, &ids[..1], None).await.expect("acted");
    assert!(matches!(deleted.left.as_slice(), [(_, Left::State(_))]), "{deleted:?}");

    // A filter is held against the job as it is when it is moved.
    let (filter, now) = (Filter::parse("state:pending").expect("a filter"), SystemClock.now());
    let acted = client.act(Verb::Delete, &ids, Some((&filter, now))).await.expect("acted");
    assert_eq!(acted.done, [ids[2]]);
    let why = [(ids[0], Left::State(JobState::Running)), (ids[1], Left::Outside(JobState::Cancelled))];
    assert_eq!(acted.left, why);
    let gone = client.act(Verb::Retry, &ids[2..], None).await.expect("acted");
    assert_eq!(gone.left, [(ids[2], Left::Gone)]);

    let changed = memory.get(&ids[1..2]).await.expect("got").remove(0).expect("kept");
    assert_eq!(changed.place, Place::Cancelled);
    let edit = goflow::domain::edit::Edit { priority: 9, ..changed.job.editable() };
    assert_eq!(
        client.edit(&changed, edit.clone(), false).await.expect("asked").err(),
        Some(Left::State(changed.place.state()))
    );
    let lives = client.edit(&changed, edit.clone(), true).await.expect("asked").expect("retried");
    assert_eq!((lives.place, lives.job.priority), (Place::Pending, 9));
    let other = goflow::domain::edit::Edit { priority: 3, ..edit };
    let late = client.edit(&changed, other, true).await.expect("asked");
    assert_eq!(late.err(), Some(Left::Changed), "decided on an old record");
}
