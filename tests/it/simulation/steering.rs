//! What somebody does to the runs of a story. Once a run has taken in that it is cancelled or paused, no lease
//! that is given after that starts a step of it, whoever dies and whatever fails; undos go on.

use goflow::api::Client;
use goflow::domain::job::Outcome;
use goflow::domain::{Epoch, Job, JobId, Json, Ms, ProducerId, RunId, Shard, WorkerId};
use goflow::store::{Claim, Commit, Enqueue, Exchange, Expect, Heartbeat, Move, NewJob, Store, WorkerInfo};

use super::world::{Witness, name};

/// For how long steps of a run do not start, in leases.
struct Still {
    run: RunId,
    /// The last lease that was given before.
    from: Epoch,
    /// The last lease that was given before it was told to go on; none: for ever.
    until: Option<Epoch>,
}

#[derive(Default)]
pub struct Steering {
    still: Vec<Still>,
    probes: u64,
}

impl Steering {
    pub async fn act(&mut self, verb: u64, run: RunId, client: &Client, real: &dyn Store, now: Ms) {
        match verb {
            0 => drop(client.cancel_run(run, true).await),
            1 => drop(client.pause_run(run).await),
            2 => return self.resume(run, client, real, now).await,
            _ => return,
        }
        let work = real.run_work(run).await.expect("run").expect("it is kept");
        let header = work.record.header().expect("a header");
        let stands = header.cancel.is_some() || header.is_held();
        // What still waits in its inbox may be that it is to go on.
        let live = !header.state.is_terminal() && stands && work.inbox.is_empty();
        if live && !self.still.iter().any(|one| one.run == run && one.until.is_none()) {
            let from = self.last_lease(real, now).await;
            self.still.push(Still { run, from, until: None });
        }
    }

    async fn resume(&mut self, run: RunId, client: &Client, real: &dyn Store, now: Ms) {
        let header = real.run(run).await.expect("run").expect("it is kept").header().expect("a header");
        if header.is_held() {
            let last = self.last_lease(real, now).await;
            self.still.iter_mut().filter(|one| one.run == run).for_each(|one| one.until = one.until.or(Some(last)));
        }
        // It may have been done all the same, or be done later, if this fails.
        drop(client.resume_run(run).await);
    }

    /// Whatever runs are paused, or are about to be by what waits in their inboxes, goes on.
    pub async fn resume_all(&mut self, runs: &[RunId], client: &Client, real: &dyn Store, now: Ms) {
        for run in runs {
            client.knock(*run).await.expect("it is kept");
            self.resume(*run, client, real, now).await;
        }
    }

    /// The number of the last lease, by taking one: nothing else happens meanwhile, for the store below the
    /// faults answers at once.
    async fn last_lease(&mut self, real: &dyn Store, now: Ms) -> Epoch {
        self.probes += 1;
        let id = JobId::from_parts(now, Shard(0), u64::MAX - self.probes);
        let job = Job::new(id, name("probe"), name("probe"), Json::null());
        let producer = ProducerId::from_parts(Ms(2), Shard(0), self.probes);
        let batch = Enqueue { producer, sequence: 1, jobs: vec![NewJob::now(job)], runs: Vec::new() };
        real.enqueue(&batch).await.expect("enqueue");
        let worker = WorkerId::from_parts(Ms(2), Shard(0), self.probes);
        let (host, version, queues) = (String::new(), String::new(), vec![name("probe")]);
        let info = WorkerInfo {
            id: worker,
            host,
            pid: 1,
            version,
            concurrency: 1,
            queues,
            types: Vec::new(),
            started_at: now,
        };
        real.heartbeat(&Heartbeat { info, lease: std::time::Duration::from_secs(60) }).await.expect("heartbeat");
        let claim = Claim { worker, queues: vec![name("probe")], want: 1, alone: false };
        let claimed =
            real.exchange(&Exchange { commits: Vec::new(), claim: Some(claim) }).await.expect("exchange").claimed;
        let [one] = claimed.as_slice() else { panic!("the probe was not given: {claimed:?}") };
        let settled = one.job.clone().settle(Outcome::Completed { result: None }, now, 0.0);
        let step = Move::new(Expect::Lease(one.epoch), settled);
        let commits = vec![Commit { moves: vec![step], run: None }];
        real.exchange(&Exchange { commits, claim: None }).await.expect("exchange");
        real.farewell(worker).await.expect("farewell");
        one.epoch
    }

    /// How many runs were cancelled, or were paused, for good or for a time.
    pub fn check(&self, witness: &Witness) -> (usize, usize) {
        for Still { run, from, until } in &self.still {
            for one in witness.of_run(*run) {
                let after = one.epoch > *from && until.is_none_or(|until| one.epoch <= until);
                let undo = one.link.as_ref().is_some_and(|link| link.undo);
                assert!(!after || undo, "run {run} was to stand still from lease {from} to {until:?}: {one:?}");
            }
        }
        let paused = self.still.iter().filter(|one| one.until.is_some()).count();
        (self.still.len() - paused, paused)
    }
}
