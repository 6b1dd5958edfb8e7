//! New work and its claim: `enqueue`, promotion of what is due, and leases. It runs on the writer
//! thread and hands out bodies as bytes; callers decode them on their own threads.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{OptionalExtension, params};

use super::fault::Fault;
use super::row::{NewRunRow, Row};
use super::tx::{KEYED, Spot, Tx};
use crate::domain::limits::LEASE_GRACE;
use crate::domain::{Epoch, Event, EventKind, JobId, Ms, Name, Place, ProducerId, RunId, To, WorkerId};
use crate::store::codec;
use crate::store::{Claim, EnqueueAnswer, Enqueued, NewJob, RunRecord, Start, StoreError};

/// Due jobs promoted by one exchange, for each queue it asks for. More are promoted by the next.
const PROMOTE: i64 = 4_096;

/// A batch made ready for the writer.
pub(super) struct Batch {
    pub producer: ProducerId,
    pub sequence: u64,
    pub jobs: Vec<NewRow>,
    pub runs: Vec<NewRunRow>,
}

/// A new job made ready for the writer.
pub(super) struct NewRow {
    row: Row,
    start: Start,
    unique_for: Option<Duration>,
    event: Event,
}

impl NewRow {
    pub(super) fn new(new: &NewJob) -> Result<NewRow, StoreError> {
        let event = new.log_entry(EventKind::JobCreated);
        Ok(NewRow { row: Row::new(&new.job)?, start: new.start, unique_for: new.unique_for, event })
    }
}

/// A claimed job with its record still encoded.
pub(super) struct Leased {
    pub id: JobId,
    pub queue: Name,
    pub epoch: Epoch,
    pub body: Vec<u8>,
    pub run: Option<Arc<RunRecord>>,
}

/// What a look at the head of a line gave.
#[derive(Default)]
struct Taken {
    leased: Vec<Leased>,
    blocked: usize,
}

impl Tx<'_> {
    pub(super) fn enqueue(&mut self, batch: &Batch) -> Result<EnqueueAnswer, Fault> {
        let mut last = self.conn.prepare_cached("SELECT sequence, answer FROM producers WHERE id = ?1")?;
        let producer = batch.producer.as_bytes();
        let found = last.query_row([producer], |row| Ok((row.get::<_, i64>(0)? as u64, row.get::<_, Vec<u8>>(1)?)));
        match found.optional()? {
            Some((last, answer)) if last == batch.sequence => return unpack_answer(&answer),
            Some((last, _)) if last > batch.sequence => {
                let (sequence, producer) = (batch.sequence, batch.producer);
                let message = format!("batch {sequence} of producer {producer} came after batch {last}");
                return Err(Fault::Refused(StoreError::Refused(message)));
            }
            _ => {}
        }
        let answer = self.add_all(&batch.jobs, &batch.runs)?;
        let mut keep = self
            .conn
            .prepare_cached("INSERT OR REPLACE INTO producers(id, sequence, at, answer) VALUES (?1, ?2, ?3, ?4)")?;
        keep.execute(params![producer, batch.sequence as i64, self.now.0, pack_answer(&answer)?])?;
        Ok(answer)
    }

    pub(super) fn add_all(&mut self, jobs: &[NewRow], runs: &[NewRunRow]) -> Result<EnqueueAnswer, Fault> {
        let mut answer = EnqueueAnswer::default();
        for new in jobs {
            let enqueued = self.enqueue_job(new)?;
            answer.jobs.push(enqueued);
        }
        for new in runs {
            let enqueued = self.start_run(new)?;
            answer.runs.push(enqueued);
        }
        Ok(answer)
    }

    fn enqueue_job(&mut self, new: &NewRow) -> Result<Enqueued, Fault> {
        let NewRow { row, start, unique_for, event } = new;
        let special = row.unique.is_some() || !row.after.is_empty();
        if special && self.exists(row.id)? {
            return Ok(Enqueued::Exists);
        }
        if let Some(key) = &row.unique
            && let Some(holder) = self.holder(key)?
        {
            return Ok(Enqueued::Conflict(holder));
        }
        for parent in &row.after {
            if !self.exists(*parent)? {
                return Ok(Enqueued::NoParent(*parent));
            }
        }
        let delay = match *start {
            Start::Now => Duration::ZERO,
            Start::After(delay) => delay,
            Start::At(at) => at.since(self.now),
        };
        let (to, kind) = match delay.is_zero() {
            _ if !row.after.is_empty() => (To::Held, EventKind::JobScheduled),
            true => (To::Pending, EventKind::JobCreated),
            false => (To::Scheduled(delay), EventKind::JobScheduled),
        };
        if !self.add(row, to)? {
            return Ok(Enqueued::Exists);
        }
        if let (Some(key), Some(least)) = (&row.unique, unique_for) {
            self.hold_unique(key, self.now.after(*least))?;
        }
        self.log(Event { kind, ..event.clone() });
        Ok(Enqueued::Created)
    }

    /// Moves what is due to the end of the queue's line, in the order of due time.
    pub(super) fn promote(&mut self, queue: i64) -> Result<(), Fault> {
        let mut lists = [self.due(queue, Place::Scheduled)?, self.due(queue, Place::Retrying)?]
            .map(|due| due.into_iter().peekable());
        for _ in 0..PROMOTE {
            let [scheduled, retrying] = &mut lists;
            let first = match (scheduled.peek(), retrying.peek()) {
                (Some(one), Some(other)) if (other.0.rank, other.2) < (one.0.rank, one.2) => retrying.next(),
                (Some(_), _) => scheduled.next(),
                (None, _) => retrying.next(),
            };
            let Some((spot, priority, _, flags)) = first else { break };
            self.shift(spot, priority, flags, To::Pending)?;
        }
        Ok(())
    }

    fn due(&self, queue: i64, place: Place) -> Result<Vec<(Spot, i8, JobId, u8)>, Fault> {
        let mut due = self.conn.prepare_cached(
            "SELECT line.job, line.rank, line.turn, jobs.priority, jobs.id, jobs.flags
             FROM line CROSS JOIN jobs ON jobs.n = line.job
             WHERE line.queue = ?1 AND line.place = ?2 AND line.rank <= ?3
             ORDER BY line.rank, line.turn LIMIT ?4",
        )?;
        let mut rows = due.query(params![queue, place.code(), self.now.0, PROMOTE])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let spot = Spot { n: row.get(0)?, queue, place, rank: row.get(1)?, turn: row.get(2)? };
            found.push((spot, row.get(3)?, JobId::from_bytes(row.get(4)?), row.get(5)?));
        }
        Ok(found)
    }

    /// The smallest rank in a place of a queue.
    pub(super) fn first_rank(&self, queue: i64, place: Place) -> Result<Option<i64>, Fault> {
        let mut first = self
            .conn
            .prepare_cached("SELECT rank FROM line WHERE queue = ?1 AND place = ?2 ORDER BY rank, turn LIMIT 1")?;
        Ok(first.query_row((queue, place.code()), |row| row.get(0)).optional()?)
    }

    pub(super) fn claim(&mut self, claim: &Claim) -> Result<Vec<Leased>, Fault> {
        let known = claim.queues.iter().filter_map(|name| self.known_queue(name));
        let open: Vec<i64> = known.filter(|(_, paused)| !paused).map(|(id, _)| id).collect();
        if claim.alone && claim.want > 0 {
            for queue in &open {
                let suspect = self.claim_from(*queue, Place::Suspect, 1, claim.worker)?;
                if !suspect.is_empty() {
                    return Ok(suspect);
                }
            }
        }
        let mut claimed = Vec::new();
        for queue in open {
            if claimed.len() >= claim.want {
                break;
            }
            let more = self.claim_from(queue, Place::Pending, claim.want - claimed.len(), claim.worker)?;
            claimed.extend(more);
        }
        Ok(claimed)
    }

    /// Leases from the head of a line until there are enough, the line is empty or the queue is full.
    fn claim_from(&mut self, queue: i64, place: Place, want: usize, worker: WorkerId) -> Result<Vec<Leased>, Fault> {
        let want = want.min(self.room(queue)?);
        let mut claimed = Vec::new();
        while claimed.len() < want {
            let taken = self.take(queue, place, want - claimed.len(), worker)?;
            claimed.extend(taken.leased);
            // Only what was set aside can be made up for.
            if taken.blocked == 0 {
                break;
            }
        }
        if place == Place::Pending && claimed.len() < want {
            self.is_emptied(queue);
        }
        Ok(claimed)
    }

    /// Leases the head of a line; what its concurrency key does not let run is set aside.
    fn take(&mut self, queue: i64, place: Place, want: usize, worker: WorkerId) -> Result<Taken, Fault> {
        struct Head {
            n: i64,
            id: [u8; 16],
            timeout: Option<i64>,
            priority: i8,
            flags: u8,
        }
        let mut heads = Vec::new();
        let mut taken = Vec::new();
        let mut last = None;
        {
            let mut select = self.conn.prepare_cached(
                "SELECT line.job, line.rank, line.turn, jobs.id, jobs.timeout, jobs.run, jobs.body, jobs.priority,
                     jobs.flags
                 FROM line CROSS JOIN jobs ON jobs.n = line.job
                 WHERE line.queue = ?1 AND line.place = ?2 ORDER BY line.rank, line.turn LIMIT ?3",
            )?;
            let mut rows = select.query(params![queue, place.code(), want as i64])?;
            while let Some(row) = rows.next()? {
                last = Some((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
                let head = Head {
                    n: row.get(0)?,
                    id: row.get(3)?,
                    timeout: row.get(4)?,
                    priority: row.get(7)?,
                    flags: row.get(8)?,
                };
                let run = row.get::<_, Option<[u8; 16]>>(5)?.map(RunId::from_bytes);
                let body = row.get_ref(6)?.as_blob().map_err(rusqlite::Error::from)?.to_vec();
                taken.push((JobId::from_bytes(head.id), run, body));
                heads.push(head);
            }
        }
        let Some((rank, turn)) = last else { return Ok(Taken::default()) };
        // They are the head of the line without a gap, so one range takes them out.
        let mut leave = self
            .conn
            .prepare_cached("DELETE FROM line WHERE queue = ?1 AND place = ?2 AND (rank, turn) <= (?3, ?4)")?;
        let left = leave.execute(params![queue, place.code(), rank, turn])?;
        if left != heads.len() {
            return Err(StoreError::Corrupt(format!("{} jobs for {left} places in a line", heads.len())).into());
        }
        self.count(queue, place, -(left as i64));
        let name = self.queue_name(queue)?;
        let mut leased = Vec::with_capacity(heads.len());
        let mut blocked = 0;
        {
            let mut lease = self.conn.prepare_cached(
                "INSERT INTO running(epoch, job, id, queue, worker, since, expires) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?;
            let grace = crate::domain::time::millis(LEASE_GRACE);
            for (head, (id, run, body)) in heads.iter().zip(taken) {
                if head.flags & KEYED != 0 && !self.start_keyed(head.n)? {
                    self.block(head.n, queue, head.priority)?;
                    blocked += 1;
                    continue;
                }
                let epoch = self.next_epoch();
                let expires = head.timeout.map(|ms| self.now.0.saturating_add(ms).saturating_add(grace));
                let worker = worker.as_bytes();
                lease.execute(params![epoch, head.n, head.id, queue, worker, self.now.0, expires])?;
                leased.push((id, Epoch(epoch as u64), run, body));
            }
        }
        self.count(queue, Place::Running, leased.len() as i64);
        let mut claimed = Vec::with_capacity(leased.len());
        // Once, however many of its steps are claimed: the header of a large run is large.
        let mut runs: BTreeMap<RunId, Option<Arc<RunRecord>>> = BTreeMap::new();
        for (id, epoch, run, body) in leased {
            let started = Event { job: Some(id), queue: Some(name.clone()), ..Event::new(EventKind::JobStarted) };
            self.log(Event { worker: Some(worker), ..started });
            let run = match run.map(|run| runs.entry(run)) {
                Some(Entry::Occupied(known)) => known.get().clone(),
                Some(Entry::Vacant(new)) => {
                    let record = super::runs::read_run(self.conn, *new.key())?;
                    new.insert(record.map(Arc::new)).clone()
                }
                None => None,
            };
            claimed.push(Leased { id, queue: name.clone(), epoch, body, run });
        }
        Ok(Taken { leased: claimed, blocked })
    }

    /// What a claimer has to know beside its jobs: whether suspects wait, and what is due next.
    pub(super) fn outlook(&self, claim: &Claim) -> Result<(bool, Option<Ms>), Fault> {
        let mut suspects = false;
        let mut next: Option<i64> = self.next_timer()?;
        for (queue, _) in claim.queues.iter().filter_map(|name| self.known_queue(name)) {
            suspects |= self.first_rank(queue, Place::Suspect)?.is_some() && self.room(queue)? > 0;
            for place in [Place::Scheduled, Place::Retrying] {
                let due = self.first_rank(queue, place)?;
                next = [next, due].into_iter().flatten().min();
            }
        }
        Ok((suspects, next.map(Ms)))
    }
}

type PackedAnswer = (Vec<(u8, Option<JobId>)>, usize);

/// The usual answer, all created, is kept as two numbers.
fn pack_answer(answer: &EnqueueAnswer) -> Result<Vec<u8>, Fault> {
    let all = answer.jobs.iter().chain(&answer.runs);
    let created = all.clone().all(|enqueued| *enqueued == Enqueued::Created);
    let code = |enqueued: &Enqueued| match enqueued {
        Enqueued::Created => (0, None),
        Enqueued::Exists => (1, None),
        Enqueued::Conflict(holder) => (2, Some(*holder)),
        Enqueued::NoParent(parent) => (3, Some(*parent)),
        Enqueued::Busy => (4, None),
    };
    let items = if created { Vec::new() } else { all.map(code).collect() };
    let packed: (PackedAnswer, usize) = ((items, answer.jobs.len()), answer.runs.len());
    Ok(codec::encode(&packed)?)
}

fn unpack_answer(bytes: &[u8]) -> Result<EnqueueAnswer, Fault> {
    let ((items, jobs), runs): (PackedAnswer, usize) = codec::decode(bytes)?;
    let mut all = vec![Enqueued::Created; jobs + runs];
    for (enqueued, (code, holder)) in all.iter_mut().zip(items) {
        *enqueued = match (code, holder) {
            (0, None) => Enqueued::Created,
            (1, None) => Enqueued::Exists,
            (2, Some(holder)) => Enqueued::Conflict(holder),
            (3, Some(parent)) => Enqueued::NoParent(parent),
            (4, None) => Enqueued::Busy,
            _ => return Err(StoreError::Corrupt("a producer's answer cannot be read".into()).into()),
        };
    }
    let runs = all.split_off(jobs);
    Ok(EnqueueAnswer { jobs: all, runs })
}
