//! `/metrics`: the whole store, whichever server is asked.

use std::collections::BTreeMap;

use serde_json::json;

use super::Site;
use crate::cli::TestEnvironment;

/// The samples, by name and labels.
fn samples(site: &Site) -> BTreeMap<String, f64> {
    let page = site.get("/metrics");
    assert_eq!(page.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = page.text();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line}")))
        })
        .collect()
}

#[test]
fn counters_agree_over_servers_and_survive_them() {
    agree(TestEnvironment::new());
    let redis = crate::servers::redis::Server::start(&[]);
    let mut env = TestEnvironment::new();
    env.set("GOFLOW_STORE", &redis.url());
    agree(env);
}

fn agree(env: TestEnvironment) {
    let site = Site::of(env, &[]);
    for _ in 0..7 {
        site.post("/tasks", &json!({"type": "echo"})).expect(201);
    }
    site.post("/tasks", &json!({"type": "fail", "payload": {"retry": false}})).expect(201);
    assert_eq!(samples(&site)["goflow_queue_depth{queue=\"default\"}"], 8.0);
    site.work();
    let completed = "goflow_jobs_completed_total{queue=\"default\",type=\"echo\"}";
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while samples(&site).get(completed) != Some(&7.0) {
        assert!(std::time::Instant::now() < end, "{:#?}", samples(&site));
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let other = site.beside(&[]);
    let (one, two) = (samples(&site), samples(&other));
    for name in [
        completed,
        "goflow_jobs_failed_total{queue=\"default\",type=\"fail\"}",
        "goflow_job_duration_seconds_count{queue=\"default\",type=\"echo\"}",
        "goflow_job_duration_seconds_bucket{queue=\"default\",type=\"echo\",le=\"+Inf\"}",
        "goflow_job_wait_seconds_count{queue=\"default\",type=\"echo\"}",
        "goflow_dlq_size{queue=\"default\"}",
        "goflow_workers_active",
        "goflow_schedule_lag_seconds",
        "goflow_leases_lost_total{queue=\"default\",type=\"echo\"}",
    ] {
        assert_eq!(one.get(name), two.get(name), "{name}");
        assert!(one.contains_key(name), "{name}: {one:#?}");
    }
    assert_eq!(one["goflow_jobs_failed_total{queue=\"default\",type=\"fail\"}"], 1.0);
    assert_eq!(one["goflow_dlq_size{queue=\"default\"}"], 1.0);
    assert!(one["goflow_store_latency_seconds"] > 0.0);
    drop(other);
    assert_eq!(samples(&site)[completed], 7.0);
}
