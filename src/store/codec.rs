//! Records as bytes: MessagePack maps with short keys, so that a record written by an older goflow
//! reads in a newer one. Every backend keeps the same bytes.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::contract::{Result, StoreError};
use crate::domain::{Job, JobId, Link, Name};

/// What stands for a type or a queue that cannot be read.
const UNREADABLE: &str = "unreadable";

/// A record's bytes.
///
/// # Errors
/// Never for goflow's own types; [`StoreError::Corrupt`] for one that MessagePack cannot express.
pub fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>> {
    rmp_serde::to_vec_named(record).map_err(|error| StoreError::Corrupt(format!("a record cannot be written: {error}")))
}

/// Reads a record back.
///
/// # Errors
/// [`StoreError::Corrupt`] if the bytes are not such a record.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    rmp_serde::from_slice(bytes).map_err(|error| StoreError::Corrupt(format!("a record cannot be read: {error}")))
}

/// Reads a job for somebody who works or looks. One that cannot be read comes as
/// [`Job::unreadable`] with what can still be told of it: it must not keep the others of an answer
/// from their readers. Where the record does not even tell its queue, [`is_lost`] says so, and the
/// store must fill in what it knows.
pub fn read_job(id: JobId, bytes: &[u8]) -> Job {
    let kept = match decode_job(id, bytes) {
        Ok(kept) => kept,
        Err(error) => return unreadable(id, bytes.to_vec(), &error),
    };
    // Set apart before: this goflow may be able to read it.
    match kept.raw.as_ref().map(|raw| decode_job(id, raw)) {
        Some(Ok(job)) => Job {
            queue: kept.queue,
            rev: kept.rev,
            error: kept.error,
            updated_at: kept.updated_at,
            finished_at: kept.finished_at,
            history: kept.history,
            ..job
        },
        Some(Err(_)) | None => kept,
    }
}

/// Whether neither the job's queue nor anything else of it could be read.
pub fn is_lost(job: &Job) -> bool {
    job.raw.is_some() && job.queue.as_str() == UNREADABLE
}

/// What the record tells as long as it is MessagePack at all.
#[derive(Deserialize)]
struct Head {
    t: Option<Name>,
    q: Name,
    #[serde(default)]
    n: i8,
    #[serde(default)]
    v: u32,
    #[serde(default)]
    u: Option<String>,
    #[serde(default)]
    o: Option<u64>,
    #[serde(default)]
    l: Option<Link>,
}

fn unreadable(id: JobId, raw: Vec<u8>, why: &StoreError) -> Job {
    let name = || Name::literal(UNREADABLE);
    match rmp_serde::from_slice::<Head>(&raw) {
        Err(_) => Job::unreadable(id, name(), name(), raw, why.to_string()),
        Ok(Head { t, q, n, v, u, o, l }) => Job {
            priority: n,
            rev: v,
            unique_key: u,
            timeout_ms: o,
            link: l,
            ..Job::unreadable(id, t.unwrap_or_else(name), q, raw, why.to_string())
        },
    }
}

/// Reads a job strictly: the id is the record's key and not in its bytes.
pub fn decode_job(id: JobId, bytes: &[u8]) -> Result<Job> {
    let mut job: Job = rmp_serde::from_slice(bytes)
        .map_err(|error| StoreError::Corrupt(format!("job {id} cannot be read: {error}")))?;
    job.id = id;
    Ok(job)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Json, Ms};

    #[test]
    fn a_plain_job_costs_few_bytes_beyond_its_payload() {
        let payload = Json::string(&"x".repeat(198));
        let id = JobId::from_parts(Ms(1_770_000_000_000), Default::default(), 5);
        let name = |text: &str| text.parse().expect("a name");
        let job = Job::new(id, name("noop"), name("default"), payload);
        let bytes = encode(&job).expect("encodes");
        assert!(bytes.len() <= 200 + 24, "{} bytes", bytes.len());
        assert_eq!(decode_job(id, &bytes).expect("decodes"), job);
    }

    #[test]
    fn a_job_that_cannot_be_read_keeps_its_bytes_until_somebody_can() {
        let id = JobId::from_parts(Ms(1_770_000_000_000), Default::default(), 5);
        let name = |text: &str| text.parse().expect("a name");
        let mut job = Job::new(id, name("mail"), name("post"), Json::null());
        job.rev = 7;
        let good = encode(&job).expect("encodes");
        // As a later version might write it: a retry policy of another shape.
        #[derive(Serialize)]
        struct Later {
            t: &'static str,
            q: &'static str,
            v: u32,
            y: &'static str,
        }
        let later = encode(&Later { t: "mail", q: "post", v: 7, y: "soon" }).expect("encodes");
        let set_apart = read_job(id, &later);
        assert_eq!((set_apart.kind.as_str(), set_apart.queue.as_str(), set_apart.rev), ("mail", "post", 7));
        assert_eq!(set_apart.error.as_ref().map(|error| error.class.as_str()), Some("unreadable"));
        assert!(!is_lost(&set_apart));
        // Kept, it is still the same bytes; and again after being kept once more.
        let kept = encode(&set_apart).expect("encodes");
        assert_eq!(read_job(id, &kept), set_apart);
        // A record of which nothing can be read has lost its queue too.
        let mut lost = read_job(id, &[0xc1]);
        assert!(is_lost(&lost) && lost.raw.as_deref() == Some(&[0xc1][..]));
        lost.queue = name("post");
        assert_eq!(read_job(id, &encode(&lost).expect("encodes")), lost);
        // And one that was set apart by an older goflow comes back whole.
        let older = Job { rev: 9, ..Job::unreadable(id, name("mail"), name("post"), good, "too new") };
        let back = read_job(id, &encode(&older).expect("encodes"));
        assert_eq!(back, Job { rev: 9, error: older.error, ..job });
    }
}
