//! What is packed is read back, and what cannot be read is told.

use super::*;

#[test]
fn events_come_back_as_they_went_in() {
    let full = Event {
        kind: EventKind::JobDead,
        at: Ms(7),
        job: Some(JobId::from_bytes([1; 16])),
        run: Some(RunId::from_bytes([2; 16])),
        step: Some("charge".into()),
        queue: "default".parse().ok(),
        worker: Some(WorkerId::from_bytes([3; 16])),
        attempt: Some(300),
        data: Some("exit:1".into()),
    };
    let bare = Event { at: Ms(7), attempt: Some(1), ..Event::new(EventKind::JobCompleted) };
    let same = Defaults { worker: full.worker, queue: full.queue.clone() };
    for defaults in [Defaults::default(), same] {
        let mut bytes = defaults.bytes();
        for one in [&full, &bare] {
            bytes.extend(event(one, &defaults));
        }
        let mut reader = Reader(&bytes);
        let read = Defaults::read(&mut reader).expect("defaults");
        assert_eq!(read, defaults);
        for one in [&full, &bare] {
            assert_eq!(read_event(&mut reader, &read, Ms(7)).expect("an event"), *one);
        }
        assert!(reader.0.is_empty());
    }
}

#[test]
fn a_waiting_job_fits_a_small_block() {
    let name = |text: &str| text.parse().expect("a name");
    let payload = Json::string(&"x".repeat(198));
    let waiting = Job::new(JobId::from_bytes([5; 16]), name("send_email"), name("default"), payload);
    let bytes = new_job(&waiting).expect("packs");
    // With the four bytes that Redis adds, the allocator's step of 224.
    assert!(bytes.len() <= 220, "{} bytes", bytes.len());
    // Stores written before there was a short form have the long one.
    for bytes in [bytes, job(&waiting, Place::Pending).expect("packs")] {
        let kept = read_job(waiting.id, &bytes).expect("reads");
        assert_eq!((kept.job, kept.place, kept.parked), (waiting.clone(), Place::Pending, None));
    }
    let keyed = Job { unique_key: Some("one".into()), ..waiting };
    assert_eq!(read_job(keyed.id, &new_job(&keyed).expect("packs")).expect("reads").job, keyed);
}

#[test]
fn a_long_record_tells_what_scripts_must_know() {
    let name = |text: &str| text.parse().expect("a name");
    let plain = Job::new(JobId::from_bytes([5; 16]), name("noop"), name("default"), Json::null());
    let concurrency = Some(crate::domain::Concurrency { key: "k".into(), limit: 2 });
    let keyed = Job { concurrency, rev: 3, priority: -7, timeout_ms: Some(9), ..plain.clone() };
    let suspect = Job { crashes: vec![Ms(1)], ..plain };
    for (one, place, read_as) in [
        (&keyed, Place::Pending, Place::Pending),
        (&keyed, Place::Parked, Place::Parked),
        (&suspect, Place::Pending, Place::Suspect),
        (&suspect, Place::Retrying, Place::Retrying),
    ] {
        let kept = read_job(one.id, &job(one, place).expect("packs")).expect("reads");
        assert_eq!((&kept.job, kept.place, kept.suspect), (one, read_as, one.is_suspect()));
    }
}

#[test]
fn a_short_record_that_is_cut_is_corrupt() {
    let whole = [&[SHORT, 1, b'k', 1, b'q'][..], b"{}"].concat();
    for length in 1..6 {
        let error = check_job(JobId::from_bytes([5; 16]), &whole[..length]).err().expect("is cut");
        assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");
    }
}

#[test]
fn scripts_know_which_states_of_runs_are_final() {
    for (at, state) in RunState::ALL.iter().enumerate() {
        assert_eq!(state.is_terminal(), at >= super::super::lua::RUN_OVER, "{state:?}");
    }
}
