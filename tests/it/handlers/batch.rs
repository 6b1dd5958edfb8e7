//! Batches: a handler of every kind is given several jobs at once, and each job gets its own result.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use goflow::{Batching, Client, Failure, Job, Worker};
use serde_json::json;

use super::enqueue_numbers;
use crate::cli::TestEnvironment;
use crate::servers::http::{HttpServer, Reply};

const HANDLERS: &str = r#"handlers:
  run:
    run: [python3, -c, "import json, os, sys; jobs = json.load(sys.stdin); print(json.dumps([[job['payload'], len(jobs), os.environ['GOFLOW_BATCH']] for job in jobs]))"]
    outputs: json
    batch: {max: 4, within: 10s}
  pool:
    pool: |
      exec python3 -u -c '
      import json, sys
      for line in sys.stdin:
          jobs = json.loads(line)["batch"]
          print(json.dumps({"batch": [{"id": job["id"], "result": [job["payload"], len(jobs), "4"]} for job in jobs]}))
      '
    batch: {max: 4, within: 10s}
  http:
    http: {url: "URL"}
    batch: {max: 4, within: 10s}
  late:
    run: [sh, -c, "test $GOFLOW_BATCH = 3"]
    batch: {max: 4, within: 200ms}
"#;

#[test]
fn batches_arrive_whole_and_each_job_gets_its_result() {
    let server = HttpServer::start(|_, asked| {
        let jobs = asked.json();
        let jobs = jobs.as_array().expect("a list");
        let results: Vec<_> = jobs.iter().map(|job| json!([job["payload"], jobs.len(), "4"])).collect();
        Reply::json(&json!(results).to_string())
    });
    let env = TestEnvironment::new();
    env.file("goflow.yaml", HANDLERS.replace("URL", &server.url("/")));
    for kind in ["run", "pool", "http"] {
        enqueue_numbers(&env, kind, 8);
    }
    enqueue_numbers(&env, "late", 3);
    env.run("worker -c 30 --until-empty").ok();
    let jobs = env.run("job list -n 0 -o json").ok().json();
    for job in jobs.as_array().expect("a list") {
        assert_eq!(job["state"], "completed", "{job}");
        if job["type"] != "late" {
            assert_eq!(job["result"], json!([job["payload"], 4, "4"]), "{job}");
        }
    }
    let asked = server.asked();
    assert_eq!(asked.len(), 2, "eight jobs in two requests");
    assert_eq!((asked[0].header("goflow-batch"), asked[0].header("idempotency-key")), (Some("4"), None));
}

#[tokio::test]
async fn a_function_of_batches_answers_for_each_job() {
    let client = Client::connect("memory:").await.expect("a store");
    let mut ids = Vec::new();
    for payload in [json!(1), json!(2), json!("no number"), json!(3)] {
        ids.push(client.job("sum").payload(&payload).max_retries(0).enqueue().await.expect("kept"));
    }
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let seen = sizes.clone();
    let batching = Batching { max: 4, within: Duration::from_secs(10) };
    Worker::new(&client)
        .handle_batch("sum", batching, move |jobs: Vec<Job<i64>>| {
            seen.lock().expect("lock").push(jobs.len());
            async move {
                jobs.into_iter()
                    .map(|job| if job.payload == 2 { Err(Failure::bury("two")) } else { Ok(job.payload * 10) })
                    .collect()
            }
        })
        .until_empty()
        .run()
        .await
        .expect("it works");
    assert_eq!(*sizes.lock().expect("lock"), [3], "one batch, without the payload that does not fit");
    assert_eq!(client.wait::<i64>(ids[0]).await.expect("a result"), 10);
    assert!(client.wait::<i64>(ids[1]).await.is_err_and(|error| error.to_string().contains("two")));
    assert!(client.wait::<i64>(ids[2]).await.is_err_and(|error| error.to_string().contains("payload")));
    assert_eq!(client.wait::<i64>(ids[3]).await.expect("a result"), 30);
}
