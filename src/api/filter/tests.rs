//! The filter language over jobs.

use super::*;
use crate::domain::job::{JobError, Link};
use crate::domain::{Job, JobId, Json, RunId, WorkerId};

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn job() -> Job {
    Job::new(JobId::from_parts(Ms(0), Default::default(), 1), name("mail.send"), name("q1"), Json::null())
}

fn dead(job: Job) -> Stored {
    Stored::idle(job, Place::Dead, Ms(0))
}

fn matching<'a>(stored: &Stored, texts: &[&'a str]) -> Vec<&'a str> {
    let holds = |text: &&str| Filter::parse(text).expect(text).matches(stored, Ms(600_000));
    texts.iter().copied().filter(holds).collect()
}

#[test]
fn all_words_must_hold() {
    let stored = dead(Job { error: Some(JobError::new("timeout", "Gateway slow")), ..job() });
    let yes = [
        "",
        "state:dead",
        "state:failed,running",
        "type:mail* age>5m error~TIMEOUT error~gateway",
        "queue:q? age<11m",
        "queue:q2,q1",
        "error~'gateway slow'",
        "error:timeout*",
        "age>=10m age<=10m",
        "!state:pending !type:push",
        "!key:* !run:*",
        "error~Gateway\\ slow",
    ];
    assert_eq!(matching(&stored, &yes), yes);
    let no = [
        "state:pending",
        "type:mail",
        "error~disk",
        "age>10m",
        "age<10m",
        "queue:q1 queue:q2",
        "!state:dead",
        "!queue:q*",
        "state:dead state:pending",
        "type:\"mail*\"",
        "meta.a:*",
    ];
    assert_eq!(matching(&stored, &no), [""; 0]);
}

#[test]
fn every_field_is_looked_at() {
    let run: RunId = "0192f0c1-2b3c-7000-8a9b-0123456789ab".parse().expect("an id");
    let stored = dead(Job {
        unique_key: Some("customer 42".into()),
        metadata: [("team".into(), "a:b".into()), ("k.x".into(), "1".into())].into(),
        priority: -7,
        failures: 4,
        crashes: vec![Ms(1)],
        worker: Some(WorkerId::from_parts(Ms(9), Default::default(), 0xabcdef)),
        link: Some(Link { run, step: "charge".into(), undo: false }),
        ..job()
    });
    let yes = [
        "key:'customer 42'",
        "key~CUSTOMER",
        "meta.team:a:b",
        "meta.k.x:1",
        "meta.team~B",
        "priority:-7",
        "priority<0 priority>=-7",
        "attempt>3 attempt<=4",
        "crashes:1",
        "run:0192f0c1",
        "run:2b3c-7000",
        "run:*",
        "step:ch*",
        "worker:abcdef",
        "id:000000000001",
    ];
    assert_eq!(matching(&stored, &yes), yes);
    let no =
        ["key:customer", "meta.none:*", "priority>0", "attempt>4", "run:ffff", "step:pay", "worker:123456", "!id:*"];
    assert_eq!(matching(&stored, &no), [""; 0]);
    for field in JOB_FIELDS {
        let asked = yes.iter().any(|text| text.contains(field.name));
        assert!(asked || ["state", "type", "queue", "error", "age"].contains(&field.name), "{}", field.name);
    }
}

#[test]
fn what_a_list_needs_to_know_is_taken_from_the_words() {
    let parse = |text: &str| Filter::parse(text).expect(text);
    assert_eq!(parse("queue:q1").queue(), Some(&name("q1")));
    assert!(!parse("queue:q1 state:dead !state:pending").is_selective());
    for text in ["queue:q*", "!queue:q1", "queue:a,b", "queue~q1"] {
        assert!(parse(text).queue().is_none() && parse(text).is_selective(), "{text}");
    }
    assert_eq!(parse("state:waiting").places(), [Place::Suspect, Place::Pending, Place::Parked, Place::Blocked]);
    assert_eq!(parse("state:dead,done !state:done").places(), [Place::Dead]);
    assert_eq!(parse("state:dead state:done").places(), []);
    assert_eq!(parse("queue:a").only_queue(&name("b")).places(), []);
}

#[test]
fn mistakes_name_the_word_its_place_and_the_cure() {
    let told = |text: &str| {
        let error = Filter::parse(text).expect_err(text);
        let span = error.span.expect("a place");
        let at: String = text.chars().skip(span.from).take(span.len).collect();
        (error.to_string(), at)
    };
    let cases = [
        (
            "é stat:dead",
            "`é` is not a filter: known are state: type: queue: error~ age> id: key: meta.KEY: priority: attempt: crashes: run: step: worker:",
            "é",
        ),
        ("stat:dead", "`stat:dead` is not a filter: did you mean `state:`?", "stat:dead"),
        ("a type:", "`a` is not a filter", "a"),
        ("age<1h type:", "`type:` has no value", "type:"),
        ("x:1", "`x:1` is not a filter: known are", "x:1"),
        ("  state:ded", "`ded` is not a state: scheduled, pending", "state:ded"),
        ("age>5", "`5` has no unit: write `5s`", "age>5"),
        ("age:5m", "`age:5m` cannot be asked: write age>DURATION or age<DURATION", "age:5m"),
        ("state~dead", "`state~dead` cannot be asked: write state: with scheduled, pending", "state~dead"),
        ("type:a error~\"disk full", "the quote \" is not closed", "\"disk full"),
        ("priority>high", "`high` is not a whole number", "priority>high"),
        ("id:zz", "`zz` is not a part of an id", "id:zz"),
        ("meta.:x", "`meta.:x` is not a filter: did you mean `meta.KEY:`?", "meta.:x"),
        ("!stat:dead", "`!stat:dead` is not a filter: did you mean `state:`?", "!stat:dead"),
    ];
    for (text, message, at) in cases {
        let (told, place) = told(text);
        assert!(told.starts_with(message), "{text}: {told}");
        assert_eq!(place, at, "{text}");
    }
}
