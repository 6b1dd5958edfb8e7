//! The dead jobs, gathered by what they died of. All of them have to be looked at for that: a part in
//! each look, on from where the last one ended, and anew only when something has died or left since, or
//! after a while.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::api::verbs::At;
use crate::api::{ApiError, Client, Filter, JobView, Result, Stored};
use crate::domain::{JobState, Ms};
use crate::tui::msg::{Body, Part};
use crate::tui::rows::groups::{GroupRow, covers, filter as filter_of, template};
use crate::tui::rows::{JobRow, Rows};

/// How long one look may read.
const READS_FOR: Duration = Duration::from_millis(1_500);
/// A result that took long to gather is good for longer.
const GOOD_FOR: u32 = 20;
const GOOD_FOR_LEAST: Duration = Duration::from_secs(10);
/// More groups are not told apart: what dies of ever new errors is one group of its type then.
const GROUPS: usize = 2_000;

#[derive(Debug, Default)]
pub struct Dead {
    /// The filter and the counters that what is here was read for.
    of: Option<(String, Vec<(String, u64)>)>,
    walk: Option<Walk>,
    /// The last whole result, and until when it is good.
    whole: Option<(Vec<GroupRow>, u64, Instant)>,
}

#[derive(Debug)]
struct Walk {
    at: Option<At>,
    now: Ms,
    begun: Instant,
    looked: u64,
    groups: BTreeMap<(String, String), Group>,
}

#[derive(Debug)]
struct Group {
    count: u64,
    steps: u64,
    queues: BTreeSet<String>,
    first_at: Ms,
    last_at: Ms,
    example: JobRow,
}

impl Dead {
    /// The groups as far as they are known.
    ///
    /// # Errors
    /// A filter that cannot be read, and the store's.
    pub async fn look(&mut self, client: &Client, text: &str) -> Result<Body> {
        let filter = Filter::parse(text).map_err(|error| ApiError::Conflict(error.to_string()))?;
        let filter = filter.only_states(&[JobState::Dead]);
        let stats = client.queue_stats().await?;
        let counters = stats.iter().filter(|one| one.dead > 0).map(|one| (one.name.to_string(), one.dead)).collect();
        let of = Some((text.to_owned(), counters));
        if self.of.as_ref().map(|(text, _)| text) != of.as_ref().map(|(text, _)| text) {
            (self.walk, self.whole) = (None, None);
        }
        let is_good = self.whole.as_ref().is_some_and(|(.., until)| Instant::now() < *until);
        if self.walk.is_none() && !(is_good && self.of == of) {
            self.walk = Some(Walk {
                at: Some(At::default()),
                now: client.clock().now(),
                begun: Instant::now(),
                looked: 0,
                groups: BTreeMap::new(),
            });
        }
        self.of = of;
        let Some(walk) = &mut self.walk else { return Ok(self.told(text)) };
        walk.go_on(client, &filter).await?;
        if walk.at.is_none() {
            let took = walk.begun.elapsed();
            let good = took.saturating_mul(GOOD_FOR).max(GOOD_FOR_LEAST);
            self.whole = Some((walk.rows(text), walk.looked, Instant::now() + good));
            self.walk = None;
        }
        Ok(self.told(text))
    }

    fn told(&self, text: &str) -> Body {
        let (rows, looked, filling) = match (&self.whole, &self.walk) {
            (Some((rows, looked, _)), _) => (rows.clone(), *looked, false),
            (None, Some(walk)) => (walk.rows(text), walk.looked, true),
            (None, None) => (Vec::new(), 0, false),
        };
        Body::Part(Part { rows: Rows::Groups(rows), looked: Some(looked), filling, ..Part::default() })
    }
}

impl Walk {
    async fn go_on(&mut self, client: &Client, filter: &Filter) -> Result<()> {
        let until = Instant::now() + READS_FOR;
        while let Some(at) = self.at.clone() {
            let page = client.walk(filter, at, self.now).await?;
            self.looked += page.looked;
            for stored in &page.jobs {
                self.add(stored);
            }
            self.at = page.next;
            if Instant::now() >= until {
                break;
            }
        }
        Ok(())
    }

    fn add(&mut self, stored: &Stored) {
        let view = JobView::from(stored);
        let (class, message) = match &view.error {
            Some(error) => (error.class.as_str(), error.message.as_str()),
            None => ("", ""),
        };
        let mut key = (view.kind.clone(), template(class, message));
        if self.groups.len() >= GROUPS && !self.groups.contains_key(&key) {
            key.1 = "*".to_owned();
        }
        let at = view.finished_at.unwrap_or(view.updated_at).0;
        let row = || JobRow::from(&view);
        let group = self.groups.entry(key).or_insert_with(|| Group {
            count: 0,
            steps: 0,
            queues: BTreeSet::new(),
            first_at: at,
            last_at: at,
            example: row(),
        });
        group.count += 1;
        group.steps += u64::from(view.run_id.is_some());
        if group.queues.len() < 20 {
            group.queues.insert(view.queue.clone());
        }
        group.first_at = group.first_at.min(at);
        if at > group.last_at {
            (group.last_at, group.example) = (at, row());
        }
    }

    /// A row a group, the largest first. A group whose filter also matches another takes it in, so that
    /// what is counted is what a verb acts on.
    fn rows(&self, narrowed: &str) -> Vec<GroupRow> {
        let mut keys: Vec<&(String, String)> = self.groups.keys().collect();
        keys.sort_by_key(|(_, template)| std::cmp::Reverse(template.matches('*').count()));
        let mut rows: Vec<GroupRow> = Vec::new();
        for key in keys {
            let group = &self.groups[key];
            let (kind, error) = key;
            match rows.iter_mut().find(|row| row.kind == *kind && covers(&row.error, error)) {
                Some(row) => row.take_in(group),
                None => rows.push(GroupRow {
                    filter: format!("{narrowed} {}", filter_of(kind, error)).trim().to_owned(),
                    kind: kind.clone(),
                    error: error.clone(),
                    count: group.count,
                    steps: group.steps,
                    queues: group.queues.iter().cloned().collect(),
                    first_at: group.first_at,
                    last_at: group.last_at,
                    example: group.example.clone(),
                }),
            }
        }
        rows.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.filter.cmp(&b.filter)));
        rows
    }
}

impl GroupRow {
    fn take_in(&mut self, group: &Group) {
        self.count += group.count;
        self.steps += group.steps;
        for queue in &group.queues {
            if !self.queues.contains(queue) {
                self.queues.push(queue.clone());
            }
        }
        self.first_at = self.first_at.min(group.first_at);
        if group.last_at > self.last_at {
            (self.last_at, self.example) = (group.last_at, group.example.clone());
        }
    }
}
