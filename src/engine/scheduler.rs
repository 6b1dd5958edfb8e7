//! The scheduler's loop: looks at every schedule each second, and when one is due carries out what it
//! owes, one thing a commit. Knows no rules: what is owed is decided in `domain::schedule`.
//!
//! There is no leader. A tick is a change of the schedule's record, made only if the record still is
//! what it was computed from, and what it starts rides on the same commit. So any number of schedulers
//! start one job a tick, whoever dies is not missed, and whose clock is wrong does not matter: the hour
//! comes with the records, from the store. Schedulers that lose a race have spent one round trip.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::domain::event::EventKind;
use crate::domain::schedule::{Note, Rule, Schedule, Step};
use crate::domain::{Entropy, Ms, Name};
use crate::store::scheduled::{self, event, is_live, ready};
use crate::store::{Result, ScheduleCommit, ScheduleRecord, Store};
use crate::workflow::is_reserved;

/// How often to look without anything being due: what others have changed is seen so soon.
const POLL: Duration = Duration::from_secs(1);
/// Things that one schedule may do before the others have their turn.
const BURST: usize = 100;

/// What a scheduler did in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticks {
    /// Ticks whose work was started by this scheduler.
    pub started: u64,
    pub skipped: u64,
    pub missed: u64,
}

/// A scheduler over a store. [`Scheduler::run`] is its life.
pub struct Scheduler {
    store: Arc<dyn Store>,
    entropy: Arc<dyn Entropy>,
    /// Rules of records that were seen, by name; a record that cannot be read has none, and is told once.
    known: BTreeMap<Name, (u64, Option<(Schedule, Rule)>)>,
    /// The store is away, and that has been told.
    away: bool,
    done: Ticks,
}

impl Scheduler {
    pub fn new(store: Arc<dyn Store>, entropy: Arc<dyn Entropy>) -> Scheduler {
        Scheduler { store, entropy, known: BTreeMap::new(), away: false, done: Ticks::default() }
    }

    /// Serves every schedule until `stop` is cancelled.
    ///
    /// # Errors
    /// What only somebody else can mend: refused, corrupt, too new. Everything transient is waited out.
    pub async fn run(mut self, stop: CancellationToken) -> Result<Ticks> {
        loop {
            let begun = Instant::now();
            let wait = match self.pass().await {
                Ok(wait) => {
                    if std::mem::take(&mut self.away) {
                        info!("the store is back");
                    }
                    wait
                }
                Err(error) if error.is_transient() => {
                    if !std::mem::replace(&mut self.away, true) {
                        warn!(%error, "the store is away: ticks wait for it");
                    }
                    POLL
                }
                Err(error) => return Err(error),
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(self.done),
                () = tokio::time::sleep_until(begun + wait) => {}
            }
        }
    }

    /// Looks at every schedule once; answers how long after its begin the next look is due.
    async fn pass(&mut self) -> Result<Duration> {
        let (now, records) = self.store.schedules().await?;
        let mut wait = POLL;
        self.known.retain(|name, _| records.iter().any(|record| record.name == *name));
        for record in records.into_iter().filter(|record| !is_reserved(&record.name)) {
            let next = self.serve(record, now).await?;
            // Not zero: a store whose clock stands still must not be asked in a circle.
            let until = next.map(|due| due.since(now).max(Duration::from_millis(1)));
            wait = until.map_or(wait, |until| until.min(wait));
        }
        Ok(wait)
    }

    /// Does what one schedule owes now; answers when it is due next. What it started may end at any
    /// time, so a line of waiting ticks is looked at again with the next poll.
    async fn serve(&mut self, mut record: ScheduleRecord, now: Ms) -> Result<Option<Ms>> {
        for _ in 0..BURST {
            let Some((schedule, rule)) = self.read(&record) else { return Ok(None) };
            let live = match schedule.last.filter(|_| schedule.must_look(record.due, now)) {
                Some(last) => is_live(&*self.store, last.work).await?,
                None => false,
            };
            let Some(step) = schedule.step(&rule, record.due, now, live) else { return Ok(record.due) };
            match self.carry_out(&record, step, now).await? {
                Some((next, due, body)) => {
                    record.rev += 1;
                    (record.due, record.body) = (due, body);
                    self.known.insert(record.name.clone(), (record.rev, Some((next, rule))));
                }
                // Another scheduler was quicker, or somebody changed it: see what is there now.
                None => return Ok(Some(now)),
            }
        }
        Ok(Some(now))
    }

    /// Commits one step; `None` if the record is no longer what it was computed from.
    async fn carry_out(
        &mut self,
        record: &ScheduleRecord,
        mut step: Step,
        now: Ms,
    ) -> Result<Option<(Schedule, Option<Ms>, Vec<u8>)>> {
        let name = &record.name;
        let mut started = None;
        let mut refused = None;
        if let Some(tick) = step.start {
            match ready(&*self.store, name, &step.next, Some(tick), now, &*self.entropy).await? {
                Ok(work) => {
                    step.started(now, work.work);
                    started = Some(work);
                }
                Err(why) => {
                    step.next.skipped += 1;
                    refused = Some((tick, why));
                }
            }
        }
        let mut commit = ScheduleCommit::of(name, record.rev, &step.next, step.due)?;
        step.notes.iter().for_each(|note| commit.note(note));
        if let Some(work) = step.cancel {
            commit.stop(work, now)?;
        }
        let has_started = started.is_some();
        if let Some(started) = started {
            commit.start(EventKind::ScheduleTicked, step.start, started);
        }
        if let Some((tick, why)) = &refused {
            commit.events.push(event(EventKind::ScheduleSkipped, name, &format!("{tick} {why}")));
        }
        let Some(answer) = self.store.set_schedule(&commit).await? else { return Ok(None) };
        if let Some(tick) = step.start.filter(|_| !scheduled::has_started(&answer)) {
            return self.take_back(record, step, tick).await;
        }
        if let Some((tick, why)) = refused {
            warn!(schedule = %name, %tick, "the tick came to nothing: {why}");
            self.done.skipped += 1;
        }
        self.done.started += u64::from(has_started);
        self.tell(name, &step);
        Ok(commit.next.map(|(due, body)| (step.next, due, body)))
    }

    /// The run's key is taken: the tick was committed and has started nothing. The books are put right
    /// by a second commit; should this process die before, they count one tick too many.
    async fn take_back(
        &mut self,
        record: &ScheduleRecord,
        mut step: Step,
        tick: Ms,
    ) -> Result<Option<(Schedule, Option<Ms>, Vec<u8>)>> {
        let (name, why) = (&record.name, scheduled::KEY_IS_TAKEN);
        warn!(schedule = %name, %tick, "the tick came to nothing: {why}");
        step.next.last = record.schedule()?.last;
        step.next.ticked -= 1;
        step.next.skipped += 1;
        self.done.skipped += 1;
        let mut commit = ScheduleCommit::of(name, record.rev + 1, &step.next, step.due)?;
        commit.events.push(event(EventKind::ScheduleSkipped, name, &format!("{tick} {why}")));
        self.store.set_schedule(&commit).await?;
        // Whatever came of it, the record is read again.
        Ok(None)
    }

    fn tell(&mut self, name: &Name, step: &Step) {
        if let Some(tick) = step.start {
            debug!(schedule = %name, %tick, "ticked");
        }
        for note in &step.notes {
            match note {
                Note::Skipped { tick, why } => {
                    self.done.skipped += 1;
                    info!(schedule = %name, %tick, "skipped: {why}");
                }
                Note::Missed(late) => {
                    self.done.missed += late.count;
                    let (count, first, last) = (late.count, late.first, late.last);
                    warn!(schedule = %name, count, %first, %last, "ticks were missed");
                }
            }
        }
    }

    /// The schedule of a record and its rule; none for one that cannot be read, which stops no other.
    fn read(&mut self, record: &ScheduleRecord) -> Option<(Schedule, Rule)> {
        if let Some((rev, known)) = self.known.get(&record.name)
            && *rev == record.rev
        {
            return known.clone();
        }
        let read = record.schedule().map_err(|error| error.to_string()).and_then(|schedule| {
            let rule = schedule.parsed().map_err(|error| error.to_string())?;
            Ok((schedule, rule))
        });
        let known = match read {
            Ok(known) => Some(known),
            Err(why) => {
                error!(schedule = %record.name, "it cannot be read and is left alone: {why}");
                None
            }
        };
        self.known.insert(record.name.clone(), (record.rev, known.clone()));
        known
    }
}
