//! A pool's processes: what they are told, what their answers mean, and that whatever goes wrong in
//! one is the end of that one and of nothing else.

use super::*;
use crate::workflow::PoolSpec;

/// Answers each line by what its payload says, one word.
const SCRIPT: &str = r#"
import json, os, sys, time
def say(value):
    sys.stdout.write(json.dumps(value) + "\n"); sys.stdout.flush()
for line in sys.stdin:
    job = json.loads(line)
    if "batch" in job:
        for one in reversed(job["batch"]):
            say({"id": one["id"], "result": one["payload"]} if one["payload"] != "fail" else {"id": one["id"], "error": "no"})
        continue
    id, do = job["id"], job["payload"]
    if do == "pid": say({"id": id, "result": os.getpid()})
    elif do == "job": say({"id": id, "result": job})
    elif do == "env": say({"id": id, "result": dict(os.environ)})
    elif do == "bury": say({"id": id, "error": "bad address", "retry": False})
    elif do == "later": say({"id": id, "error": "busy", "delay_ms": 90000})
    elif do == "die": sys.stderr.write("out of luck\n"); sys.exit(3)
    elif do == "kill": os.kill(os.getpid(), 9)
    elif do == "quit": sys.exit(0)
    elif do == "garbage": say({"id": id}); time.sleep(600)
    elif do == "chatter": print("debugging"); say({"id": "00000000-0000-7000-8000-000000000000", "result": 1}); say({"id": id, "result": "ok"})
    elif do == "progress":
        say({"id": id, "progress": {"percent": 40, "message": "half way"}}); say({"id": id, "result": None})
    elif isinstance(do, dict) and "sleep" in do:
        os.system("setsid sleep %s & sleep %s" % (do["sleep"], do["sleep"])); say({"id": id, "result": 1})
    else: say({"id": id, "result": do})
"#;

#[derive(Debug, Default)]
struct Kept(Mutex<Vec<Progress>>);

impl Notes for Kept {
    fn progress(&self, progress: Progress) {
        self.0.lock().expect("lock").push(progress);
    }
}

fn pool(bench: &Bench, size: u32, concurrency: u32) -> Arc<Pool> {
    let program = Program::Argv(["python3", "-u", "-c", SCRIPT].map(str::to_owned).to_vec());
    let env = vec![("GREETING".to_owned(), "$(hello)".to_owned())];
    let spec = PoolSpec { program, env, size: Some(size), concurrency };
    Arc::new(Pool::new("send_email".parse().expect("a name"), &spec, &bench.context))
}

/// A job with its own id.
fn job(payload: &str) -> Work {
    static NEXT: AtomicU64 = AtomicU64::new(100);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    Work { job: JobId::from_parts(Ms(1_700_000_000_000), Shard(0), number), ..work(payload) }
}

async fn ask(bench: &Bench, pool: &Arc<Pool>, work: Work) -> Ended {
    let action = Action::Pool(pool.clone());
    tokio::time::timeout(PATIENCE, perform(&action, &work, &bench.context, &bench.stop)).await.expect("in time")
}

async fn result(bench: &Bench, pool: &Arc<Pool>, payload: &str) -> serde_json::Value {
    match ask(bench, pool, job(payload)).await {
        Ended::Outcome(Outcome::Completed { result: Some(json) }) => json.to_value(),
        other => panic!("{payload}: {other:?}"),
    }
}

async fn failure(bench: &Bench, pool: &Arc<Pool>, work: Work) -> (JobError, RetryHint) {
    match ask(bench, pool, work).await {
        Ended::Outcome(Outcome::Failed { error, retry }) => (error, retry),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn one_process_does_many_jobs_and_is_told_all_about_each() {
    let bench = Bench::new(Containment::Cgroup);
    let pool = pool(&bench, 1, 1);
    let pid = result(&bench, &pool, "\"pid\"").await;
    assert_eq!(result(&bench, &pool, "\"pid\"").await, pid);
    let hostile = Json::string("-rf $(id) ' \" \n\r\t\u{1b}[31m \u{9b} \u{202e} ${{ 7*7 }} \u{0} é🦀");
    assert_eq!(result(&bench, &pool, hostile.as_str()).await, hostile.to_value());
    let told = result(&bench, &pool, "\"job\"").await;
    let keys: Vec<&str> = told.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(keys.join(" "), "id type queue attempt epoch run_id step_key timeout_ms payload");
    let env = result(&bench, &pool, "\"env\"").await;
    assert_eq!((&env["GREETING"], &env["GOFLOW_JOB_TYPE"]), (&"$(hello)".into(), &"send_email".into()));
    assert!(env["GOFLOW_POOL"].is_string() && env.get("SECRET").is_none(), "{env}");
    pool.close().await;
}

#[tokio::test]
async fn answers_say_how_a_job_ended() {
    let bench = Bench::new(Containment::Cgroup);
    let pool = pool(&bench, 1, 1);
    let (error, hint) = failure(&bench, &pool, job("\"bury\"")).await;
    assert_eq!((error.to_string().as_str(), hint), ("error: bad address", RetryHint::Never));
    let (_, hint) = failure(&bench, &pool, job("\"later\"")).await;
    assert_eq!(hint, RetryHint::NotBefore(Duration::from_secs(90)));
    let kept = Arc::new(Kept::default());
    let ended = ask(&bench, &pool, Work { notes: kept.clone(), ..job("\"progress\"") }).await;
    assert_eq!(ended, Ended::Outcome(Outcome::Completed { result: None }));
    assert_eq!(*kept.0.lock().expect("lock"), [Progress::new(Some(40.0), "half way")]);
    assert_eq!(result(&bench, &pool, "\"chatter\"").await, "ok");
    assert_eq!(bench.sink.stream(Stream::Stdout), b"debugging\n");
    pool.close().await;
}

#[tokio::test]
async fn a_process_that_dies_fails_its_job_and_the_next_gets_another() {
    let bench = Bench::new(Containment::Cgroup);
    let pool = pool(&bench, 1, 1);
    let mut pids = vec![result(&bench, &pool, "\"pid\"").await];
    for (payload, class, part) in [
        ("\"die\"", "exit:3", "its process ended before it answered: exit status 3: out of luck"),
        ("\"kill\"", "signal:9", "its process ended before it answered: killed by SIGKILL"),
        ("\"quit\"", "pool", "its process ended before it answered"),
        ("\"garbage\"", "protocol", "one of `result`, `error`"),
    ] {
        let (error, hint) = failure(&bench, &pool, job(payload)).await;
        assert_eq!((error.class.as_str(), hint), (class, RetryHint::Policy), "{error}");
        assert!(error.message.contains(part), "{error}");
        pids.push(result(&bench, &pool, "\"pid\"").await);
    }
    let different: std::collections::BTreeSet<String> = pids.iter().map(ToString::to_string).collect();
    assert_eq!(different.len(), pids.len(), "{pids:?}");
    pool.close().await;
}

#[tokio::test]
async fn one_process_death_harms_no_job_in_another() {
    let bench = Bench::new(Containment::Cgroup);
    let pool = pool(&bench, 2, 1);
    let slow = job("{\"sleep\": 1}");
    let both = tokio::join!(ask(&bench, &pool, slow), failure(&bench, &pool, job("\"kill\"")));
    assert!(matches!(both.0, Ended::Outcome(Outcome::Completed { .. })), "{:?}", both.0);
    assert_eq!(both.1.0.class, "signal:9");
    pool.close().await;
}

#[tokio::test]
async fn a_time_out_and_a_stop_end_the_whole_tree_of_the_process() {
    for containment in [Containment::Cgroup, Containment::Walk] {
        let bench = Bench::with(containment, Parentage::Shared, Duration::from_millis(200));
        let pool = pool(&bench, 1, 1);
        let nap = long_nap();
        let limited = Work { timeout: Some(Duration::from_secs(3)), ..job(&format!("{{\"sleep\": \"{nap}\"}}")) };
        let (ended, ()) =
            tokio::join!(failure(&bench, &pool, limited), until("two sleep", || sleepers(&nap).len() == 2),);
        assert_eq!((ended.0.class.as_str(), ended.1), ("timeout", RetryHint::Policy));
        assert_eq!(sleepers(&nap), [] as [i32; 0]);
        assert_eq!(result(&bench, &pool, "\"next\"").await, "next");
        let stop = CancellationToken::new();
        let work = job(&format!("{{\"sleep\": \"{nap}\"}}"));
        let action = Action::Pool(pool.clone());
        let (ended, ()) = tokio::join!(perform(&action, &work, &bench.context, &stop), async {
            until("two sleep", || sleepers(&nap).len() == 2).await;
            stop.cancel();
        });
        assert_eq!(ended, Ended::Stopped);
        assert_eq!(sleepers(&nap), [] as [i32; 0]);
        pool.close().await;
    }
}

#[tokio::test]
async fn a_pool_that_is_full_lets_jobs_wait_within_their_time() {
    let bench = Bench::with(Containment::Cgroup, Parentage::Shared, Duration::from_millis(200));
    let pool = pool(&bench, 1, 1);
    let long = job("{\"sleep\": 600}");
    let brief = Work { timeout: Some(Duration::from_millis(300)), ..job("\"x\"") };
    let stop = CancellationToken::new();
    let action = Action::Pool(pool.clone());
    let (first, second) = tokio::join!(perform(&action, &long, &bench.context, &stop), async {
        until("the first runs", || pool.idle() == 0).await;
        let second = failure(&bench, &pool, brief).await;
        stop.cancel();
        second
    });
    assert_eq!(first, Ended::Stopped);
    assert_eq!((second.0.class.as_str(), second.1), ("timeout", RetryHint::Uncounted));
    assert!(second.0.message.contains("raise its `size`"), "{}", second.0);
    pool.close().await;
}

#[tokio::test]
async fn a_batch_is_one_line_and_each_job_is_answered() {
    let bench = Bench::new(Containment::Cgroup);
    let pool = pool(&bench, 1, 1);
    let works: Vec<Work> = ["1.50", "\"fail\"", "{\"a\": [\"\\n\"]}"].into_iter().map(job).collect();
    let ended = perform_batch(&Action::Pool(pool.clone()), &works, &bench.context, &bench.stop).await;
    let told: Vec<String> = ended
        .iter()
        .map(|ended| match ended {
            Ended::Outcome(Outcome::Completed { result }) => result.as_ref().expect("a result").to_string(),
            Ended::Outcome(Outcome::Failed { error, .. }) => error.to_string(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, ["1.5", "error: no", "{\"a\": [\"\\n\"]}"]);
    pool.close().await;
}

#[tokio::test]
async fn a_process_with_room_is_given_several_jobs_at_once() {
    let bench = Bench::new(Containment::Cgroup);
    let script = r#"
import json, sys
first, second = (json.loads(sys.stdin.readline()) for _ in range(2))
for job in (second, first): print(json.dumps({"id": job["id"], "result": job["payload"]}), flush=True)
sys.stdin.read()
"#;
    let program = Program::Argv(["python3", "-c", script].map(str::to_owned).to_vec());
    let spec = PoolSpec { program, env: Vec::new(), size: Some(1), concurrency: 2 };
    let pool = Arc::new(Pool::new("x".parse().expect("a name"), &spec, &bench.context));
    let both = tokio::join!(result(&bench, &pool, "1"), result(&bench, &pool, "2"));
    assert_eq!(both, (1.into(), 2.into()));
    pool.close().await;
}

#[tokio::test]
async fn closing_lets_a_process_end_by_itself() {
    let bench = Bench::new(Containment::Cgroup);
    let nap = long_nap();
    let folder = tempfile::tempdir().expect("a folder");
    let last = folder.path().join("last");
    let script = format!(
        "setsid sleep {nap} & while read -r line; do id=${{line#*:\\\"}}; id=${{id%%\\\"*}}; \
         echo \"{{\\\"id\\\":\\\"$id\\\",\\\"result\\\":1}}\"; done; echo bye > {}",
        last.display()
    );
    let spec = PoolSpec { program: Program::Shell(script), env: Vec::new(), size: Some(1), concurrency: 1 };
    let pool = Arc::new(Pool::new("x".parse().expect("a name"), &spec, &bench.context));
    assert_eq!(result(&bench, &pool, "1").await, 1);
    until("what it started lives between jobs", || sleepers(&nap).len() == 1).await;
    pool.close().await;
    assert_eq!(std::fs::read_to_string(&last).expect("it had its last word"), "bye\n");
    assert_eq!(sleepers(&nap), [] as [i32; 0]);
}

#[tokio::test]
async fn a_dropped_pool_leaves_nothing() {
    let bench = Bench::new(Containment::Cgroup);
    let pool = pool(&bench, 1, 1);
    let pid = result(&bench, &pool, "\"pid\"").await.as_i64().expect("a number") as i32;
    let born = crate::sys::procfs::one(pid).expect("alive");
    drop(pool);
    until("it ended", || crate::sys::procfs::one(pid).is_none_or(|one| one.started != born.started)).await;
}

#[tokio::test]
async fn a_program_that_cannot_start_fails_its_jobs_and_is_tried_again() {
    let bench = Bench::new(Containment::Cgroup);
    let program = Program::Argv(vec!["no-such-program".to_owned()]);
    let spec = PoolSpec { program, env: Vec::new(), size: Some(1), concurrency: 1 };
    let pool = Arc::new(Pool::new("x".parse().expect("a name"), &spec, &bench.context));
    for _ in 0..2 {
        let (error, hint) = failure(&bench, &pool, job("1")).await;
        assert_eq!((error.class.as_str(), hint), ("spawn", RetryHint::Policy), "{error}");
    }
    // It is waited longer each time; who is stopped meanwhile is gone at once.
    let stop = CancellationToken::new();
    stop.cancel();
    assert_eq!(perform(&Action::Pool(pool.clone()), &job("1"), &bench.context, &stop).await, Ended::Stopped);
    pool.close().await;
}

#[tokio::test]
async fn a_command_takes_a_batch_on_its_input() {
    let bench = Bench::new(Containment::Cgroup);
    let script = "import json,os,sys; jobs=json.load(sys.stdin); assert os.environ['GOFLOW_BATCH']==str(len(jobs)); \
                  print(json.dumps([job['payload'] for job in jobs]))";
    let command = Command { outputs: Some(Outputs::Json), ..argv(["python3", "-c", script]) };
    let works: Vec<Work> = ["1", "\"\\u001b$(id)\"", "null"].into_iter().map(job).collect();
    let ended = perform_batch(&Action::Command(command), &works, &bench.context, &bench.stop).await;
    let results: Vec<Option<serde_json::Value>> = ended
        .into_iter()
        .map(|ended| match ended {
            Ended::Outcome(Outcome::Completed { result }) => result.map(|json| json.to_value()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(results, [Some(1.into()), Some("\u{1b}$(id)".into()), None]);
    let ended = perform_batch(&Action::Command(sh("exit 65")), &works, &bench.context, &bench.stop).await;
    assert!(ended.len() == 3 && ended.iter().all(|one| *one == ended[0]), "{ended:?}");
}
