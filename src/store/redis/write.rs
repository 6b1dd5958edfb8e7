//! The arguments of the scripts that write. `scripts/*.lua` say at their heads what they take and answer. It
//! sends nothing itself; what comes back is read in `answers`.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use redis::Cmd;

use super::connection::Script;
use super::keys::{Keys, QUEUE};
use super::pack::{self, Defaults, FOREVER};
use crate::domain::time::millis;
use crate::domain::{Epoch, EventKind, Job, JobId, Name, Place, To, limits};
use crate::store::contract::*;

macro_rules! script {
    ($constant:ident, $name:literal $(, $part:literal)*) => {
        pub static $constant: Script = Script::new(
            $name,
            concat!(
                include_str!("scripts/clock.lua"),
                include_str!("scripts/lib.lua"),
                $(include_str!(concat!("scripts/", $part, ".lua")),)*
                include_str!(concat!("scripts/", $name, ".lua"))
            ),
        );
    };
}

script!(SCHEDULE, "schedule", "beside", "jobs", "runs");
script!(FORGET, "forget", "beside", "jobs", "runs");
script!(TAKE_RUNS, "take_runs", "beside", "jobs", "runs");
script!(PUT_RUNS, "put_runs", "beside", "jobs", "runs");
script!(KEEP_LOG, "keep_log");
script!(ASK, "ask", "beside", "jobs");
script!(FREED, "freed", "beside");
script!(ASKED, "asked");
script!(HEARTBEAT, "heartbeat");
script!(FAREWELL, "farewell");
script!(OVERDUE, "overdue");
script!(DRAIN, "drain");
script!(NOTE, "note");
script!(INFORM, "inform");
script!(TICK, "tick");
script!(DIRTY, "dirty");
script!(TRIM, "trim");
script!(SET_QUEUE, "set_queue");
/// What a part defines costs each call that comes to it, a third of the time of a short one: what most calls want is
/// done before.
pub static ENQUEUE: Script = Script::new(
    "enqueue",
    concat!(
        include_str!("scripts/clock.lua"),
        include_str!("scripts/enqueue.lua"),
        include_str!("scripts/lib.lua"),
        include_str!("scripts/beside.lua"),
        include_str!("scripts/jobs.lua"),
        include_str!("scripts/runs.lua"),
        include_str!("scripts/enqueue_each.lua"),
    ),
);
/// Calls that only claim, or whose moves are plain, pass the part about moves by.
pub static EXCHANGE: Script = Script::new(
    "exchange",
    concat!(
        include_str!("scripts/clock.lua"),
        include_str!("scripts/exchange.lua"),
        include_str!("scripts/lib.lua"),
        include_str!("scripts/beside.lua"),
        include_str!("scripts/exchange_each.lua"),
        "if #commits > 0 then\n",
        include_str!("scripts/jobs.lua"),
        include_str!("scripts/runs.lua"),
        include_str!("scripts/moves.lua"),
        "end\n",
        include_str!("scripts/claim.lua"),
    ),
);
pub static DEFINE: Script = Script::new("define", include_str!("scripts/define.lua"));
pub static UNDEFINE: Script = Script::new("undefine", include_str!("scripts/undefine.lua"));
pub static DOCUMENT: Script = Script::new("document", include_str!("scripts/document.lua"));
pub static LOCK: Script = Script::new("lock", include_str!("scripts/lock.lua"));
pub static OVER: Script = Script::new("over", include_str!("scripts/over.lua"));
pub static PERMITS: Script = Script::new("permits", include_str!("scripts/permits.lua"));

/// Items of one enqueue script: long enough to be cheap, short enough to let others in between.
pub const CHUNK: usize = 100;
/// Moves that a script takes without looking at each.
const PLAIN: usize = 400;

/// The queues of one call, each with its number there.
#[derive(Default)]
pub struct Queues<'a> {
    names: Vec<&'a Name>,
    numbers: BTreeMap<&'a Name, u16>,
}

impl<'a> Queues<'a> {
    fn number(&mut self, queue: &'a Name) -> u16 {
        let (names, numbers) = (&mut self.names, &mut self.numbers);
        *numbers.entry(queue).or_insert_with(|| {
            names.push(queue);
            (names.len() - 1) as u16
        })
    }
}

/// A call with the keys of the shard and of these queues.
pub fn call(script: &Script, keys: &Keys, queues: &[&Name]) -> Cmd {
    call_with(script, keys, queues, None)
}

/// The same, with one key more at the end.
pub fn call_with(script: &Script, keys: &Keys, queues: &[&Name], last: Option<String>) -> Cmd {
    let count = keys.all().len() + queues.len() * QUEUE.len() + usize::from(last.is_some());
    let mut call = script.call(count);
    for key in keys.all() {
        call.arg(key);
    }
    for queue in queues {
        for key in keys.of_queue(queue) {
            call.arg(key);
        }
    }
    if let Some(key) = last {
        call.arg(key);
    }
    call
}

/// A delay as scripts count: never so long that a double could not tell two moments apart.
fn delay(time: Duration) -> u64 {
    millis(time).min(FOREVER / 4) as u64
}

/// How a held job starts: by a move.
const HELD: u8 = 3;

fn new_plan<'a>(new: &'a NewJob, queues: &mut Queues<'a>) -> Result<Vec<u8>> {
    let start = if new.job.after.is_empty() { Some(new.start) } else { None };
    job_plan(&new.job, start, new.unique_for, queues)
}

/// `start`: none for one that is held for its parents.
fn job_plan<'a>(
    job: &'a Job,
    start: Option<Start>,
    unique_for: Option<Duration>,
    queues: &mut Queues<'a>,
) -> Result<Vec<u8>> {
    let (code, ms) = match start {
        Some(Start::Now) => (0, 0),
        Some(Start::After(time)) => (1, delay(time)),
        Some(Start::At(at)) => (2, at.0.clamp(0, FOREVER / 2) as u64),
        None => (HELD, 0),
    };
    let mut plan = vec![code];
    plan.extend_from_slice(&queues.number(&job.queue).to_be_bytes());
    plan.push(job.priority as u8);
    plan.extend_from_slice(&ms.to_be_bytes());
    let unique = job.unique_key.as_deref().unwrap_or("");
    if !unique.is_empty() || start.is_none() {
        plan.extend_from_slice(&pack::long_key(unique)?);
        plan.extend_from_slice(&unique_for.map_or(0, delay).to_be_bytes());
        let parents = if start.is_none() { &job.after[..] } else { &[] };
        plan.extend(parents.iter().flat_map(|parent| *parent.as_bytes()));
    }
    Ok(plan)
}

/// Arguments gathered before it is known how many queues and keys there are.
#[derive(Default)]
struct Args(Vec<Vec<u8>>);

impl Args {
    fn push(&mut self, bytes: impl Into<Vec<u8>>) {
        self.0.push(bytes.into());
    }
}

fn effects<'a>(effects: &'a Effects, args: &mut Args, queues: &mut Queues<'a>) -> Result<()> {
    // Of timers set twice, the script is to see the last.
    let mut timers = BTreeMap::new();
    for timer in &effects.timers {
        timers.insert(&timer.key, timer);
    }
    let mut head = vec![u8::from(effects.record.state.is_terminal())];
    let counts = [effects.jobs.len(), effects.values.len(), timers.len(), effects.drop_timers.len()];
    let is_wide = !(effects.cancel.is_empty() && effects.tell.is_empty() && effects.runs.is_empty());
    let wide = [effects.tell.len(), effects.runs.len()].into_iter().filter(|_| is_wide);
    for count in counts.into_iter().chain([effects.events.len()]).chain(wide) {
        let count = u16::try_from(count)
            .map_err(|_| StoreError::Refused(format!("{count} items in one advance are too many")))?;
        head.extend_from_slice(&count.to_be_bytes());
    }
    args.push(head);
    args.push(*effects.record.id.as_bytes());
    args.push(pack::run(&effects.record));
    for job in &effects.jobs {
        args.push(*job.id.as_bytes());
        args.push(job_plan(job, Some(Start::Now), None, queues)?);
        args.push(pack::job(job, Place::Pending)?);
    }
    for (key, value) in &effects.values {
        let mut bytes = pack::key(key);
        bytes.extend_from_slice(value.as_str().as_bytes());
        args.push(bytes);
    }
    for timer in timers.values() {
        args.push(pack::key(&timer.key));
        args.push(delay(timer.delay).to_be_bytes());
        args.push(timer.fact.clone());
    }
    for key in &effects.drop_timers {
        args.push(pack::key(key));
    }
    for event in &effects.events {
        args.push(pack::event(event, &Defaults::default()));
    }
    if is_wide {
        args.push(effects.cancel.iter().flat_map(|id| *id.as_bytes()).collect::<Vec<u8>>());
        for (run, fact) in &effects.tell {
            args.push(*run.as_bytes());
            args.push(fact.clone());
        }
        for new in &effects.runs {
            new_run(new, args, queues)?;
        }
    }
    Ok(())
}

fn new_run<'a>(new: &'a NewRun, args: &mut Args, queues: &mut Queues<'a>) -> Result<()> {
    let mut bytes = Vec::new();
    if let Some(gate) = &new.gate {
        bytes.extend_from_slice(&gate.limit.min(i32::MAX as u32).to_be_bytes());
        bytes.extend_from_slice(&pack::long_key(&gate.key)?);
        bytes.extend_from_slice(&(gate.go.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&gate.go);
        bytes.push(u8::from(gate.reject.is_some()));
        bytes.extend(gate.reject.iter().flatten());
    }
    args.push(bytes);
    effects(&new.effects, args, queues)
}

/// What scripts are told of many jobs or moves at once: plans behind their lengths, and events with
/// their lengths beside them, so that a script which needs no single one can take all as they are.
#[derive(Default)]
struct Packed {
    plans: Vec<u8>,
    lengths: Vec<u8>,
    events: Vec<u8>,
}

impl Packed {
    fn push(&mut self, plan: &[u8], event: &[u8]) -> Result<()> {
        let length = |bytes: &[u8]| {
            u16::try_from(bytes.len())
                .map_err(|_| StoreError::Refused("a unique key or an event is longer than 64 KiB".to_owned()))
        };
        self.plans.extend_from_slice(&length(plan)?.to_be_bytes());
        self.plans.extend_from_slice(plan);
        self.lengths.extend_from_slice(&length(event)?.to_be_bytes());
        self.events.extend_from_slice(event);
        Ok(())
    }

    fn add_to(&self, call: &mut Cmd) {
        call.arg(&self.plans[..]).arg(&self.lengths[..]).arg(&self.events[..]);
    }
}

/// Whether no id comes twice.
fn distinct<'a>(ids: impl Iterator<Item = &'a JobId>) -> bool {
    let mut seen = HashSet::new();
    ids.into_iter().all(|id| seen.insert(id))
}

fn new_jobs<'a>(
    jobs: &'a [NewJob],
    defaults: &Defaults,
    packed: &mut Packed,
    args: &mut Args,
    queues: &mut Queues<'a>,
) -> Result<()> {
    for new in jobs {
        let is_held = !new.job.after.is_empty();
        let kind = if is_held { EventKind::JobScheduled } else { EventKind::JobCreated };
        packed.push(&new_plan(new, queues)?, &pack::event(&new.log_entry(kind), defaults))?;
        args.push(*new.job.id.as_bytes());
        args.push(match new.start {
            _ if is_held => pack::job(&new.job, Place::Held)?,
            Start::Now => pack::new_job(&new.job)?,
            Start::After(_) | Start::At(_) => pack::job(&new.job, Place::Pending)?,
        });
    }
    Ok(())
}

/// A change of a schedule.
pub fn schedule(keys: &Keys, commit: &ScheduleCommit) -> Result<Cmd> {
    let mut queues = Queues::default();
    let defaults = Defaults::default();
    let (mut packed, mut rest) = (Packed::default(), Args::default());
    new_jobs(&commit.jobs, &defaults, &mut packed, &mut rest, &mut queues)?;
    for run in &commit.runs {
        new_run(run, &mut rest, &mut queues)?;
    }
    for (run, fact) in &commit.tell {
        rest.push(*run.as_bytes());
        rest.push(fact.clone());
    }
    for event in &commit.events {
        rest.push(pack::event(event, &defaults));
    }
    let mut head = Vec::new();
    let counts = [commit.jobs.len(), commit.runs.len(), queues.names.len(), commit.tell.len(), commit.events.len()];
    for count in counts {
        let count = u16::try_from(count)
            .map_err(|_| StoreError::Refused(format!("{count} items in one change of a schedule are too many")))?;
        head.extend_from_slice(&count.to_be_bytes());
    }
    let cancel: Vec<u8> = commit.cancel.iter().flat_map(|id| *id.as_bytes()).collect();
    let record = commit.next.as_ref().map(|(due, body)| pack::schedule(*due, body)).unwrap_or_default();
    let mut call = call_with(&SCHEDULE, keys, &queues.names, Some(keys.schedules()));
    call.arg(commit.name.as_str()).arg(&commit.from_rev.to_be_bytes()[..]).arg(record);
    call.arg(limits::EVENT_RECORDS).arg(head).arg(cancel);
    packed.add_to(&mut call);
    finish(&mut call, &queues, rest);
    Ok(call)
}

/// One part of a batch: some of its jobs, then some of its runs.
pub fn enqueue(keys: &Keys, batch: &Enqueue, chunk: usize, jobs: &[NewJob], runs: &[NewRun]) -> Result<Cmd> {
    let mut queues = Queues::default();
    let defaults = Defaults { worker: None, queue: jobs.first().map(|new| new.job.queue.clone()) };
    let mut packed = Packed::default();
    let mut rest = Args::default();
    new_jobs(jobs, &defaults, &mut packed, &mut rest, &mut queues)?;
    let plain = !jobs.is_empty()
        && runs.is_empty()
        && queues.names.len() == 1
        && jobs.iter().all(|new| {
            let Job { priority, unique_key, after, .. } = &new.job;
            let is_plain = new.start == Start::Now && *priority == 0 && after.is_empty() && !new.job.is_suspect();
            is_plain && unique_key.as_ref().is_none_or(String::is_empty)
        })
        && distinct(jobs.iter().map(|new| &new.job.id));
    for run in runs {
        new_run(run, &mut rest, &mut queues)?;
    }
    let mut head = batch.sequence.to_be_bytes().to_vec();
    for count in [chunk, jobs.len(), runs.len(), queues.names.len()] {
        head.extend_from_slice(&(count as u16).to_be_bytes());
    }
    head.push(u8::from(plain));
    let mut call = call(&ENQUEUE, keys, &queues.names);
    call.arg(batch.producer.as_bytes()).arg(head).arg(limits::EVENT_RECORDS).arg(defaults.bytes());
    packed.add_to(&mut call);
    finish(&mut call, &queues, rest);
    Ok(call)
}

fn finish(call: &mut Cmd, queues: &Queues, rest: Args) {
    for name in &queues.names {
        call.arg(name.as_str());
    }
    for bytes in &rest.0 {
        call.arg(&bytes[..]);
    }
}

/// Codes of moves that go to no place of their own.
pub const FRONT: u8 = 11;
pub const GONE: u8 = 12;

/// Where a move really goes: what may have killed its workers waits apart.
fn goes_to(step: &Move) -> To {
    match step.to {
        To::Pending | To::Front if step.job.is_suspect() => To::Suspect,
        to => to,
    }
}

fn to_code(to: To) -> u8 {
    match to {
        To::Front => FRONT,
        to => to.place().map_or(GONE, pack::place_code),
    }
}

fn move_plan<'a>(step: &'a Move, queues: &mut Queues<'a>) -> Result<Vec<u8>> {
    let to = goes_to(step);
    let (expect, from, stamp) = match step.expect {
        Expect::Lease(Epoch(epoch)) => (1, Place::Running, epoch),
        Expect::Lapsed(Epoch(epoch)) => (2, Place::Running, epoch),
        Expect::Idle(place, rev) => (3, place, u64::from(rev)),
    };
    let wait = match to {
        To::Scheduled(time) | To::Retrying(time) => delay(time),
        _ => 0,
    };
    let unique = step.job.unique_key.as_deref().unwrap_or("");
    let mut plan = vec![expect, pack::place_code(from), to_code(to)];
    plan.extend_from_slice(&queues.number(&step.job.queue).to_be_bytes());
    plan.push(step.job.priority as u8);
    plan.extend_from_slice(&stamp.to_be_bytes());
    plan.extend_from_slice(&wait.to_be_bytes());
    plan.extend_from_slice(&pack::long_key(unique)?);
    let kind = if from == Place::Parked || to == To::Parked { step.job.kind.as_str() } else { "" };
    let concurrency = step.job.concurrency.as_ref().map_or("", |own| &own.key);
    if !(unique.is_empty() && kind.is_empty() && concurrency.is_empty() && to != To::Held) {
        // A name has at most 128 letters.
        plan.push(kind.len() as u8);
        plan.extend_from_slice(kind.as_bytes());
        plan.extend_from_slice(&pack::long_key(concurrency)?);
        if to == To::Held {
            plan.extend(step.job.after.iter().flat_map(|parent| *parent.as_bytes()));
        }
    }
    Ok(plan)
}

/// The epochs of leases that are settled, as (how many that rise by one, the first).
fn epochs<'a>(moves: impl Iterator<Item = &'a Move>) -> Vec<u8> {
    let mut rows: Vec<(u16, u64)> = Vec::new();
    for step in moves {
        let Expect::Lease(Epoch(epoch)) = step.expect else { continue };
        match rows.last_mut() {
            Some((count, first)) if first.checked_add(u64::from(*count)) == Some(epoch) => *count += 1,
            _ => rows.push((1, epoch)),
        }
    }
    rows.iter().flat_map(|(count, first)| [&count.to_be_bytes()[..], &first.to_be_bytes()].concat()).collect()
}

/// Who may be given work by a claim.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Whoever asks, as it asks now.
    Anybody,
    /// Who is registered when the claim is carried out, which may be later.
    Registered,
}

/// The whole exchange as one call. `more`: queues beside those it names.
pub fn exchange<'a>(keys: &Keys, exchange: &'a Exchange, more: &'a [Name], right: Right) -> Result<Cmd> {
    let mut queues = Queues::default();
    let moves = || exchange.commits.iter().flat_map(|commit| &commit.moves);
    let first = moves().next();
    let defaults =
        Defaults { worker: first.and_then(|step| step.job.worker), queue: first.map(|step| step.job.queue.clone()) };
    let mut plan = Vec::with_capacity(exchange.commits.len() * 3);
    let mut rest = Args::default();
    let mut packed = Packed::default();
    for step in moves() {
        packed.push(&move_plan(step, &mut queues)?, &pack::event(&step.log_entry(), &defaults))?;
        rest.push(*step.job.id.as_bytes());
        rest.push(match goes_to(step).place() {
            Some(place) => pack::job(&step.job, place)?,
            None => Vec::new(),
        });
    }
    let plain = first.is_some()
        && queues.names.len() == 1
        && exchange.commits.len() <= PLAIN
        && exchange.commits.iter().all(|commit| match &commit.moves[..] {
            [step] => {
                commit.run.is_none()
                    && matches!(step.expect, Expect::Lease(_))
                    && step.to == To::Completed
                    && step.job.unique_key.as_ref().is_none_or(String::is_empty)
                    && step.job.concurrency.is_none()
            }
            _ => false,
        })
        && distinct(moves().map(|step| &step.job.id));
    for commit in &exchange.commits {
        plan.extend_from_slice(&(commit.moves.len() as u16).to_be_bytes());
        plan.push(u8::from(commit.run.is_some()));
        if let Some(part) = &commit.run {
            rest.push(*part.run.as_bytes());
            // A move without a fact would leave the script's count of arguments wrong.
            for at in 0..commit.moves.len() {
                rest.push(part.facts.get(at).cloned().unwrap_or_default());
            }
            match &part.advance {
                None => rest.push([]),
                Some(advance) => {
                    let mut head = advance.from_rev.to_be_bytes().to_vec();
                    head.push(u8::from(advance.drained.is_some()));
                    head.extend_from_slice(&advance.drained.unwrap_or(0).to_be_bytes());
                    rest.push(head);
                    effects(&advance.effects, &mut rest, &mut queues)?;
                }
            }
        }
    }
    let mut wish = Vec::new();
    if let Some(claim) = &exchange.claim {
        wish.extend_from_slice(claim.worker.as_bytes());
        wish.extend_from_slice(&(claim.want.min(limits::CLAIM_BATCH) as u16).to_be_bytes());
        wish.push(u8::from(claim.alone) + 2 * u8::from(right == Right::Registered));
        wish.extend_from_slice(&(millis(limits::LEASE_GRACE) as u64).to_be_bytes());
        // Each once: the script takes from every queue that is named.
        let mut named = BTreeSet::new();
        for queue in claim.queues.iter().filter(|queue| named.insert(*queue)) {
            wish.extend_from_slice(&queues.number(queue).to_be_bytes());
        }
    }
    for queue in more {
        queues.number(queue);
    }
    let mut head = (moves().count() as u16).to_be_bytes().to_vec();
    head.extend_from_slice(&(queues.names.len() as u16).to_be_bytes());
    head.push(u8::from(plain));
    if plain {
        head.extend(epochs(moves()));
    }
    let mut call = call(&EXCHANGE, keys, &queues.names);
    call.arg(head).arg(plan).arg(limits::EVENT_RECORDS).arg(defaults.bytes()).arg(wish);
    packed.add_to(&mut call);
    finish(&mut call, &queues, rest);
    Ok(call)
}
