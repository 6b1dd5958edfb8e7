//! One field of a cron rule: which values it names, and what its writer may have taken it for.
//! The grammar is crontab(5)'s; what other dialects add is refused by name. Knows no calendar.

/// What a field counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Minute,
    Hour,
    Day,
    Month,
    Weekday,
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Unit {
    pub const ALL: [Unit; 5] = [Unit::Minute, Unit::Hour, Unit::Day, Unit::Month, Unit::Weekday];

    pub fn name(self) -> &'static str {
        match self {
            Unit::Minute => "minute",
            Unit::Hour => "hour",
            Unit::Day => "day-of-month",
            Unit::Month => "month",
            Unit::Weekday => "day-of-week",
        }
    }

    /// The lowest and the highest value that may be written.
    fn bounds(self) -> (u8, u8) {
        match self {
            Unit::Minute => (0, 59),
            Unit::Hour => (0, 23),
            Unit::Day => (1, 31),
            Unit::Month => (1, 12),
            Unit::Weekday => (0, 7),
        }
    }

    /// The highest value that `*` reaches: Sunday counts once.
    fn last(self) -> u8 {
        if self == Unit::Weekday { 6 } else { self.bounds().1 }
    }

    fn names(self) -> (&'static [&'static str], u8) {
        match self {
            Unit::Month => (&MONTHS, 1),
            Unit::Weekday => (&DAYS, 0),
            _ => (&[], 0),
        }
    }
}

/// The values of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub unit: Unit,
    /// Bit n: the value n.
    pub bits: u64,
    /// It begins with `*`. For Vixie's cron that is what makes a field "unrestricted", steps or not.
    pub star: bool,
    /// What its writer may not have meant.
    pub remarks: Vec<String>,
}

impl Field {
    /// Reads a list of `*`, `n`, `n-m`, the last two with names too, and `*` and ranges with `/step`.
    ///
    /// # Errors
    /// Why not, as the end of a sentence that names rule and field.
    pub fn parse(unit: Unit, text: &str) -> Result<Field, String> {
        let mut field = Field { unit, bits: 0, star: text.starts_with('*'), remarks: Vec::new() };
        for element in text.split(',') {
            field.add(element)?;
        }
        Ok(field)
    }

    pub fn values(&self) -> impl Iterator<Item = u8> + '_ {
        (0..64).filter(|value| self.has(*value))
    }

    pub fn has(&self, value: u8) -> bool {
        self.bits & (1 << value) != 0
    }

    pub fn is_full(&self) -> bool {
        let (low, last) = (self.unit.bounds().0, self.unit.last());
        (low..=last).all(|value| self.has(value))
    }

    fn add(&mut self, element: &str) -> Result<(), String> {
        let (range, step) = match element.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (element, None),
        };
        let (low, high) = match (range, range.split_once('-')) {
            ("*", _) => (self.unit.bounds().0, self.unit.last()),
            (_, Some((low, high))) => self.range(range, low, high)?,
            (_, None) => {
                let value = self.value(range)?;
                if let Some(step) = step {
                    let (last, unit) = (self.unit.last(), self.unit.name());
                    return Err(format!(
                        "`{element}` has a step without a range: write {range}-{last}/{step} for every {step} from {unit} {range} on"
                    ));
                }
                (value, value)
            }
        };
        let step = match step {
            None => 1,
            Some(step) => self.step(element, step, low, high)?,
        };
        for value in (low..=high).step_by(step) {
            let value = if self.unit == Unit::Weekday && value == 7 { 0 } else { value };
            self.bits |= 1 << value;
        }
        Ok(())
    }

    fn range(&self, text: &str, low: &str, high: &str) -> Result<(u8, u8), String> {
        let (from, mut to) = (self.value(low)?, self.value(high)?);
        // `fri-sun` ends on the Sunday that is 7.
        if self.unit == Unit::Weekday && to == 0 && from > 0 {
            to = 7;
        }
        if from > to {
            let (first, last) = (self.unit.bounds().0, self.unit.last());
            return Err(format!("`{text}` runs backwards: write {low}-{last},{first}-{high}"));
        }
        Ok((from, to))
    }

    fn value(&self, text: &str) -> Result<u8, String> {
        let (low, high) = self.unit.bounds();
        let (names, first) = self.unit.names();
        if text.is_empty() {
            return Err("a value is missing".to_owned());
        }
        if text.bytes().all(|b| b.is_ascii_digit()) {
            let value = text.parse::<u8>().ok().filter(|value| (low..=high).contains(value));
            return value.ok_or_else(|| format!("`{text}` is not from {low} to {high}"));
        }
        let lower = text.to_ascii_lowercase();
        if let Some(nth) = names.iter().position(|name| *name == lower) {
            return Ok(first + nth as u8);
        }
        let bare = text.trim_matches(['L', 'W', 'H', 'l', 'w', 'h']);
        if text.contains(['#', '?']) || bare.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("`{text}` is of other cron dialects: a crontab has no L, W, H, # or ?"));
        }
        // `monday`, `sept`: the three letters of what was meant.
        let near = lower.get(..3).and_then(|start| names.iter().find(|name| **name == start));
        Err(match near {
            Some(near) => format!("`{text}` is not a value: names have three letters, write {near}"),
            None if names.is_empty() => format!("`{text}` is not a number from {low} to {high}"),
            None => format!("`{text}` is neither a number from {low} to {high} nor a name such as {}", names[1]),
        })
    }

    fn step(&mut self, element: &str, text: &str, low: u8, high: u8) -> Result<usize, String> {
        let step = text.parse::<u16>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
        let step = match step {
            Some(0) => return Err(format!("`{element}` steps by 0: it would never move on")),
            Some(step) => usize::from(step),
            None => return Err(format!("`{element}` has a step that is no number")),
        };
        let (first, last) = (self.unit.bounds().0, self.unit.last());
        let whole = low == first && high >= last;
        let span = usize::from(last - first) + 1;
        // A month's length is no multiple of anything.
        if whole && step > 1 && (!span.is_multiple_of(step) || self.unit == Unit::Day) {
            self.remarks.push(self.misleading(element, step));
        }
        Ok(step)
    }

    fn misleading(&self, element: &str, step: usize) -> String {
        let (first, last) = (self.unit.bounds().0, self.unit.last());
        let values: Vec<String> = (first..=last).step_by(step).map(|value| value.to_string()).collect();
        let values = match values.as_slice() {
            [one] => one.clone(),
            [firsts @ .., last] if values.len() <= 8 => format!("{} and {last}", firsts.join(", ")),
            [one, two, .., last] => format!("{one}, {two} … {last}"),
            _ => String::new(),
        };
        let (whole, every) = match self.unit {
            Unit::Minute => ("every hour", format!("every {step} minutes: for that, write @every {step}m")),
            Unit::Hour => ("every day", format!("every {step} hours: for that, write @every {step}h")),
            Unit::Day => ("every month", format!("every {step} days: for that, write @every {step}d")),
            Unit::Month => ("every year", format!("every {step} months")),
            Unit::Weekday => ("every week", format!("every {step} days: for that, write @every {step}d")),
        };
        format!("`{element}` in the {} field means {values} of {whole}, not {every}", self.unit.name())
    }
}
