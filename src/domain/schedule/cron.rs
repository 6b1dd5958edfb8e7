//! Five fields in a time zone. `croner` walks the calendar, on wall-clock times without a zone; what
//! a change of the clock does to them is decided here, as Vixie's cron decides it (cron(8)):
//!
//! - A rule with a fixed time of day (neither its minute nor its hour field begins with `*`) fires
//!   once for what a gap swallows, as soon as the gap is over, and once for what an overlap repeats,
//!   the first time.
//! - Any other rule follows the clock on the wall: in a gap there is nothing, an overlap is two hours.
//! - A change of three hours or more is a change of the calendar, and nobody's ticks are made up for.

use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::DateTime;
use jiff::{SignedDuration, Timestamp};

use super::field::{Field, Unit};
use super::{BadRule, Ms, Zone};

/// Beyond this the clock was not changed but set: cron(8).
const LONGEST_CHANGE: SignedDuration = SignedDuration::from_hours(3);

#[derive(Clone, Debug)]
pub struct Cron {
    calendar: croner::Cron,
    zone: Zone,
    fields: [Field; 5],
    remarks: Vec<String>,
}

impl PartialEq for Cron {
    fn eq(&self, other: &Cron) -> bool {
        (&self.fields, &self.zone) == (&other.fields, &other.zone)
    }
}

/// Where a search begins on the wall.
#[derive(Clone, Copy)]
enum From {
    At(DateTime),
    After(DateTime),
}

impl Cron {
    /// Reads five fields.
    ///
    /// # Errors
    /// [`BadRule`], also when no day is ever named.
    pub fn parse(text: &str, zone: &Zone) -> Result<Cron, BadRule> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let rule = || words.join(" ");
        let Ok(words): Result<[&str; 5], _> = words.clone().try_into() else {
            return Err(if words.is_empty() {
                BadRule::Empty
            } else {
                BadRule::Fields { rule: rule(), found: words.len() }
            });
        };
        let mut fields = Vec::with_capacity(5);
        for (unit, word) in Unit::ALL.into_iter().zip(words) {
            let field = Field::parse(unit, word);
            fields.push(field.map_err(|why| BadRule::Field { rule: rule(), field: unit.name(), why })?);
        }
        let Ok(fields): Result<[Field; 5], _> = fields.try_into() else { return Err(BadRule::Empty) };
        let calendar = calendar(&fields).map_err(|why| BadRule::Refused { rule: rule(), why })?;
        let mut remarks: Vec<String> = fields.iter().flat_map(|field| field.remarks.clone()).collect();
        remarks.extend(days(&fields).map_err(|why| BadRule::Never { rule: rule(), why })?);
        Ok(Cron { calendar, zone: zone.clone(), fields, remarks })
    }

    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// The first tick later than `after`; none once the calendar ends.
    pub fn next_after(&self, after: Ms) -> Option<Ms> {
        let after = Timestamp::from_millisecond(after.0).ok()?;
        self.next(after).map(|at| Ms(at.as_millisecond()))
    }

    /// Whether the hour is named by number: such a tick is made up for, and never doubled.
    fn has_fixed_time(&self) -> bool {
        let [minute, hour, ..] = &self.fields;
        !minute.star && !hour.star
    }

    fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let zone = self.zone.tz();
        let mut offset = zone.to_offset(after);
        let mut from = From::After(offset.to_datetime(after));
        if let Some(repeated) = self.repeated_until(after).filter(|until| *until > offset.to_datetime(after)) {
            from = From::At(repeated);
        }
        let mut changes = zone.following(after);
        loop {
            let wall = self.find(from)?;
            let at = offset.to_timestamp(wall).ok()?;
            let Some(change) = changes.next().filter(|change| change.timestamp() <= at) else { return Some(at) };
            let (old, new) = (offset.to_datetime(change.timestamp()), change.offset().to_datetime(change.timestamp()));
            from = From::At(new);
            if self.has_fixed_time() && is_of_the_clock(old, new) {
                if wall < new {
                    return Some(change.timestamp());
                }
                from = From::At(old.max(new));
            }
            offset = change.offset();
        }
    }

    /// After the clock went back: until when it shows what it has shown already.
    fn repeated_until(&self, after: Timestamp) -> Option<DateTime> {
        if !self.has_fixed_time() {
            return None;
        }
        let just_after = after.checked_add(SignedDuration::from_nanos(1)).ok()?;
        let change = self.zone.tz().preceding(just_after).next()?;
        let just_before = change.timestamp().checked_sub(SignedDuration::from_nanos(1)).ok()?;
        let old = self.zone.tz().to_offset(just_before).to_datetime(change.timestamp());
        let new = change.offset().to_datetime(change.timestamp());
        (new < old && is_of_the_clock(old, new)).then_some(old)
    }

    fn find(&self, from: From) -> Option<DateTime> {
        // Nothing is found where the library's calendar ends, in the year 5000.
        match from {
            From::At(wall) => self.calendar.find_next_occurrence(&wall, true).ok(),
            From::After(wall) => self.calendar.find_next_occurrence(&wall, false).ok(),
        }
    }
}

fn is_of_the_clock(old: DateTime, new: DateTime) -> bool {
    old.duration_until(new).abs() < LONGEST_CHANGE
}

/// The fields for `croner`, value by value: what it makes of names, of 7 and of steps does not matter,
/// and its own idea of a star (which `*/2` is not) is ours.
fn calendar(fields: &[Field; 5]) -> Result<croner::Cron, String> {
    let [_, _, day, _, weekday] = fields;
    let text = |field: &Field| {
        if field.star && field.is_full() {
            return "*".to_owned();
        }
        field.values().map(|value| value.to_string()).collect::<Vec<_>>().join(",")
    };
    let texts: Vec<String> = fields.iter().map(text).collect();
    let parser = CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed)
        .dom_and_dow(day.star || weekday.star)
        .build();
    parser.parse(&texts.join(" ")).map_err(|error| error.to_string())
}

const LENGTHS: [(&str, u8); 12] = [
    ("January", 31),
    ("February", 29),
    ("March", 31),
    ("April", 30),
    ("May", 31),
    ("June", 30),
    ("July", 31),
    ("August", 31),
    ("September", 30),
    ("October", 31),
    ("November", 30),
    ("December", 31),
];

/// Whether any day is named at all, and what is to be known of those that are.
fn days(fields: &[Field; 5]) -> Result<Vec<String>, String> {
    let [_, _, day, month, weekday] = fields;
    if !day.star && !weekday.star {
        // Each weekday comes in each month.
        let either = "fires on the days of the month and on the days of the week: a crontab takes either, not both";
        return Ok(vec![format!("a rule that names both day fields {either}")]);
    }
    let Some(first) = day.values().next() else { return Ok(Vec::new()) };
    let months: Vec<(&str, u8)> =
        LENGTHS.into_iter().zip(1..).filter(|(_, nth)| month.has(*nth)).map(|(month, _)| month).collect();
    let (short, long): (Vec<_>, Vec<_>) = months.into_iter().partition(|(_, length)| first > *length);
    let names = |months: &[(&str, u8)]| months.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    if long.is_empty() {
        let longest = short.iter().map(|(_, length)| *length).max().unwrap_or(0);
        let have = if short.len() == 1 { "has" } else { "have" };
        return Err(format!("{} {have} at most {longest} days", names(&short)));
    }
    let mut remarks = Vec::new();
    if !short.is_empty() {
        let have = if short.len() == 1 { "has" } else { "have" };
        remarks.push(format!("{} {have} no day {first} and will be skipped", names(&short)));
    }
    if first == 29 && month.has(2) {
        remarks.push("February has a day 29 in leap years only".to_owned());
    }
    Ok(remarks)
}
