//! Small binary forms: the header that scripts read before a job's record, a run's record, a lease,
//! and the events of the log. Big-endian throughout. It knows no connection.

use crate::domain::{
    Epoch, Event, EventKind, Job, JobId, Json, Ms, Name, Place, Progress, QueueSettings, RunId, RunState, WorkerId,
};
use crate::store::codec;
use crate::store::contract::{Lease, Result, RunRecord, ScheduleRecord, StoreError};

/// The longest time a script counts with: doubles are exact up to here.
pub const FOREVER: i64 = 1 << 53;

const REV: u8 = 0x10;
const RUN: u8 = 0x20;
const TIMEOUT: u8 = 0x40;
const PRIORITY: u8 = 0x80;
/// The whole first byte of a record in the short form.
pub const SHORT: u8 = 0x0f;
/// The first byte of one in the long form: place and flags follow, a byte each.
pub const LONG: u8 = 0x0e;
/// In the first byte of a queue's settings.
const LIMITED: u8 = 2;
const KEY: u8 = 0x10;
const SUSPECT: u8 = 0x20;

fn corrupt(what: &str) -> StoreError {
    StoreError::Corrupt(format!("{what} cannot be read"))
}

/// Reads from the front of bytes.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        if self.0.len() < n {
            return Err(corrupt("a packed record"));
        }
        let (head, rest) = self.0.split_at(n);
        self.0 = rest;
        Ok(head)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub fn ms(&mut self) -> Result<Ms> {
        Ok(Ms(self.u64()? as i64))
    }

    pub fn id(&mut self) -> Result<[u8; 16]> {
        self.array()
    }

    pub fn text(&mut self, n: usize) -> Result<String> {
        String::from_utf8(self.take(n)?.to_vec()).map_err(|_| corrupt("a text"))
    }

    pub fn name(&mut self) -> Result<Name> {
        let n = usize::from(self.u8()?);
        self.text(n)?.parse().map_err(|_| corrupt("a name"))
    }
}

/// A place as scripts write it in the low half of a record's first byte.
pub fn place_code(place: Place) -> u8 {
    match place {
        Place::Pending => 0,
        Place::Scheduled => 1,
        Place::Suspect => 2,
        Place::Parked => 3,
        Place::Running => 4,
        Place::Retrying => 5,
        Place::Dead => 6,
        Place::Completed => 7,
        Place::Cancelled => 8,
        Place::Held => 9,
        Place::Blocked => 10,
    }
}

/// The place of a code.
///
/// # Errors
/// [`StoreError::Corrupt`].
pub fn place_of(code: u8) -> Result<Place> {
    Place::ALL.into_iter().find(|place| place_code(*place) == code).ok_or_else(|| corrupt("a job's place"))
}

/// A new job that goes to the end of its line. One that says nothing but its type, queue and payload,
/// as most do, is kept in a short form: millions of them wait, and the allocator's steps are coarse.
///
/// # Errors
/// As [`job`].
pub fn new_job(new: &Job) -> Result<Vec<u8>> {
    let Job { id, kind, queue, payload, .. } = new;
    if *new != Job::new(*id, kind.clone(), queue.clone(), payload.clone()) {
        return job(new, Place::Pending);
    }
    let mut bytes = Vec::with_capacity(3 + kind.as_str().len() + queue.as_str().len() + payload.as_str().len());
    bytes.push(SHORT);
    for name in [kind, queue] {
        // A name has at most 128 letters.
        bytes.push(name.as_str().len() as u8);
        bytes.extend_from_slice(name.as_str().as_bytes());
    }
    bytes.extend_from_slice(payload.as_str().as_bytes());
    Ok(bytes)
}

/// A key behind its length.
///
/// # Errors
/// [`StoreError::Refused`] if it is longer than 64 KiB.
pub fn long_key(text: &str) -> Result<Vec<u8>> {
    let length =
        u16::try_from(text.len()).map_err(|_| StoreError::Refused("a key is longer than 64 KiB".to_owned()))?;
    Ok([&length.to_be_bytes()[..], text.as_bytes()].concat())
}

fn read_short(id: JobId, mut reader: Reader) -> Result<Job> {
    let (kind, queue) = (reader.name()?, reader.name()?);
    let payload = std::str::from_utf8(reader.0).ok().filter(|text| !text.is_empty());
    let payload = payload.ok_or_else(|| corrupt("a job's payload"))?;
    Ok(Job::new(id, kind, queue, Json::checked(payload)))
}

/// A job as it is kept: the header, then its record.
///
/// # Errors
/// [`StoreError::Corrupt`] if the record cannot be written.
pub fn job(job: &Job, place: Place) -> Result<Vec<u8>> {
    let mut flags = 0;
    let mut fields = Vec::new();
    if place == Place::Parked {
        // The script puts the time here.
        fields.extend_from_slice(&[0; 8]);
    }
    if job.rev != 0 {
        flags |= REV;
        fields.extend_from_slice(&job.rev.to_be_bytes());
    }
    if let Some(link) = &job.link {
        flags |= RUN;
        fields.extend_from_slice(link.run.as_bytes());
    }
    if let Some(timeout) = job.timeout_ms {
        flags |= TIMEOUT;
        fields.extend_from_slice(&timeout.min(FOREVER as u64).to_be_bytes());
    }
    if job.priority != 0 {
        flags |= PRIORITY;
        fields.push(job.priority as u8);
    }
    let mut bytes = vec![flags | place_code(place)];
    if job.concurrency.is_some() || job.is_suspect() {
        flags >>= 4;
        if let Some(own) = &job.concurrency {
            flags |= KEY;
            fields.extend_from_slice(&own.limit.to_be_bytes());
            fields.extend_from_slice(&long_key(&own.key)?);
        }
        if job.is_suspect() {
            flags |= SUSPECT;
        }
        bytes = vec![LONG, place_code(place), flags];
    }
    bytes.extend_from_slice(&fields);
    let record = codec::encode(job)?;
    bytes.extend_from_slice(&record);
    Ok(bytes)
}

/// What a kept job says of itself. `place` is where it was last put by a move: it may have become due
/// since, or been claimed.
pub struct KeptJob {
    pub job: Job,
    pub place: Place,
    /// The position under which it was parked.
    pub parked: Option<u64>,
    /// Wherever it waits to be claimed, it does so among the suspects.
    pub suspect: bool,
    pub run: Option<RunId>,
}

impl KeptJob {
    /// Where it waits once it is due, or called back.
    pub fn line(&self) -> Place {
        if self.suspect { Place::Suspect } else { Place::Pending }
    }
}

/// Reads a kept job. A record that cannot be read is a job all the same, as [`codec::read_job`] says.
///
/// # Errors
/// [`StoreError::Corrupt`] if not even its head can be read.
pub fn read_job(id: JobId, bytes: &[u8]) -> Result<KeptJob> {
    if bytes.first() == Some(&SHORT) {
        let job = read_short(id, Reader(&bytes[1..])).unwrap_or_else(|_| codec::read_job(id, bytes));
        return Ok(KeptJob { job, place: Place::Pending, parked: None, suspect: false, run: None });
    }
    read_head(bytes, |record| Ok(codec::read_job(id, record)))
}

/// Reads a kept job strictly.
///
/// # Errors
/// [`StoreError::Corrupt`].
pub fn check_job(id: JobId, bytes: &[u8]) -> Result<KeptJob> {
    if bytes.first() == Some(&SHORT) {
        let job = read_short(id, Reader(&bytes[1..]))?;
        return Ok(KeptJob { job, place: Place::Pending, parked: None, suspect: false, run: None });
    }
    read_head(bytes, |record| codec::decode_job(id, record))
}

fn read_head(bytes: &[u8], read: impl FnOnce(&[u8]) -> Result<Job>) -> Result<KeptJob> {
    let mut reader = Reader(bytes);
    let first = reader.u8()?;
    let is_long = first == LONG;
    let (place, flags) = if is_long { (reader.u8()?, reader.u8()?) } else { (first & 0x0f, first >> 4) };
    let mut place = place_of(place)?;
    let parked = if place == Place::Parked { Some(reader.u64()?) } else { None };
    let mut run = None;
    for (flag, length) in [(REV, 4), (RUN, 16), (TIMEOUT, 8), (PRIORITY, 1)] {
        if flags & (flag >> 4) != 0 {
            let bytes = reader.take(length)?;
            run = RunId::from_slice(bytes).filter(|_| flag == RUN).or(run);
        }
    }
    if flags & KEY != 0 {
        reader.take(4)?;
        let length = usize::from(reader.u16()?);
        reader.take(length)?;
    }
    let suspect = flags & SUSPECT != 0;
    if suspect && place == Place::Pending {
        place = Place::Suspect;
    }
    Ok(KeptJob { job: read(reader.0)?, place, parked, suspect, run })
}

/// A run as it is kept.
pub fn run(record: &RunRecord) -> Vec<u8> {
    let mut bytes = record.rev.to_be_bytes().to_vec();
    let state = RunState::ALL.iter().position(|state| *state == record.state).unwrap_or(0);
    bytes.push(state as u8);
    bytes.push(record.workflow.as_str().len() as u8);
    bytes.extend_from_slice(record.workflow.as_str().as_bytes());
    bytes.extend_from_slice(&record.body);
    bytes
}

/// Reads a kept run.
///
/// # Errors
/// [`StoreError::Corrupt`].
pub fn read_run(id: RunId, bytes: &[u8]) -> Result<RunRecord> {
    let mut reader = Reader(bytes);
    let rev = reader.u64()?;
    let state = RunState::ALL.get(usize::from(reader.u8()?)).copied().ok_or_else(|| corrupt("a run's state"))?;
    let workflow = reader.name()?;
    Ok(RunRecord { id, workflow, state, rev, body: reader.0.to_vec() })
}

/// Settings of a queue: first what scripts must know (paused, limit), then all.
///
/// # Errors
/// As [`job`].
pub fn settings(settings: &QueueSettings) -> Result<Vec<u8>> {
    let mut bytes = vec![u8::from(settings.paused)];
    if let Some(limit) = settings.concurrency {
        bytes[0] |= LIMITED;
        bytes.extend_from_slice(&limit.to_be_bytes());
    }
    bytes.extend(codec::encode(settings)?);
    Ok(bytes)
}

/// Reads settings; of a queue that nobody has set there is one byte.
///
/// # Errors
/// [`StoreError::Corrupt`].
pub fn read_settings(bytes: &[u8]) -> Result<QueueSettings> {
    let is_limited = bytes.first().is_some_and(|flags| flags & LIMITED != 0);
    match bytes.get(if is_limited { 5 } else { 1 }..) {
        None | Some([]) => Ok(QueueSettings::default()),
        Some(bytes) => codec::decode(bytes),
    }
}

/// A schedule as it is kept behind its revision.
pub fn schedule(due: Option<Ms>, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![u8::from(due.is_some())];
    bytes.extend_from_slice(&due.map_or(0, |due| due.0).to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// Reads a kept schedule.
///
/// # Errors
/// [`StoreError::Corrupt`].
pub fn read_schedule(name: Name, bytes: &[u8]) -> Result<ScheduleRecord> {
    let mut reader = Reader(bytes);
    let rev = reader.u64()?;
    let has_due = reader.u8()? == 1;
    let due = Some(reader.ms()?).filter(|_| has_due);
    Ok(ScheduleRecord { name, rev, due, body: reader.0.to_vec() })
}

/// A lease as `running` keeps it.
pub struct KeptLease {
    pub lease: Lease,
    pub queue: Name,
}

/// Reads a lease.
///
/// # Errors
/// [`StoreError::Corrupt`].
pub fn read_lease(bytes: &[u8]) -> Result<KeptLease> {
    let mut reader = Reader(bytes);
    let worker = WorkerId::from_bytes(reader.id()?);
    let epoch = Epoch(reader.u64()?);
    let _expires = reader.ms()?;
    let since = reader.ms()?;
    let end = reader.0.iter().position(|byte| *byte == 0).unwrap_or(reader.0.len());
    let queue = reader.text(end)?.parse().map_err(|_| corrupt("a lease's queue"))?;
    Ok(KeptLease { lease: Lease { worker, epoch, since }, queue })
}

/// Reads the progress that was noted under a lease; one of an earlier lease is none.
///
/// # Errors
/// [`StoreError::Corrupt`].
pub fn read_progress(bytes: Option<&[u8]>, lease: Epoch) -> Result<Option<Progress>> {
    let Some(bytes) = bytes else { return Ok(None) };
    let mut reader = Reader(bytes);
    if reader.u64()? == lease.0 { codec::decode(reader.0).map(Some) } else { Ok(None) }
}

/// A key with its length before and a zero behind, so that no key is the beginning of another.
pub fn key(text: &str) -> Vec<u8> {
    let mut bytes = (text.len().min(usize::from(u16::MAX)) as u16).to_be_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0);
    bytes
}

const E_JOB: u8 = 1;
const E_RUN: u8 = 2;
const E_STEP: u8 = 4;
const E_QUEUE: u8 = 8;
const E_WORKER: u8 = 16;
const E_ATTEMPT: u8 = 32;
const E_DATA: u8 = 64;
const E_SAME_QUEUE: u8 = 128;
/// In the byte of the kind: the worker is the record's.
const K_SAME_WORKER: u8 = 128;

/// What most events of one record share, said once.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Defaults {
    pub worker: Option<WorkerId>,
    pub queue: Option<Name>,
}

impl Defaults {
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.worker.is_some())];
        bytes.extend(self.worker.iter().flat_map(|worker| *worker.as_bytes()));
        let queue = self.queue.as_ref().map_or("", Name::as_str);
        bytes.push(queue.len() as u8);
        bytes.extend_from_slice(queue.as_bytes());
        bytes
    }

    pub fn read(reader: &mut Reader) -> Result<Self> {
        let worker = if reader.u8()? == 1 { Some(WorkerId::from_bytes(reader.id()?)) } else { None };
        let queue = if reader.0.first() == Some(&0) {
            reader.u8()?;
            None
        } else {
            Some(reader.name()?)
        };
        Ok(Defaults { worker, queue })
    }
}

/// One event.
pub fn event(event: &Event, defaults: &Defaults) -> Vec<u8> {
    let mut bytes = vec![event.kind.code(), 0];
    if let Some(job) = &event.job {
        bytes[1] |= E_JOB;
        bytes.extend_from_slice(job.as_bytes());
    }
    if let Some(run) = &event.run {
        bytes[1] |= E_RUN;
        bytes.extend_from_slice(run.as_bytes());
    }
    if let Some(step) = &event.step {
        bytes[1] |= E_STEP;
        text(&mut bytes, step);
    }
    match &event.queue {
        Some(queue) if defaults.queue.as_ref() == Some(queue) => bytes[1] |= E_SAME_QUEUE,
        Some(queue) => {
            bytes[1] |= E_QUEUE;
            bytes.push(queue.as_str().len() as u8);
            bytes.extend_from_slice(queue.as_str().as_bytes());
        }
        None => {}
    }
    match &event.worker {
        Some(worker) if defaults.worker == Some(*worker) => bytes[0] |= K_SAME_WORKER,
        Some(worker) => {
            bytes[1] |= E_WORKER;
            bytes.extend_from_slice(worker.as_bytes());
        }
        None => {}
    }
    if let Some(attempt) = event.attempt {
        bytes[1] |= E_ATTEMPT;
        if attempt < 255 {
            bytes.push(attempt as u8);
        } else {
            bytes.push(255);
            bytes.extend_from_slice(&attempt.to_be_bytes());
        }
    }
    if let Some(data) = &event.data {
        bytes[1] |= E_DATA;
        text(&mut bytes, data);
    }
    bytes
}

/// An event whose text the script adds.
pub fn event_before_text(known: &Event) -> Vec<u8> {
    let mut bytes = event(known, &Defaults::default());
    bytes[1] |= E_DATA;
    bytes
}

/// The beginning and the end of an event between which the script puts job, queue and worker.
pub fn event_around(kind: EventKind, data: &str) -> ([u8; 2], Vec<u8>) {
    let mut end = Vec::new();
    text(&mut end, data);
    ([kind.code(), E_JOB | E_QUEUE | E_WORKER | E_DATA], end)
}

/// An event whose worker the script adds.
pub fn event_before_worker(known: &Event) -> Vec<u8> {
    let mut bytes = event(known, &Defaults::default());
    bytes[1] |= E_WORKER;
    bytes
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    // Texts of events are for people: clipped, with a word about it, long before this bound.
    let clipped = crate::domain::text::clip(text, usize::from(u16::MAX) - 64);
    bytes.extend_from_slice(&(clipped.len() as u16).to_be_bytes());
    bytes.extend_from_slice(clipped.as_bytes());
}

/// Reads one event.
///
/// # Errors
/// [`StoreError::Corrupt`].
pub fn read_event(reader: &mut Reader, defaults: &Defaults, at: Ms) -> Result<Event> {
    let (kind, flags) = (reader.u8()?, reader.u8()?);
    let mut event = Event::new(EventKind::from_code(kind & 0x7f).ok_or_else(|| corrupt("an event's kind"))?);
    event.at = at;
    if flags & E_JOB != 0 {
        event.job = Some(JobId::from_bytes(reader.id()?));
    }
    if flags & E_RUN != 0 {
        event.run = Some(RunId::from_bytes(reader.id()?));
    }
    if flags & E_STEP != 0 {
        let n = usize::from(reader.u16()?);
        event.step = Some(reader.text(n)?);
    }
    if flags & E_SAME_QUEUE != 0 {
        event.queue = defaults.queue.clone();
    } else if flags & E_QUEUE != 0 {
        event.queue = Some(reader.name()?);
    }
    if kind & K_SAME_WORKER != 0 {
        event.worker = defaults.worker;
    } else if flags & E_WORKER != 0 {
        event.worker = Some(WorkerId::from_bytes(reader.id()?));
    }
    if flags & E_ATTEMPT != 0 {
        event.attempt = Some(match reader.u8()? {
            255 => u32::from_be_bytes(reader.array()?),
            short => u32::from(short),
        });
    }
    if flags & E_DATA != 0 {
        let n = usize::from(reader.u16()?);
        event.data = Some(reader.text(n)?);
    }
    Ok(event)
}

#[cfg(test)]
mod tests;
