//! The laws of claims that stand by, for stores that keep them.

use std::sync::Arc;
use std::time::Duration;

use goflow::domain::{Ms, WorkerId};
use goflow::store::*;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::backends::Subject;
use super::make::*;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(50);
/// Until a call has reached its store, and until a store has noticed that it was given up.
const SENT: Duration = Duration::from_millis(300);

/// A look that finds nothing, at a time after everything before it.
async fn looked(subject: &Subject, worker: WorkerId) -> Ms {
    subject.pass(Duration::from_millis(2)).await;
    let answer = exchange(&*subject.store, vec![], Some(wish(worker, &["default"], 5))).await;
    assert!(answer.claimed.is_empty(), "nothing waits");
    answer.now
}

/// The queue is known before anything stands by for it.
async fn opened(subject: &Subject) -> WorkerId {
    let worker = hired(&*subject.store).await;
    put(&*subject.store, job()).await;
    let first = claim_one(&*subject.store, worker).await;
    assert_eq!(make(&*subject.store, settle(&first, done())).await, Moved::Applied);
    worker
}

fn stand_by(subject: &Subject, worker: WorkerId, since: Ms, at_most: Duration) -> JoinHandle<Option<Exchanged>> {
    let store = Arc::clone(&subject.store);
    tokio::spawn(async move {
        let answer = store.stand_by(&wish(worker, &["default"], 5), since, at_most).await;
        answer.expect("the store answers")
    })
}

pub async fn who_stands_by_is_given_what_comes(subject: &Subject) {
    assert!(subject.store.stands_by());
    let worker = opened(subject).await;
    // Twice: the second time the server knows the claim, and the connection is there.
    for _ in 0..2 {
        let since = looked(subject, worker).await;
        let begun = Instant::now();
        let waits = stand_by(subject, worker, since, LONG);
        tokio::time::sleep(SENT).await;
        let id = put(&*subject.store, job()).await;
        let given = match waits.await.expect("it ends") {
            Some(answer) => answer.claimed,
            // It could not wait, and so it was given nothing.
            None => claim(&*subject.store, worker, 5).await,
        };
        assert_eq!(given.iter().map(|one| one.job.id).collect::<Vec<_>>(), [id]);
        assert_eq!(make(&*subject.store, settle(&given[0], done())).await, Moved::Applied);
        assert!(begun.elapsed() < LONG, "it did not wait for its time to pass");
    }
}

pub async fn who_stands_by_for_nothing_is_told_in_time(subject: &Subject) {
    let worker = opened(subject).await;
    for _ in 0..2 {
        let (since, begun) = (looked(subject, worker).await, Instant::now());
        let answer = stand_by(subject, worker, since, SENT).await.expect("it ends");
        if let Some(answer) = answer {
            assert!(begun.elapsed() >= SENT, "nothing was written");
            assert!(answer.claimed.is_empty());
        }
    }
}

pub async fn what_comes_between_a_look_and_standing_by_is_not_waited_for(subject: &Subject) {
    let worker = opened(subject).await;
    for _ in 0..2 {
        let since = looked(subject, worker).await;
        let begun = Instant::now();
        let id = put(&*subject.store, job()).await;
        let given = match stand_by(subject, worker, since, LONG).await.expect("it ends") {
            Some(answer) => answer.claimed,
            None => claim(&*subject.store, worker, 5).await,
        };
        assert_eq!(given.iter().map(|one| one.job.id).collect::<Vec<_>>(), [id]);
        assert_eq!(make(&*subject.store, settle(&given[0], done())).await, Moved::Applied);
        assert!(begun.elapsed() < LONG, "it was there already");
    }
}

pub async fn of_several_who_stand_by_one_is_given_a_job(subject: &Subject) {
    let workers = [opened(subject).await, hired(&*subject.store).await, hired(&*subject.store).await];
    for _ in 0..2 {
        let since = looked(subject, workers[0]).await;
        let all = workers.map(|worker| stand_by(subject, worker, since, SENT * 4));
        tokio::time::sleep(SENT).await;
        let id = put(&*subject.store, job()).await;
        let mut given = Vec::new();
        for one in all {
            given.extend(one.await.expect("it ends").into_iter().flat_map(|answer| answer.claimed));
        }
        given.extend(claim(&*subject.store, workers[0], 5).await);
        assert_eq!(given.iter().map(|one| one.job.id).collect::<Vec<_>>(), [id]);
        assert_eq!(make(&*subject.store, settle(&given[0], done())).await, Moved::Applied);
    }
}

pub async fn who_is_no_longer_registered_is_given_nothing(subject: &Subject) {
    let (worker, other) = (opened(subject).await, hired(&*subject.store).await);
    let since = looked(subject, worker).await;
    subject.store.farewell(worker).await.expect("farewell");
    let id = put(&*subject.store, job()).await;
    let answer = stand_by(subject, worker, since, LONG).await.expect("it ends");
    assert!(answer.is_none_or(|answer| answer.claimed.is_empty()));
    assert_eq!(claim_one(&*subject.store, other).await.job.id, id);
}

pub async fn who_gives_up_standing_by_is_given_nothing(subject: &Subject) {
    let (worker, other) = (opened(subject).await, hired(&*subject.store).await);
    for _ in 0..2 {
        let since = looked(subject, worker).await;
        let waits = stand_by(subject, worker, since, LONG);
        tokio::time::sleep(SENT).await;
        waits.abort();
        tokio::time::sleep(SENT).await;
        let id = put(&*subject.store, job()).await;
        tokio::time::sleep(SENT).await;
        let given = claim_one(&*subject.store, other).await;
        assert_eq!(given.job.id, id);
        assert_eq!(make(&*subject.store, settle(&given, done())).await, Moved::Applied);
    }
}
