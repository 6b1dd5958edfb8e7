//! Jobs that are added in somebody else's transaction, by the library and by the SQL function: rolled
//! back they never were. And the contract behind a transaction pooler.

use std::sync::Arc;
use std::time::Duration;

use goflow::domain::{JobId, Place};
use goflow::store::*;
use tokio_postgres::NoTls;

use super::make::*;
use crate::servers::postgres::{Cluster, Pooler};

async fn sql(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("connects");
    tokio::spawn(async move {
        // It ends with the client, or with the server.
        let _ = connection.await;
    });
    client
}

async fn opened(cluster: &Cluster) -> Arc<dyn Store> {
    Arc::new(PostgresStore::open(&cluster.url()).await.expect("the store opens"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_there_exactly_if_its_transaction_commits() {
    let cluster = Cluster::start();
    let store = opened(&cluster).await;
    let client = goflow::Client::over(store.clone());
    let mut database = sql(&cluster.url()).await;
    database.batch_execute("CREATE TABLE orders (id int)").await.expect("a table");

    let before = database.transaction().await.expect("begins");
    before.execute("INSERT INTO orders VALUES (1)", &[]).await.expect("inserts");
    let lost = client.enqueue_in(&before, client.job("ship").payload(&1).queue("new")).await.expect("is added");
    before.rollback().await.expect("rolls back");
    assert_eq!(store.get(&[lost]).await.expect("get"), [None]);
    assert_eq!(store.stats().await.expect("stats"), [], "not even its queue");

    let mut hints = store.hints();
    hints.mark_unchanged();
    let transaction = database.transaction().await.expect("begins");
    let job = client.job("ship").payload(&2).queue("mail").priority(7).unique("ship:2").max_retries(1);
    let id = client.enqueue_in(&transaction, job).await.expect("is added");
    assert_eq!(store.get(&[id]).await.expect("get"), [None], "nobody sees it yet");
    transaction.commit().await.expect("commits");
    tokio::time::timeout(Duration::from_secs(20), hints.changed()).await.expect("a hint").expect("the store lives");
    let found = stored(&*store, id).await;
    assert_eq!((found.place, found.job.queue.as_str(), found.job.priority), (Place::Pending, "mail", 7));
    assert_eq!((found.job.payload.as_str(), found.job.retry.max), ("2", 1));

    let transaction = database.transaction().await.expect("begins");
    let again = client.enqueue_in(&transaction, client.job("ship").unique("ship:2")).await;
    assert!(again.is_err_and(|error| error.to_string().contains(&id.to_string())), "the key is held");
    transaction.rollback().await.expect("rolls back");
    assert_eq!(store.verify().await.expect("verify"), Vec::<String>::new());
}

/// Adds a job by the SQL function.
async fn call(database: &tokio_postgres::Client, arguments: &str) -> Result<JobId, String> {
    let rows = database.query(&format!("SELECT goflow.enqueue({arguments})"), &[]).await;
    let rows = rows.map_err(|error| error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string))?;
    Ok(JobId::from_bytes(*rows[0].get::<_, uuid::Uuid>(0).as_bytes()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_language_adds_jobs_by_sql() {
    let cluster = Cluster::start();
    let store = opened(&cluster).await;
    let database = sql(&cluster.url()).await;
    database.batch_execute("BEGIN").await.expect("begins");
    let lost = call(&database, "'mail', '{}', '{\"queue\": \"never\"}'").await.expect("is added");
    database.batch_execute("ROLLBACK").await.expect("rolls back");
    assert_eq!(store.get(&[lost]).await.expect("get"), [None]);

    let plain = call(&database, "'mail'").await.expect("is added");
    let found = stored(&*store, plain).await;
    assert_eq!(found.job, goflow::domain::Job::new(plain, name("mail"), name("default"), goflow::domain::Json::null()));
    assert_eq!(plain.created_at().since(found.at), Duration::ZERO);

    let options = r#"{"queue": "post", "priority": -5, "delay": "1h30m", "max_retries": 9, "timeout": "250ms",
        "deadline": "2d", "unique": "ü:1", "unique_for": "1h", "key": "k", "key_limit": 2, "metadata": {"a": "b", "ü": "é"}}"#;
    let full = call(&database, &format!("'mail', '{{\"to\": \"ä\"}}', '{options}'")).await.expect("is added");
    let found = stored(&*store, full).await;
    assert_eq!((found.place, found.job.queue.as_str(), found.job.priority), (Place::Scheduled, "post", -5));
    let delay = found.at.since(full.created_at());
    assert!(delay.abs_diff(Duration::from_secs(5_400)) < Duration::from_secs(60), "{delay:?}");
    let job = &found.job;
    assert_eq!(
        (job.retry.max, job.retry_is_own, job.timeout_ms, job.deadline_ms),
        (9, true, Some(250), Some(172_800_000))
    );
    assert_eq!((job.unique_key.as_deref(), job.concurrency.as_ref().map(|own| own.limit)), (Some("ü:1"), Some(2)));
    let metadata: Vec<_> = job.metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(metadata, [("a", "b"), ("ü", "é")]);
    let payload: serde_json::Value = serde_json::from_str(job.payload.as_str()).expect("JSON");
    assert_eq!(payload, serde_json::json!({"to": "ä"}));

    let child = call(&database, &format!("'mail', '1', '{{\"after\": \"{plain}\"}}'")).await.expect("is added");
    assert_eq!(place(&*store, child).await, Place::Held);
    let at = call(&database, "'mail', '1', '{\"at\": \"2100-01-01T00:00:00Z\"}'").await.expect("is added");
    assert_eq!(stored(&*store, at).await.at.0, 4_102_444_800_000);

    for (arguments, words) in [
        ("'no name'", "the type 'no name' is not a name"),
        ("'goflow:noop'", "kept for goflow itself"),
        ("'mail', '1', '{\"queue\": \"a..b\"}'", "not a name"),
        ("'mail', '1', '{\"prio\": 1}'", "'prio' is no option"),
        ("'mail', '1', '{\"priority\": 101}'", "from -100 to 100"),
        ("'mail', '1', '{\"priority\": 1.5}'", "whole number"),
        ("'mail', '1', '{\"delay\": \"-5s\"}'", "not a duration"),
        ("'mail', '1', '{\"delay\": \"5\"}'", "not a duration"),
        ("'mail', '1', '{\"at\": \"2001-01-01T00:00:00Z\"}'", "in the past"),
        ("'mail', '1', '{\"unique_for\": \"1h\"}'", "unique_for with unique"),
        ("'mail', '1', '{\"unique\": \"ü:1\"}'", "held by job"),
        ("'mail', '1', '{\"after\": \"0192f0c1-2b3c-7000-8a9b-0123456789ab\"}'", "is not kept"),
        ("'mail', '1', '[]'", "options is an object"),
        ("'mail', to_jsonb(repeat('x', 1048576))", "1048576 are kept"),
    ] {
        let told = call(&database, arguments).await.expect_err("is refused");
        assert!(told.contains(words), "{arguments}: {told}");
    }
    let total: u64 = store.stats().await.expect("stats").iter().map(|queue| queue.pending + queue.scheduled).sum();
    assert_eq!(total, 4, "nothing of what was refused is kept");
    let events = super::looks::all_events(&*store).await;
    assert!(events.iter().any(|event| event.job == Some(plain)) && events.iter().any(|event| event.job == Some(full)));
    let worker = hired(&*store).await;
    beat(&*store, worker, Duration::from_secs(600)).await;
    assert_eq!(store.verify().await.expect("verify"), Vec::<String>::new());
}

/// The laws, where each statement may meet another server process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_pooler_may_stand_between() {
    macro_rules! behind {
        ($($module:ident::$law:ident)*) => {
            $(
                let subject = super::backends::pooled().await;
                super::$module::$law(&subject).await;
                let differences = subject.store.verify().await.expect("verify answers");
                assert!(differences.is_empty(), "{}: {differences:#?}", stringify!($law));
            )*
        };
    }
    if !Pooler::is_installed() {
        println!("pgbouncer is not installed");
        return;
    }
    behind! {
        laws::claims_follow_priority_then_turn
        laws::a_batch_sent_again_is_one_batch
        laws::a_stale_epoch_changes_nothing
        laws::racing_claimers_never_share_a_job
        laws::racing_producers_share_one_unique_key
        run_laws::a_step_and_its_advance_are_one_commit
        talk_laws::notes_need_the_lease
        schedule_laws::racing_schedulers_tick_once
        shared_laws::racing_holders_never_share_a_slot
        differential::agrees_with_the_reference_store
    }
}
