//! Rules and policies as tables: what is read, what is refused and how, and the ticks around every
//! kind of change of the clock.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;

fn ms(text: &str) -> Ms {
    Ms(text.parse::<jiff::Timestamp>().expect("a time").as_millisecond())
}

fn zone(name: &str) -> Zone {
    Zone::parse(name).expect("a zone")
}

fn rule(text: &str, zone: &Zone) -> Rule {
    Rule::parse(text, zone).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn ticks(rule: &Rule, from: Ms, n: usize) -> Vec<Ms> {
    let next = |at: &Ms| rule.next_after(*at, from);
    std::iter::successors(next(&from), next).take(n).collect()
}

/// Zone, rule, from when, and the ticks after that, each without its seconds.
const CHANGES: &[(&str, &str, &str, &[&str])] = &[
    // The clock goes forward at 2:00: what lay between fires once, right after.
    ("America/New_York", "30 2 * * *", "2024-03-09T12:00Z", &["2024-03-10T07:00Z", "2024-03-11T06:30Z"]),
    ("America/New_York", "0,30 2 * * *", "2024-03-09T12:00Z", &["2024-03-10T07:00Z", "2024-03-11T06:00Z"]),
    ("America/New_York", "0 2,3 * * *", "2025-03-08T12:00Z", &["2025-03-09T07:00Z", "2025-03-10T06:00Z"]),
    ("America/New_York", "0 3 * * *", "2026-03-07T12:00Z", &["2026-03-08T07:00Z", "2026-03-09T07:00Z"]),
    ("America/New_York", "59 1 * * *", "2026-03-07T12:00Z", &["2026-03-08T06:59Z", "2026-03-09T05:59Z"]),
    ("America/New_York", "30 2 10 3 *", "2023-03-11T12:00Z", &["2024-03-10T07:00Z", "2025-03-10T06:30Z"]),
    ("Europe/Berlin", "30 2 * * *", "2024-03-30T12:00Z", &["2024-03-31T01:00Z", "2024-04-01T00:30Z"]),
    ("Europe/Berlin", "30 2 * * sun", "2025-03-28T12:00Z", &["2025-03-30T01:00Z", "2025-04-06T00:30Z"]),
    ("Europe/Berlin", "15-45/15 2 29 3 *", "2026-03-28T12:00Z", &["2026-03-29T01:00Z", "2027-03-29T00:15Z"]),
    ("Australia/Lord_Howe", "15 2 * * *", "2024-10-05T00:00Z", &["2024-10-05T15:30Z", "2024-10-06T15:15Z"]),
    ("Australia/Lord_Howe", "15 2 * * *", "2025-10-04T00:00Z", &["2025-10-04T15:30Z", "2025-10-05T15:15Z"]),
    ("Australia/Lord_Howe", "30 2 * * *", "2026-10-03T00:00Z", &["2026-10-03T15:30Z", "2026-10-04T15:30Z"]),
    // A rule with a star follows the wall: there is no such hour.
    (
        "America/New_York",
        "0 * * * *",
        "2024-03-10T05:30Z",
        &["2024-03-10T06:00Z", "2024-03-10T07:00Z", "2024-03-10T08:00Z"],
    ),
    ("America/New_York", "*/30 2 * * *", "2024-03-09T12:00Z", &["2024-03-11T06:00Z", "2024-03-11T06:30Z"]),
    ("Europe/Berlin", "45 * * * *", "2025-03-30T00:30Z", &["2025-03-30T00:45Z", "2025-03-30T01:45Z"]),
    // The clock goes back at 2:00: a fixed time fires the first time only.
    ("America/New_York", "30 1 * * *", "2024-11-02T12:00Z", &["2024-11-03T05:30Z", "2024-11-04T06:30Z"]),
    ("America/New_York", "30 1 * * *", "2024-11-03T06:10Z", &["2024-11-04T06:30Z"]),
    (
        "America/New_York",
        "0 1-3 * * *",
        "2025-11-01T12:00Z",
        &["2025-11-02T05:00Z", "2025-11-02T07:00Z", "2025-11-02T08:00Z"],
    ),
    ("America/New_York", "0 2 * * *", "2026-10-31T12:00Z", &["2026-11-01T07:00Z", "2026-11-02T07:00Z"]),
    ("Europe/Berlin", "30 2 * * *", "2025-10-25T12:00Z", &["2025-10-26T00:30Z", "2025-10-27T01:30Z"]),
    ("Europe/Berlin", "0 3 * * *", "2026-10-24T12:00Z", &["2026-10-25T02:00Z", "2026-10-26T02:00Z"]),
    ("Australia/Lord_Howe", "45 1 * * *", "2024-04-06T00:00Z", &["2024-04-06T14:45Z", "2024-04-07T15:15Z"]),
    ("Australia/Lord_Howe", "45 1 * * *", "2025-04-05T00:00Z", &["2025-04-05T14:45Z", "2025-04-06T15:15Z"]),
    ("Australia/Lord_Howe", "45 1 * * *", "2026-04-04T15:05Z", &["2026-04-05T15:15Z"]),
    // A star runs through both.
    (
        "America/New_York",
        "0 * * * *",
        "2024-11-03T04:30Z",
        &["2024-11-03T05:00Z", "2024-11-03T06:00Z", "2024-11-03T07:00Z"],
    ),
    (
        "America/New_York",
        "*/30 1 * * *",
        "2024-11-03T04:30Z",
        &["2024-11-03T05:00Z", "2024-11-03T05:30Z", "2024-11-03T06:00Z", "2024-11-03T06:30Z", "2024-11-04T06:00Z"],
    ),
    (
        "Australia/Lord_Howe",
        "*/15 * * * *",
        "2025-04-05T14:20Z",
        &["2025-04-05T14:30Z", "2025-04-05T14:45Z", "2025-04-05T15:00Z", "2025-04-05T15:15Z", "2025-04-05T15:30Z"],
    ),
    // A day that a country left out is made up for by nobody.
    ("Pacific/Apia", "0 5 * * *", "2011-12-29T20:00Z", &["2011-12-30T15:00Z", "2011-12-31T15:00Z"]),
];

#[test]
fn ticks_around_changes_of_the_clock() {
    for (name, text, from, expected) in CHANGES {
        let found = ticks(&rule(text, &zone(name)), ms(from), expected.len());
        let expected: Vec<Ms> = expected.iter().map(|text| ms(text)).collect();
        assert_eq!(found, expected, "{text} in {name} from {from}");
    }
}

#[test]
fn a_daily_rule_fires_once_on_each_day_of_ten_years() {
    for name in ["America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "UTC"] {
        let zone = zone(name);
        for time in ["0 0", "30 1", "45 1", "0 2", "15 2", "30 2", "0 3", "59 23"] {
            let rule = rule(&format!("{time} * * *"), &zone);
            let mut days: BTreeMap<String, u32> = BTreeMap::new();
            let mut at = ms("2022-06-01T00:00Z");
            while at < ms("2032-06-01T00:00Z") {
                at = rule.next_after(at, at).expect("there is a tomorrow");
                *days.entry(zone.show(at)[4..14].to_owned()).or_default() += 1;
            }
            assert!(days.values().all(|ticks| *ticks == 1), "{time} in {name}: {days:?}");
            assert!((3652..=3655).contains(&days.len()), "{time} in {name}: {} days", days.len());
        }
    }
}

#[test]
fn the_grammar_of_a_crontab() {
    let from = "2026-02-09T10:30Z"; // A Monday.
    let cases = [
        ("0 9 * * *", "2026-02-10T09:00Z"),
        ("  0   9 * *\t* ", "2026-02-10T09:00Z"),
        ("31 10 * * *", "2026-02-09T10:31Z"),
        ("0 9 * * 7", "2026-02-15T09:00Z"),
        ("0 9 * * 0", "2026-02-15T09:00Z"),
        ("0 9 * * SUN", "2026-02-15T09:00Z"),
        ("0 9 * * fri-sun", "2026-02-13T09:00Z"),
        ("0 9 * * 6-7", "2026-02-14T09:00Z"),
        ("0 9 1 JUL *", "2026-07-01T09:00Z"),
        ("0 9 1 jan,mar-apr *", "2026-03-01T09:00Z"),
        ("5,10-20/5 * * * *", "2026-02-09T11:05Z"),
        ("0-59/7 11 * * *", "2026-02-09T11:00Z"),
        // Either day will do: Friday the 13th is a Friday or a 13th.
        ("0 0 13 * 1", "2026-02-13T00:00Z"),
        ("0 0 13 * 3", "2026-02-11T00:00Z"),
        // With a star in front it is both, steps or not: the first Tuesday that is odd.
        ("0 0 */2 * 2", "2026-02-17T00:00Z"),
        ("0 0 1-31 * 2", "2026-02-10T00:00Z"),
        ("0 0 29 2 *", "2028-02-29T00:00Z"),
        ("@hourly", "2026-02-09T11:00Z"),
        ("@daily", "2026-02-10T00:00Z"),
        ("@midnight", "2026-02-10T00:00Z"),
        ("@Weekly", "2026-02-15T00:00Z"),
        ("@monthly", "2026-03-01T00:00Z"),
        ("@yearly", "2027-01-01T00:00Z"),
        ("@annually", "2027-01-01T00:00Z"),
        ("@every 5m", "2026-02-09T10:35Z"),
        ("@every 1h30m", "2026-02-09T12:00Z"),
    ];
    for (text, expected) in cases {
        assert_eq!(ticks(&rule(text, &Zone::utc()), ms(from), 1), [ms(expected)], "{text}");
    }
}

#[test]
fn what_is_refused_and_how_it_is_mended() {
    let cases = [
        ("", "a cron rule is empty: write five fields, as in `0 9 * * *`, or @daily, or @every 5m"),
        ("0 9 * *", "`0 9 * *` has 4 fields: a cron rule has five (minute, hour, day of month, month, day of week)"),
        (
            "* * * * * *",
            "`* * * * * *` has 6 fields: a cron rule has five (minute, hour, day of month, month, day of week); for seconds, write @every 30s",
        ),
        ("60 9 * * *", "the minute field of `60 9 * * *`: `60` is not from 0 to 59"),
        ("0 24 * * *", "the hour field of `0 24 * * *`: `24` is not from 0 to 23"),
        ("0 9 0 * *", "the day-of-month field of `0 9 0 * *`: `0` is not from 1 to 31"),
        ("0 9 * 13 *", "the month field of `0 9 * 13 *`: `13` is not from 1 to 12"),
        ("0 9 * * 8", "the day-of-week field of `0 9 * * 8`: `8` is not from 0 to 7"),
        ("-5 9 * * *", "the minute field of `-5 9 * * *`: a value is missing"),
        ("5, 9 * * *", "the minute field of `5, 9 * * *`: a value is missing"),
        ("*/0 9 * * *", "the minute field of `*/0 9 * * *`: `*/0` steps by 0: it would never move on"),
        ("*/x 9 * * *", "the minute field of `*/x 9 * * *`: `*/x` has a step that is no number"),
        (
            "5/15 9 * * *",
            "the minute field of `5/15 9 * * *`: `5/15` has a step without a range: write 5-59/15 for every 15 from minute 5 on",
        ),
        ("0 17-9 * * *", "the hour field of `0 17-9 * * *`: `17-9` runs backwards: write 17-23,0-9"),
        (
            "0 9 * * monday",
            "the day-of-week field of `0 9 * * monday`: `monday` is not a value: names have three letters, write mon",
        ),
        (
            "0 9 * foo *",
            "the month field of `0 9 * foo *`: `foo` is neither a number from 1 to 12 nor a name such as feb",
        ),
        (
            "0 9 L * *",
            "the day-of-month field of `0 9 L * *`: `L` is of other cron dialects: a crontab has no L, W, H, # or ?",
        ),
        (
            "0 9 ? * 5#2",
            "the day-of-month field of `0 9 ? * 5#2`: `?` is of other cron dialects: a crontab has no L, W, H, # or ?",
        ),
        (
            "0 9 * * 5#2",
            "the day-of-week field of `0 9 * * 5#2`: `5#2` is of other cron dialects: a crontab has no L, W, H, # or ?",
        ),
        ("0 0 31 2 *", "`0 0 31 2 *` never fires: February has at most 29 days"),
        ("0 0 31 4,jun *", "`0 0 31 4,jun *` never fires: April, June have at most 30 days"),
        ("0 0 30 2 */2", "`0 0 30 2 */2` never fires: February has at most 29 days"),
        ("@dayly", "`@dayly` is not known: did you mean @daily?"),
        ("@daily 5", "`@daily 5` is not known: did you mean @daily?"),
        ("@reboot", "@reboot has no meaning here: no machine's start is waited for"),
        ("@every", "@every needs a distance, as in @every 5m"),
        ("@every 5", "@every: `5` has no unit: write `5s` for seconds, or ms, m, h, d"),
        ("@every -5m", "@every: `-5m` is negative: a duration counts forward"),
        ("@every 500ms", "`500ms` is too often: at least 1s from tick to tick"),
        ("@every 0s", "`0s` is too often: at least 1s from tick to tick"),
    ];
    for (text, expected) in cases {
        let refused = Rule::parse(text, &Zone::utc()).expect_err(text);
        assert_eq!(refused.to_string(), expected);
    }
    // On a Wednesday in February a 31st is not needed.
    rule("0 0 31 2 3", &Zone::utc());
}

#[test]
fn what_may_not_be_meant_is_told() {
    let cases: [(&str, &[&str]); 10] = [
        ("*/15 */6 * */3 *", &[]),
        ("0 9 * * mon-fri", &[]),
        (
            "*/45 * * * *",
            &[
                "`*/45` in the minute field means 0 and 45 of every hour, not every 45 minutes: for that, write @every 45m",
            ],
        ),
        (
            "*/90 * * * *",
            &["`*/90` in the minute field means 0 of every hour, not every 90 minutes: for that, write @every 90m"],
        ),
        (
            "0 */5 * * *",
            &[
                "`*/5` in the hour field means 0, 5, 10, 15 and 20 of every day, not every 5 hours: for that, write @every 5h",
            ],
        ),
        (
            "0 0 */2 * *",
            &[
                "`*/2` in the day-of-month field means 1, 3 … 31 of every month, not every 2 days: for that, write @every 2d",
            ],
        ),
        (
            "0 0 * * */2",
            &[
                "`*/2` in the day-of-week field means 0, 2, 4 and 6 of every week, not every 2 days: for that, write @every 2d",
            ],
        ),
        ("0 0 31 * *", &["February, April, June, September, November have no day 31 and will be skipped"]),
        ("0 0 29 * *", &["February has a day 29 in leap years only"]),
        (
            "0 0 13 * 5",
            &[
                "a rule that names both day fields fires on the days of the month and on the days of the week: a crontab takes either, not both",
            ],
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(rule(text, &Zone::utc()).remarks(), expected, "{text}");
    }
}

#[test]
fn zones_have_iana_names_and_near_misses_are_named() {
    assert_eq!(zone("europe/berlin").name(), "Europe/Berlin");
    assert_eq!(zone("UTC"), Zone::utc());
    let near = |text: &str| Zone::parse(text).expect_err(text).to_string();
    assert_eq!(near("Europe/Berln"), "`Europe/Berln` is not a time zone: did you mean Europe/Berlin?");
    assert_eq!(near("Berlin"), "`Berlin` is not a time zone: did you mean Europe/Berlin?");
    assert_eq!(near("new york"), "`new york` is not a time zone: did you mean America/New_York?");
    assert_eq!(
        near("+02:00"),
        "`+02:00` is not a time zone: use a name of the IANA database, such as Europe/Berlin or UTC"
    );
    assert_eq!(zone("Europe/Berlin").show(ms("2026-07-01T07:00Z")), "Wed 2026-07-01 09:00:00 +02:00");
}

#[test]
fn every_counts_from_the_creation_and_not_from_the_last_tick() {
    let every = Rule::every(Duration::from_secs(300)).expect("often, but not too often");
    let anchor = ms("2026-02-09T10:30:07Z");
    assert_eq!(every.as_str(), "@every 5m");
    assert_eq!(every.next_after(anchor, anchor), Some(ms("2026-02-09T10:35:07Z")));
    assert_eq!(every.next_after(ms("2026-02-09T10:35:07Z"), anchor), Some(ms("2026-02-09T10:40:07Z")));
    assert_eq!(every.next_after(ms("2026-02-09T10:41:00Z"), anchor), Some(ms("2026-02-09T10:45:07Z")));
    // A clock that stands before the creation waits for the first tick.
    assert_eq!(every.next_after(ms("2026-02-09T09:00:00Z"), anchor), Some(ms("2026-02-09T10:35:07Z")));
    assert_eq!(Rule::every(Duration::from_millis(999)), Err(BadRule::TooOften(Duration::from_millis(999))));
    let odd = Duration::from_millis(93_784_005);
    assert_eq!(Rule::every(odd).expect("a day and a bit").as_str(), "@every 1d2h3m4s5ms");
    assert_eq!(Rule::parse("@every 1d2h3m4s5ms", &Zone::utc()), Rule::every(odd));
}

/// A rule of one tick a minute, due at 10:00, looked at so long after.
fn turn_after(seconds: i64, catch_up: Catchup) -> Turn {
    let due = ms("2026-02-09T10:00Z");
    let every_minute = rule("* * * * *", &Zone::utc());
    turn(&every_minute, due, due, Ms(due.0 + seconds * 1_000), catch_up).expect("it is due")
}

fn minute(n: i64) -> Ms {
    Ms(ms("2026-02-09T10:00Z").0 + n * 60_000)
}

#[test]
fn what_is_taken_up_within_a_minute_is_on_time() {
    for policy in Catchup::ALL {
        for seconds in [0, 1, 59, 60] {
            let expected = Turn { missed: None, tick: Some(minute(0)), next: Some(minute(1)) };
            assert_eq!(turn_after(seconds, *policy), expected, "{policy} after {seconds} s");
        }
    }
    let rule = rule("* * * * *", &Zone::utc());
    assert_eq!(turn(&rule, minute(0), minute(0), Ms(minute(0).0 - 1), Catchup::All), None);
}

#[test]
fn missed_ticks_are_counted_and_made_up_for_as_asked() {
    let missed = |count, first, last| Some(Late { count, more: false, first: minute(first), last: minute(last) });
    // Ten and a half minutes late: 10:10 is on time.
    let turned = turn_after(630, Catchup::None);
    assert_eq!(turned, Turn { missed: missed(10, 0, 9), tick: Some(minute(10)), next: Some(minute(11)) });
    assert_eq!(turn_after(630, Catchup::Last), turned);
    assert_eq!(turn_after(630, Catchup::All), Turn { missed: None, tick: Some(minute(0)), next: Some(minute(1)) });

    // A daily rule, half a day late: nothing is on time.
    let daily = rule("@daily", &Zone::utc());
    let (due, now) = (ms("2026-02-01T00:00Z"), ms("2026-02-09T12:00Z"));
    let (last, next) = (ms("2026-02-09T00:00Z"), Some(ms("2026-02-10T00:00Z")));
    let late = |count, last| Some(Late { count, more: false, first: due, last });
    assert_eq!(turn(&daily, due, due, now, Catchup::None), Some(Turn { missed: late(9, last), tick: None, next }));
    let before = ms("2026-02-08T00:00Z");
    assert_eq!(
        turn(&daily, due, due, now, Catchup::Last),
        Some(Turn { missed: late(8, before), tick: Some(last), next })
    );
    assert_eq!(turn(&daily, due, last, now, Catchup::Last), Some(Turn { missed: None, tick: Some(last), next }));
}

#[test]
fn catching_up_ends_at_the_limit_and_counting_too() {
    // 20,000 minutes.
    let turned = turn_after(20_000 * 60 + 30, Catchup::All);
    let late = turned.missed.expect("most are lost");
    assert_eq!((late.count, late.more), (10_000, true));
    assert_eq!((late.first, late.last), (minute(0), minute(20_000 - LIMIT as i64)));
    assert_eq!(turned.tick, Some(minute(20_001 - LIMIT as i64)));
    // Tick by tick, none is left out and none comes twice.
    let every_minute = rule("* * * * *", &Zone::utc());
    let now = Ms(minute(20_000).0 + 30_000);
    let (mut due, mut done) = (turned.next, vec![turned.tick]);
    while let Some(turned) = turn(&every_minute, minute(0), due.expect("no end"), now, Catchup::All) {
        assert_eq!(turned.missed, None);
        done.push(turned.tick);
        due = turned.next;
    }
    assert_eq!(done.len(), LIMIT);
    assert!(done.windows(2).all(|pair| pair[0].map(|at| Ms(at.0 + 60_000)) == pair[1]));
}

#[test]
fn the_next_tick_after_a_loss_lies_ahead() {
    for every in ["* * * * *", "@every 7s", "30 2 * * *", "@every 100m"] {
        let rule = rule(every, &zone("Europe/Berlin"));
        let due = rule.next_after(minute(0), minute(0)).expect("a tick");
        for late in [61_000, 3_600_000, 86_400_000 * 40] {
            let now = Ms(due.0 + late);
            let mut turned = turn(&rule, minute(0), due, now, Catchup::None).expect("due");
            while let Some(tick) = turned.tick {
                assert!(tick.0 >= now.0 - 60_000 && tick <= now, "{every}: {tick} at {now}");
                match turn(&rule, minute(0), turned.next.expect("no end"), now, Catchup::None) {
                    Some(next) => turned = next,
                    None => break,
                }
            }
            assert!(turned.next > Some(now), "{every}: {turned:?}");
        }
    }
}

#[test]
fn overlap_as_a_table() {
    use Admit::*;
    let cases = [
        (Overlap::Skip, Start, Skip, Skip),
        (Overlap::Queue, Start, Wait, Wait),
        (Overlap::Allow, Start, Start, Start),
        (Overlap::Replace, Start, Replace, Replace),
    ];
    for (policy, idle, live, waiting) in cases {
        assert_eq!(admit(policy, false, 0), idle, "{policy}");
        assert_eq!(admit(policy, true, 0), live, "{policy}");
        assert_eq!(admit(policy, false, 1), waiting, "{policy} in line");
    }
    assert_eq!(admit(Overlap::Queue, true, LIMIT), Skip);
    assert_eq!("queue".parse(), Ok(Overlap::Queue));
    assert_eq!("al".parse::<Catchup>(), Err("`al` is no catch-up policy: did you mean all? (none, last, all)".into()));
    assert_eq!(serde_json::to_string(&Overlap::Replace).expect("a word"), "\"replace\"");
}
