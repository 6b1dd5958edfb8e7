//! Records as bytes: MessagePack maps with short keys, so that a record written by an older goflow
//! reads in a newer one. Every backend keeps the same bytes.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::contract::{Result, StoreError};
use crate::domain::{Job, JobId};

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

/// Reads a job: the id is the record's key and not in its bytes.
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
}
