//! The end of the event log: the last events there are, of which those that match are told. It begins
//! as far back as is told, and reads on from where it was, a bounded part at a time.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::api::events::EVENT_FIELDS;
use crate::api::filter::Where;
use crate::api::{ApiError, Client, Cursor, EventView, Result};
use crate::tui::msg::{Body, Part};
use crate::tui::rows::{EventRow, Rows};

/// Events read at once, and how long one look may read.
const PAGE: usize = 1_000;
const READS_FOR: Duration = Duration::from_millis(300);
/// Events that are kept, and of those that match, how many are told.
const KEPT: usize = 20_000;
const TOLD: usize = 1_000;

#[derive(Debug, Default)]
pub struct Events {
    after: Option<Cursor>,
    kept: VecDeque<EventView>,
    is_current: bool,
}

impl Events {
    /// Reads on, and tells the latest that match, oldest first.
    ///
    /// # Errors
    /// A filter that cannot be read, and the store's.
    pub async fn look(&mut self, client: &Client, filter: &str) -> Result<Body> {
        let filter = Where::parse(filter, EVENT_FIELDS).map_err(|error| ApiError::Conflict(error.to_string()))?;
        let until = Instant::now() + READS_FOR;
        loop {
            if self.after.is_none() {
                self.after = client.events_tail(TOLD).await?;
            }
            let (events, next) = client.events_after(self.after.as_ref(), PAGE).await?;
            self.after = Some(next);
            self.kept.extend(events.iter().map(EventView::from));
            let over = self.kept.len().saturating_sub(KEPT);
            self.kept.drain(..over);
            self.is_current = events.is_empty();
            if self.is_current || Instant::now() >= until {
                break;
            }
        }
        let now = client.clock().now();
        let matching = self.kept.iter().rev().filter(|event| filter.matches(event, now)).take(TOLD);
        let mut rows: Vec<EventRow> = matching.map(EventRow::from).collect();
        rows.reverse();
        Ok(Body::Part(Part {
            rows: Rows::Events(rows),
            looked: Some(self.kept.len() as u64),
            filling: !self.is_current,
            ..Part::default()
        }))
    }
}
