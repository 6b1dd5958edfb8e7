//! A job as the JSON that pool processes, HTTP handlers and batches are given. One line, whatever the
//! payload holds; the payload's values stay byte for byte as they were enqueued.

use serde_json::json;

use super::Work;
use crate::domain::time::millis;

/// `{"id","type","queue","attempt","epoch","run_id","step_key","timeout_ms","payload"}`, with
/// `traceparent` where the job belongs to a trace.
pub(super) fn job(work: &Work) -> String {
    let mut about = json!({
        "id": work.job.to_string(),
        "type": work.kind.as_str(),
        "queue": work.queue.as_str(),
        "attempt": work.attempt,
        "epoch": work.epoch.0,
        "run_id": work.run.map(|run| run.to_string()),
        "step_key": work.step_key,
        "timeout_ms": work.timeout.map(millis),
    });
    if let Some(trace) = &work.trace {
        about["traceparent"] = json!(trace);
    }
    let mut text = about.to_string();
    // Between the last value and the brace.
    text.truncate(text.len() - 1);
    text.push_str(",\"payload\":");
    text.push_str(&one_line(work.payload.as_str()));
    text.push('}');
    text
}

/// `[JOB, JOB, …]`.
pub(super) fn jobs(works: &[Work]) -> String {
    let jobs: Vec<String> = works.iter().map(job).collect();
    format!("[{}]", jobs.join(","))
}

/// In JSON a bare line break stands between values only, where a space means the same.
fn one_line(json: &str) -> std::borrow::Cow<'_, str> {
    if json.contains(['\n', '\r']) { json.replace(['\n', '\r'], " ").into() } else { json.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_one_line_and_its_payload_is_untouched() {
        let payload = "{\r\n \"a\": 1.50,\n \"b\": \"x\\ny\u{2028}\"}";
        let work = super::super::tests::work(payload);
        let text = job(&work);
        assert!(!text.contains(['\n', '\r']), "{text}");
        assert!(text.ends_with(",\"payload\":{   \"a\": 1.50,  \"b\": \"x\\ny\u{2028}\"}}"), "{text}");
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((&value["type"], &value["attempt"], &value["epoch"]), (&"send_email".into(), &2.into(), &41.into()));
        assert_eq!(value["payload"]["b"], "x\ny\u{2028}");
        let both: serde_json::Value = serde_json::from_str(&jobs(&[work.clone(), work])).expect("JSON");
        assert_eq!(both.as_array().map(Vec::len), Some(2));
    }
}
