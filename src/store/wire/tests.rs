//! What goes over the wire comes out as it went in, and what does not fit is told.

use super::*;
use crate::domain::{Epoch, EventKind, Json, Ms, Name, Shard};
use crate::store::contract::*;

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn round<T: Serialize + DeserializeOwned>(message: &T) -> T {
    decode(&encode(message).expect("it is written")).expect("it is read")
}

#[test]
fn every_error_comes_back_as_it_was() {
    let errors = [
        StoreError::Unavailable("a".into()),
        StoreError::Unknown("b".into()),
        StoreError::Full("c".into()),
        StoreError::Refused("d".into()),
        StoreError::TooNew { found: 9, known: 3 },
        StoreError::Corrupt("e".into()),
    ];
    for error in errors {
        assert_eq!(round(&error), error);
    }
}

#[test]
fn what_a_record_leaves_out_travels_beside_it() {
    let id = JobId::from_parts(Ms(1_770_000_000_000), Shard(7), 5);
    let job = Job::new(id, name("mail"), name("post"), Json::null());
    let odd = Job::unreadable(id, name("x"), name("y"), vec![0xc1, 0, 255], "it is not a job");
    let claimed = [job, odd].map(|job| Claimed { job, epoch: Epoch(3), run: None }).to_vec();
    let answer = Exchanged { claimed, ..Exchanged::default() };
    assert_eq!(round(&answer), answer);
    let event = Event { at: Ms(42), job: Some(id), ..Event::new(EventKind::JobDead) };
    let page = (vec![event], Cursor("c".into()));
    assert_eq!(<(Vec<Event>, Cursor)>::from(round(&DatedPage::from(page.clone()))), page);
}

fn record(n: u64, body: Vec<u8>) -> RunRecord {
    let id = crate::domain::RunId::from_parts(Ms(1), Shard(0), n);
    RunRecord { id, workflow: name("w"), state: crate::domain::RunState::Running, rev: 1, body }
}

#[test]
fn steps_of_one_run_travel_with_one_header() {
    let large = |n| std::sync::Arc::new(record(n, vec![n as u8; 10_000]));
    let runs = [Some(large(1)), None, Some(large(2))];
    let claim = |nth: usize| {
        let id = JobId::from_parts(Ms(1), Shard(0), nth as u64);
        let job = Job::new(id, name("mail"), name("post"), Json::null());
        Claimed { job, epoch: Epoch(nth as u64), run: runs[nth % 3].clone() }
    };
    let answer = Exchanged { claimed: (0..60).map(claim).collect(), ..Exchanged::default() };
    let encoded = encode(&answer).expect("it is written");
    assert!((20_000..40_000).contains(&encoded.len()), "{} bytes", encoded.len());
    let back: Exchanged = decode(&encoded).expect("it is read");
    assert_eq!(back, answer);
    let of = |nth: usize| back.claimed[nth].run.clone().expect("a run");
    assert!(std::sync::Arc::ptr_eq(&of(0), &of(3)) && !std::sync::Arc::ptr_eq(&of(0), &of(2)));
}

#[test]
fn a_step_of_a_run_that_was_left_out_is_refused() {
    let step = (JobId::default(), Job::new(JobId::default(), name("a"), name("b"), Json::null()), Epoch(1), Some(7));
    let bytes = encode(&(Vec::<RunRecord>::new(), vec![step])).expect("it is written");
    let mut from = rmp_serde::Deserializer::from_read_ref(&bytes);
    let error = claimed::deserialize(&mut from).expect_err("there is none");
    assert_eq!(error.to_string(), "a step of a run that is not there");
}

#[test]
fn bytes_take_up_their_own_room() {
    let body = vec![200u8; 10_000];
    let encoded = encode(&body).expect("it is written");
    assert!(encoded.len() < 10_010, "{} bytes", encoded.len());
    assert_eq!(decode::<Vec<u8>>(&encoded), Ok(body));
}

#[test]
fn calls_are_found_by_their_names() {
    for call in Call::ALL {
        assert_eq!(Call::parse(call.as_str()), Some(*call));
    }
    assert_eq!(Call::parse("Enqueue"), None);
    assert!(Call::ALL.iter().all(|call| call.as_str() != HINTS));
}

#[test]
fn another_protocol_is_named() {
    assert_eq!(same_protocol(Some("2"), None), Ok(()));
    let foreign = same_protocol(Some("1"), Some("0.0.9")).expect_err("another one");
    assert_eq!(foreign.to_string(), format!("it speaks protocol 1 (goflow 0.0.9), this goflow {VERSION} speaks 2"));
    assert!(same_protocol(None, None).is_err());
}

#[test]
fn what_nests_without_end_is_refused() {
    let deep = [vec![0x91; 5_000], vec![0xc0]].concat();
    assert!(decode::<Exchange>(&deep).is_err());
    // As runs that start runs.
    let mut run = NewRun::from(Effects::of(record(0, vec![])));
    for n in 1..60 {
        run = NewRun::from(Effects { runs: vec![run], ..Effects::of(record(n, vec![])) });
    }
    assert!(decode::<NewRun>(&encode(&run).expect("it is written")).is_err());
}
