//! Time zones by their IANA names, from the database that is part of the binary. Knows no rules.

use std::fmt;

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

use crate::domain::text::nearest;

/// A time zone with its name.
#[derive(Clone, Debug)]
pub struct Zone {
    name: String,
    zone: TimeZone,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{name}` is not a time zone{}",
    near.as_ref().map_or_else(
        || ": use a name of the IANA database, such as Europe/Berlin or UTC".to_owned(),
        |near| format!(": did you mean {near}?"),
    )
)]
pub struct BadZone {
    pub name: String,
    pub near: Option<String>,
}

impl Zone {
    pub fn utc() -> Zone {
        Zone { name: "UTC".to_owned(), zone: TimeZone::UTC }
    }

    /// Finds a zone by its IANA name, whatever the case of its letters.
    ///
    /// # Errors
    /// [`BadZone`], with the name that is most like it.
    pub fn parse(name: &str) -> Result<Zone, BadZone> {
        match TimeZoneDatabase::bundled().get(name) {
            Ok(zone) => Ok(Zone { name: zone.iana_name().unwrap_or(name).to_owned(), zone }),
            Err(_) => Err(BadZone { name: name.to_owned(), near: near(name) }),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// A time as a clock on the wall shows it there, with its offset: for people.
    pub fn show(&self, at: super::Ms) -> String {
        match Timestamp::from_millisecond(at.0) {
            Ok(at) => at.to_zoned(self.zone.clone()).strftime("%a %Y-%m-%d %H:%M:%S %:z").to_string(),
            Err(_) => at.to_string(),
        }
    }

    pub(super) fn tz(&self) -> &TimeZone {
        &self.zone
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Zone) -> bool {
        self.name == other.name
    }
}

impl Eq for Zone {}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
    }
}

/// People leave the continent out, write blanks, or mistype.
fn near(name: &str) -> Option<String> {
    let name = name.trim().replace(' ', "_");
    let names: Vec<String> = TimeZoneDatabase::bundled().available().map(|name| name.to_string()).collect();
    let city = |full: &str| full.rsplit('/').next().is_some_and(|city| city.eq_ignore_ascii_case(&name));
    let same_city = names.iter().filter(|full| full.contains('/')).find(|full| city(full));
    if let Some(found) = same_city {
        return Some(found.clone());
    }
    if let Some(found) = nearest(&name, names.iter().map(String::as_str)) {
        return Some(found.to_owned());
    }
    let cities = names.iter().filter_map(|full| full.rsplit_once('/').map(|(_, city)| city));
    let city = nearest(&name, cities)?.to_owned();
    names.into_iter().find(|full| full.ends_with(&format!("/{city}")))
}
