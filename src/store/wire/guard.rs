//! What somebody may send who may not do everything. Two things must not come in by a token for work: a
//! command of the sender's own, and a secret going out. So whoever is not trusted enqueues new jobs of
//! ordinary types only; a run that they start must be exactly what its definition makes of its input;
//! an advance that they have computed is left out of the commit, and its facts go to the run's inbox,
//! where a process that is trusted advances it; and they see definitions without the secrets that stand
//! in them, and shards without where they are. Who works is handed what the work needs, handlers and commands with their secrets; who only
//! looks or adds is shown those without, too. A run that somebody has begun of what they were shown is
//! begun again here, of the whole.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::answer::Refusal;
use super::calls::Right;
use super::{NEWS_WAIT, VERSION};
use crate::domain::{Epoch, Event, Job, JobId, Json, RunId};
use crate::store::advanced::{called, effects_with, gate};
use crate::store::contract::*;
use crate::workflow::{self, Definition as Workflow, Slot, is_reserved, shown};

/// Kinds of definitions that workers and those who look need.
const OPEN_KINDS: [&str; 4] = ["workflow", "handler", "schedule", "queue"];

type Guarded<T> = std::result::Result<T, Refusal>;

pub(super) struct Guard<'a> {
    store: &'a dyn Store,
    may: Right,
}

fn forbidden<T>(text: impl Into<String>) -> Guarded<T> {
    Err(Refusal::Forbidden(text.into()))
}

impl<'a> Guard<'a> {
    /// `may` is the most that the caller may do.
    pub fn new(store: &'a dyn Store, may: Right) -> Guard<'a> {
        Guard { store, may }
    }

    fn trusted(&self) -> bool {
        self.may >= Right::Admin
    }

    fn works(&self) -> bool {
        self.may >= Right::Operate
    }

    pub fn store(&self) -> &'a dyn Store {
        self.store
    }

    pub async fn enqueue(&self, mut batch: Enqueue) -> Guarded<EnqueueAnswer> {
        if !self.trusted() {
            for new in &batch.jobs {
                fresh(&new.job)?;
            }
            for run in &mut batch.runs {
                *run = self.begun_by_the_book(run).await?;
            }
        }
        Ok(self.store.enqueue(&batch).await?)
    }

    pub async fn exchange(&self, mut exchange: Exchange) -> Guarded<Exchanged> {
        if self.trusted() {
            return Ok(self.store.exchange(&exchange).await?);
        }
        self.no_new_commands(&mut exchange).await?;
        for run in exchange.commits.iter_mut().filter_map(|commit| commit.run.as_mut()) {
            run.advance = None;
        }
        let answer = self.store.exchange(&exchange).await?;
        // Not to be asked for what they would not get.
        Ok(Exchanged { dirty: false, ..answer })
    }

    pub async fn take_dirty(&self, limit: usize, hold: Duration) -> Guarded<Vec<RunWork>> {
        match self.trusted() {
            true => Ok(self.store.take_dirty(limit, hold).await?),
            false => Ok(Vec::new()),
        }
    }

    pub async fn run_work(&self, id: RunId) -> Guarded<Option<RunWork>> {
        match self.trusted() {
            true => Ok(self.store.run_work(id).await?),
            false => Ok(None),
        }
    }

    /// To see the shards is to look; where they are, and the verbs on them, are for who says what work is.
    pub async fn reshard(&self, verb: ShardVerb) -> Guarded<ShardAnswer> {
        let looks = matches!(verb, ShardVerb::List | ShardVerb::Left(_));
        if !self.trusted() && !looks {
            return forbidden("the scope `admin` is needed to change the shards");
        }
        Ok(match self.store.reshard(&verb).await? {
            ShardAnswer::List(list) if !self.trusted() => ShardAnswer::List(list.without_places()),
            answer => answer,
        })
    }

    pub async fn health(&self) -> Guarded<Health> {
        let health = self.store.health().await?;
        Ok(Health { server: format!("{}, behind goflow {VERSION}", health.server), ..health })
    }

    pub async fn news(&self, after: Cursor, limit: usize, wait: Duration) -> Guarded<(Vec<Event>, Cursor)> {
        Ok(self.store.news(&after, limit, wait.min(NEWS_WAIT)).await?)
    }

    pub async fn definitions(&self, kind: String) -> Guarded<Vec<Definition>> {
        self.may_see(&kind)?;
        let kept = self.store.definitions(&kind).await?;
        Ok(kept.into_iter().map(|one| self.shown(one)).collect())
    }

    pub async fn definition(&self, hash: String) -> Guarded<Option<Definition>> {
        let Some(found) = self.store.definition(&hash).await? else { return Ok(None) };
        self.may_see(&found.kind)?;
        Ok(Some(self.shown(found)))
    }

    /// A worker cannot do without the secrets of its handlers. What the steps of a workflow need comes
    /// with their jobs.
    fn shown(&self, kept: Definition) -> Definition {
        match self.trusted() || (self.works() && kept.kind == "handler") {
            true => kept,
            false => Definition { text: shown::definition(&kept.text).as_str().to_owned(), ..kept },
        }
    }

    pub async fn get(&self, ids: Vec<JobId>) -> Guarded<Vec<Option<Stored>>> {
        let found = self.store.get(&ids).await?;
        Ok(found.into_iter().map(|found| found.map(|stored| self.shown_job(stored))).collect())
    }

    pub async fn list(&self, query: ListQuery) -> Guarded<Page<Stored>> {
        let page = self.store.list(&query).await?;
        let items = page.items.into_iter().map(|stored| self.shown_job(stored)).collect();
        Ok(Page { items, next: page.next })
    }

    fn shown_job(&self, mut stored: Stored) -> Stored {
        if !self.works() {
            stored.job.payload = shown::payload(&stored.job);
            // Bytes that are a job to another goflow: that there are some is all that is said.
            stored.job.raw = stored.job.raw.map(|_| Vec::new());
        }
        stored
    }

    pub async fn run(&self, id: RunId) -> Guarded<Option<RunRecord>> {
        let found = self.store.run(id).await?;
        Ok(found.map(|record| self.shown_run(record)).transpose()?)
    }

    pub async fn runs(&self, query: RunQuery) -> Guarded<Page<RunRecord>> {
        let page = self.store.runs(&query).await?;
        let items = page.items.into_iter().map(|record| self.shown_run(record)).collect::<Result<_>>()?;
        Ok(Page { items, next: page.next })
    }

    fn shown_run(&self, record: RunRecord) -> Result<RunRecord> {
        if self.works() { Ok(record) } else { RunRecord::of(&shown::run(record.header()?)) }
    }

    pub async fn values(&self, run: RunId, keys: Vec<String>) -> Guarded<Vec<Option<Json>>> {
        let found = self.store.values(run, &keys).await?;
        if self.works() {
            return Ok(found);
        }
        let shown = keys.iter().zip(found).map(|(key, found)| found.map(|value| shown::value(key, value)));
        Ok(shown.collect())
    }

    fn may_see(&self, kind: &str) -> Guarded<()> {
        match self.trusted() || OPEN_KINDS.contains(&kind) {
            true => Ok(()),
            false => forbidden(format!("definitions of the kind `{kind}` are seen with the scope `admin` only")),
        }
    }

    /// A job of a reserved type holds a command: it may be moved, not made or changed. Raw bytes are read as
    /// the job that they hold, so they may not be brought along either.
    async fn no_new_commands(&self, exchange: &mut Exchange) -> Guarded<()> {
        let may_command = |job: &Job| is_reserved(&job.kind) || job.raw.is_some();
        let moves = exchange.commits.iter().flat_map(|commit| &commit.moves);
        let ids: BTreeSet<JobId> = moves.filter(|step| may_command(&step.job)).map(|step| step.job.id).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let ids: Vec<JobId> = ids.into_iter().collect();
        let kept = self.store.get(&ids).await?.into_iter().flatten();
        let kept: BTreeMap<JobId, Job> = kept.map(|stored| (stored.job.id, stored.job)).collect();
        let moves = exchange.commits.iter_mut().flat_map(|commit| &mut commit.moves);
        for step in moves.filter(|step| may_command(&step.job)) {
            let job = &step.job;
            match kept.get(&job.id) {
                Some(kept)
                    if (&job.kind, &job.payload, &job.link, &job.raw)
                        == (&kept.kind, &kept.payload, &kept.link, &kept.raw) => {}
                Some(_) => return forbidden(format!("the command of job {} may not be changed", job.id)),
                // Gone: the move must miss, also if a job of this id comes meanwhile. No lease has this epoch.
                None => step.expect = Expect::Lease(Epoch(0)),
            }
        }
        Ok(())
    }

    /// The run as its definition makes it of its input, which must be what was sent, but for secrets
    /// that the caller was not shown.
    async fn begun_by_the_book(&self, run: &NewRun) -> Guarded<NewRun> {
        let id = run.effects.record.id;
        let not_so = |why: &str| forbidden(format!("the run {id} does not begin as its workflow does: {why}"));
        let Ok(header) = run.effects.record.header() else { return not_so("its header cannot be read") };
        let input = match &header.input {
            Slot::Inline(input) => Some(input.clone()),
            Slot::Stored { key, .. } => {
                run.effects.values.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone())
            }
            Slot::Map(_) | Slot::List { .. } => None,
        };
        let (Some(input), Some(kept)) = (input, self.store.definition(&header.version).await?) else {
            return not_so("its input or its definition is missing");
        };
        let seen = self.shown(kept.clone());
        let hides = seen.text != kept.text;
        let Ok(whole) = Workflow::kept(&kept.text, &kept.hash) else {
            return not_so("its definition cannot be read");
        };
        let Some(begun) = begin(self.store, &whole, &header, input.clone()).await? else {
            return not_so("it is another one");
        };
        if begun == *run {
            return Ok(begun);
        }
        if let Some(seen) = hides.then(|| Workflow::kept(&seen.text, &seen.hash)).and_then(std::result::Result::ok)
            && begin(self.store, &seen, &header, input).await?.as_ref() == Some(run)
        {
            return Ok(begun);
        }
        not_so("it is another one")
    }
}

/// `None` if it cannot begin so at all.
async fn begin(
    store: &dyn Store,
    definition: &Workflow,
    header: &workflow::Run,
    input: Json,
) -> Result<Option<NewRun>> {
    let (now, pins, queue) = (header.created_at, header.pins.clone(), header.queue.clone());
    let Ok(mut advanced) = workflow::start_pinned(definition, header.id, input, now, pins, queue) else {
        return Ok(None);
    };
    advanced.run.trace.clone_from(&header.trace);
    let gate = gate(&advanced.run, definition, now)?;
    let called = called(store, &advanced).await?;
    Ok(Some(NewRun { effects: effects_with(advanced, &called, now)?, gate }))
}

/// A job that nobody has run yet, of an ordinary type, that does no step of a run.
fn fresh(job: &Job) -> Guarded<()> {
    if is_reserved(&job.kind) {
        return forbidden(format!("the job type `{}` is reserved", job.kind));
    }
    let plain = Job {
        priority: job.priority,
        retry: job.retry.clone(),
        retry_is_own: job.retry_is_own,
        timeout_ms: job.timeout_ms,
        unique_key: job.unique_key.clone(),
        metadata: job.metadata.clone(),
        after: job.after.clone(),
        concurrency: job.concurrency.clone(),
        deadline_ms: job.deadline_ms,
        ..Job::new(job.id, job.kind.clone(), job.queue.clone(), job.payload.clone())
    };
    match plain == *job {
        true => Ok(()),
        false => forbidden(format!("job {} is not new: it has a past, or a run", job.id)),
    }
}
