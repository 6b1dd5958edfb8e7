//! Looking at jobs: finding them by any unique part of their id, listing.

use super::{ApiError, Client, Filter, Result};
use crate::domain::{JobId, limits};
use crate::store::{Cursor, ListQuery, Stored};

/// Some of the jobs that match.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobPage {
    pub jobs: Vec<Stored>,
    /// More match than were asked for.
    pub cut: bool,
}

/// A part of a list: the jobs that match, and where it goes on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobsFrom {
    pub jobs: Vec<Stored>,
    /// Records looked at.
    pub looked: usize,
    /// Where the next part begins, for the same filter; `None` at the end.
    pub next: Option<String>,
}

/// Where in the places of a filter a part begins.
#[derive(Debug, Default)]
struct Spot {
    nth: usize,
    after: Option<Cursor>,
}

impl Spot {
    fn read(text: &str) -> Option<Spot> {
        let (nth, after) = text.split_once('/')?;
        Some(Spot {
            nth: nth.parse().ok()?,
            after: Some(after).filter(|after| !after.is_empty()).map(|after| Cursor(after.to_owned())),
        })
    }

    fn text(&self) -> String {
        format!("{}/{}", self.nth, self.after.as_ref().map_or("", |after| after.0.as_str()))
    }
}

impl Client {
    /// The job with this id, or with an id of which this is a unique part.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], [`ApiError::Ambiguous`].
    pub async fn job(&self, part: &str) -> Result<Stored> {
        let not_found = || ApiError::NotFound { noun: "job", id: part.to_owned() };
        let id = match part.parse::<JobId>() {
            Ok(id) => id,
            Err(_) => {
                let hex = hex_part(part).ok_or_else(not_found)?;
                match self.store().find(&hex, 6).await?.as_slice() {
                    [] => return Err(not_found()),
                    [one] => *one,
                    several => {
                        let ids = several.iter().take(5).map(JobId::to_string).collect();
                        return Err(ApiError::Ambiguous { noun: "job", part: part.to_owned(), ids });
                    }
                }
            }
        };
        self.store().get(&[id]).await?.into_iter().next().flatten().ok_or_else(not_found)
    }

    /// The jobs with these ids, in their order; none for one that is not kept.
    ///
    /// # Errors
    /// The store's.
    pub async fn jobs_of(&self, ids: &[JobId]) -> Result<Vec<Option<Stored>>> {
        Ok(self.store().get(ids).await?)
    }

    /// Jobs that match, at most `limit` (0 means all), in the order of their places.
    ///
    /// # Errors
    /// The store's.
    pub async fn jobs(&self, filter: &Filter, limit: usize) -> Result<JobPage> {
        let now = self.clock().now();
        let mut page = JobPage::default();
        for place in filter.places() {
            let mut after: Option<Cursor> = None;
            loop {
                // Asking for one more than wanted tells whether the list was cut.
                let budget = match (filter.is_selective(), limit) {
                    (false, 1..) => (limit + 1 - page.jobs.len()).min(limits::LIST_BUDGET),
                    _ => limits::LIST_BUDGET,
                };
                let query = ListQuery { place, queue: filter.queue().cloned(), after: after.take(), budget };
                let found = self.store().list(&query).await?;
                page.jobs.extend(found.items.into_iter().filter(|stored| filter.matches(stored, now)));
                if limit > 0 && page.jobs.len() > limit {
                    page.jobs.truncate(limit);
                    page.cut = true;
                    return Ok(page);
                }
                match found.next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
        }
        Ok(page)
    }

    /// The next jobs that match from a place in their list on (`None`: its beginning), at least `want`
    /// unless `budget` records were looked at before or the list has ended. Does not wait for a store that
    /// is away.
    ///
    /// # Errors
    /// The store's; [`ApiError::Conflict`] for a place that no list has given.
    pub async fn jobs_from(&self, filter: &Filter, from: Option<&str>, want: usize, budget: usize) -> Result<JobsFrom> {
        let (places, now) = (filter.places(), self.clock().now());
        let no_place = |from: &str| ApiError::Conflict(format!("`{from}` is no place in a list of jobs"));
        let mut at = match from {
            Some(from) => Spot::read(from).ok_or_else(|| no_place(from))?,
            None => Spot::default(),
        };
        let mut found = JobsFrom::default();
        while let Some(place) = places.get(at.nth).copied()
            && found.jobs.len() < want
            && found.looked < budget
        {
            let left = if filter.is_selective() { budget - found.looked } else { want - found.jobs.len() };
            let budget = left.min(limits::LIST_BUDGET);
            let query = ListQuery { place, queue: filter.queue().cloned(), after: at.after.take(), budget };
            let page = self.store().list(&query).await?;
            found.looked += page.items.len();
            found.jobs.extend(page.items.into_iter().filter(|stored| filter.matches(stored, now)));
            at = match page.next {
                Some(next) => Spot { nth: at.nth, after: Some(next) },
                None => Spot { nth: at.nth + 1, after: None },
            };
        }
        found.next = places.get(at.nth).map(|_| at.text());
        Ok(found)
    }
}

/// The hexadecimal digits of a part of an id, without hyphens; `None` if it cannot be one.
pub(super) fn hex_part(part: &str) -> Option<String> {
    let hex: String = part.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect();
    (!hex.is_empty() && hex.len() <= 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(hex)
}
