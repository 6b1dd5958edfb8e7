//! A crontab in the plainest words, to hold [`super::Cron`] against: a clock that goes from minute to
//! minute and looks at the wall, as Vixie's cron does. Slow, and sure.

use std::collections::BTreeSet;

use jiff::civil::DateTime;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::{Ms, Rule, Zone};

/// A field as a generator makes it: its text, and what that means.
#[derive(Clone, Debug)]
struct Plain {
    text: String,
    values: BTreeSet<i8>,
    star: bool,
}

#[derive(Clone, Debug)]
struct PlainRule {
    fields: Vec<Plain>,
}

impl PlainRule {
    fn text(&self) -> String {
        self.fields.iter().map(|field| field.text.as_str()).collect::<Vec<_>>().join(" ")
    }

    fn matches(&self, wall: DateTime) -> bool {
        let [minute, hour, day, month, weekday] = &self.fields[..] else { panic!("five fields") };
        let by_day = day.values.contains(&wall.day());
        let by_weekday = weekday.values.contains(&wall.weekday().to_sunday_zero_offset());
        let on_day = if day.star || weekday.star { by_day && by_weekday } else { by_day || by_weekday };
        minute.values.contains(&wall.minute())
            && hour.values.contains(&wall.hour())
            && month.values.contains(&wall.month())
            && on_day
    }

    fn fixed(&self) -> bool {
        !self.fields[0].star && !self.fields[1].star
    }

    /// Every instant from after `from` to `until` at which a crontab would start the command.
    fn ticks(&self, zone: &Zone, from: Timestamp, until: Timestamp) -> Vec<Ms> {
        let minute = SignedDuration::from_mins(1);
        let mut ticks = Vec::new();
        // Begin a day early: what the wall has shown must be known.
        let mut at = from - SignedDuration::from_hours(24);
        let mut wall = zone.tz().to_datetime(at);
        let mut furthest = wall;
        while at < until {
            at += minute;
            let before = wall;
            wall = zone.tz().to_datetime(at);
            let jump = before.duration_until(wall) - minute;
            let small = jump.abs() < SignedDuration::from_hours(3);
            if !small {
                furthest = wall - minute;
            }
            let mut fires = false;
            if self.fixed() {
                let mut skipped = before + minute;
                while small && skipped < wall {
                    fires |= self.matches(skipped);
                    skipped += minute;
                }
                fires |= wall > furthest && self.matches(wall);
            } else {
                fires |= self.matches(wall);
            }
            furthest = furthest.max(wall);
            if fires && at > from {
                ticks.push(Ms(at.as_millisecond()));
            }
        }
        ticks
    }
}

fn field(low: i8, high: i8, top: i8) -> impl Strategy<Value = Plain> {
    let wrap = move |value: i8| if top == 7 && value == 7 { 0 } else { value };
    let one = (low..=top).prop_map(move |v| (v.to_string(), BTreeSet::from([wrap(v)])));
    let range = (low..=top, low..=top, 1..=9i8).prop_map(move |(a, b, step)| {
        let (a, b) = (a.min(b), a.max(b));
        let text = if step == 1 { format!("{a}-{b}") } else { format!("{a}-{b}/{step}") };
        (text, (a..=b).step_by(step as usize).map(wrap).collect())
    });
    let list = prop::collection::vec(prop_oneof![3 => one, 2 => range], 1..4).prop_map(|parts| {
        let text = parts.iter().map(|(text, _): &(String, BTreeSet<i8>)| text.clone()).collect::<Vec<_>>().join(",");
        Plain { text, values: parts.into_iter().flat_map(|(_, values)| values).collect(), star: false }
    });
    let star = (1..=20i8).prop_map(move |step| {
        let text = if step == 1 { "*".to_owned() } else { format!("*/{step}") };
        Plain { text, values: (low..=high).step_by(step as usize).collect(), star: true }
    });
    let plain_star = Just(Plain { text: "*".to_owned(), values: (low..=high).collect(), star: true });
    prop_oneof![4 => list, 2 => star, 3 => plain_star]
}

fn rule() -> impl Strategy<Value = PlainRule> {
    // Near changes of the clock the early hours are what matters.
    let hour = prop_oneof![field(0, 23, 23), field(0, 3, 3).prop_filter("not *", |hour| !hour.star)];
    let month = prop_oneof![1 => field(1, 12, 12), 3 => Just(Plain { text: "*".into(), values: (1..=12).collect(), star: true })];
    (field(0, 59, 59), hour, field(1, 31, 31), month, field(0, 6, 7))
        .prop_map(|(minute, hour, day, month, weekday)| PlainRule { fields: vec![minute, hour, day, month, weekday] })
}

const ZONES: [&str; 9] = [
    "UTC",
    "America/New_York",
    "Europe/Berlin",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "America/St_Johns",
    "Africa/Casablanca",
    "Pacific/Apia",
    "Antarctica/Troll",
];

/// A moment near a change of the zone's clock, or anywhere.
fn start(zone: &Zone, seconds: i64, hours: i64, near: bool) -> Timestamp {
    let any = Timestamp::from_second(seconds - seconds.rem_euclid(60)).expect("within the calendar");
    let change = zone.tz().following(any).next().filter(|_| near);
    change.map_or(any, |change| change.timestamp() - SignedDuration::from_hours(hours))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_minutes_as_a_clock_that_looks_at_the_wall(
        plain in rule(),
        zone in prop::sample::select(&ZONES[..]),
        seconds in 1_230_000_000i64..2_200_000_000,
        hours in 0i64..40,
        near in prop::bool::weighted(0.8),
    ) {
        let zone = Zone::parse(zone).expect("a zone");
        let from = start(&zone, seconds, hours, near);
        let until = from + SignedDuration::from_hours(48);
        let expected = plain.ticks(&zone, from, until);
        match Rule::parse(&plain.text(), &zone) {
            Err(error) => {
                prop_assert!(matches!(error, super::BadRule::Never { .. }), "{}: {error}", plain.text());
                prop_assert!(expected.is_empty());
            }
            Ok(rule) => {
                let (mut found, mut at) = (Vec::new(), Ms(from.as_millisecond()));
                while let Some(next) = rule.next_after(at, at).filter(|next| next.0 <= until.as_millisecond()) {
                    prop_assert!(next > at);
                    found.push(next);
                    at = next;
                }
                prop_assert_eq!(found, expected, "{} in {}", plain.text(), zone);
            }
        }
    }
}
