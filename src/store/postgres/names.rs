//! Queues by number: the tables keep four bytes where a name would be; numbers never change and
//! queues are never removed, so what was learnt once stays right.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_postgres::types::Type;

use super::errors::Fault;
use super::pool::Connection;
use crate::domain::Name;
use crate::store::contract::StoreError;

#[derive(Default)]
pub(super) struct Names(Mutex<Known>);

#[derive(Default)]
struct Known {
    numbers: BTreeMap<Name, i32>,
    names: BTreeMap<i32, Name>,
}

impl Names {
    /// Knows only these rows of queues: number and name.
    pub fn of(rows: &[tokio_postgres::Row]) -> Result<Names, Fault> {
        let names = Names::default();
        names.keep(rows.iter())?;
        Ok(names)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn number(&self, name: &Name) -> Option<i32> {
        self.known().numbers.get(name).copied()
    }

    pub fn name(&self, number: i32) -> Option<Name> {
        self.known().names.get(&number).cloned()
    }

    fn unknown<'a>(&self, names: impl Iterator<Item = &'a Name>) -> Vec<String> {
        let known = self.known();
        let mut unknown: Vec<String> =
            names.filter(|name| !known.numbers.contains_key(*name)).map(|name| name.as_str().to_owned()).collect();
        unknown.sort();
        unknown.dedup();
        unknown
    }

    /// Learns the numbers of these names; those that no queue has stay unknown.
    pub async fn learn<'a>(
        &self,
        connection: &mut Connection,
        names: impl Iterator<Item = &'a Name>,
    ) -> Result<(), Fault> {
        let unknown = self.unknown(names);
        if unknown.is_empty() {
            return Ok(());
        }
        let sql = "SELECT id, name FROM goflow.queue WHERE name = ANY ($1)";
        let rows = connection.rows(sql, &[(&unknown, Type::TEXT_ARRAY)]).await?;
        self.keep(rows.iter())
    }

    /// Makes queues of those names that are not yet any, and learns their numbers.
    pub async fn make<'a>(
        &self,
        connection: &mut Connection,
        names: impl Iterator<Item = &'a Name> + Clone,
    ) -> Result<(), Fault> {
        self.learn(connection, names.clone()).await?;
        let unknown = self.unknown(names.clone());
        if unknown.is_empty() {
            return Ok(());
        }
        let sql = "INSERT INTO goflow.queue (name) SELECT unnest($1) ON CONFLICT (name) DO NOTHING";
        connection.rows(sql, &[(&unknown, Type::TEXT_ARRAY)]).await?;
        self.learn(connection, names).await
    }

    /// Learns all queues.
    pub async fn refresh(&self, connection: &mut Connection) -> Result<(), Fault> {
        let rows = connection.rows("SELECT id, name FROM goflow.queue", &[]).await?;
        self.keep(rows.iter())
    }

    fn keep<'a>(&self, rows: impl Iterator<Item = &'a tokio_postgres::Row>) -> Result<(), Fault> {
        let mut known = self.known();
        for row in rows {
            let (number, text): (i32, String) = (row.get(0), row.get(1));
            let name: Name =
                text.parse().map_err(|error| StoreError::Corrupt(format!("a queue has a bad name: {error}")))?;
            known.numbers.insert(name.clone(), number);
            known.names.insert(number, name);
        }
        Ok(())
    }
}
