//! The schema's versions: brought up to date under a lock, in one transaction; a newer one is left
//! alone.

use tokio_postgres::types::Type;
use uuid::Uuid;

use super::columns::job_id;
use super::errors::Fault;
use super::pool::{Connection, Param};
use crate::store::codec::decode_job;
use crate::store::contract::StoreError;

/// Migration n brings the tables of version n - 1 to n. What is released is never edited, only added to.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
];

/// Functions keep nothing, so no migration changes them: all are made anew after the last one.
const FUNCTIONS: &[&str] = &[
    include_str!("schema/common.sql"),
    include_str!("schema/limits.sql"),
    include_str!("schema/talk.sql"),
    include_str!("schema/steps.sql"),
    include_str!("schema/enqueue.sql"),
    include_str!("schema/commit.sql"),
    include_str!("schema/exchange.sql"),
    include_str!("schema/upkeep.sql"),
    include_str!("schema/shared.sql"),
    include_str!("schema/client.sql"),
];

const FORGET_FUNCTIONS: &str = "DO $$
    DECLARE
        old regprocedure;
    BEGIN
        FOR old IN SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 'goflow'::regnamespace LOOP
            EXECUTE 'DROP FUNCTION ' || old;
        END LOOP;
    END $$";

pub(super) const KNOWN: u32 = MIGRATIONS.len() as u32;

/// Whoever changes the schema holds this: the bytes of `goflow`.
const LOCK: i64 = 0x676f_666c_6f77;

/// The version in the database; 0 where there is none.
pub(super) async fn version(connection: &mut Connection) -> Result<u32, Fault> {
    let there = connection.row("SELECT to_regclass('goflow.version') IS NOT NULL", &[]).await?;
    if !there.get::<_, bool>(0) {
        return Ok(0);
    }
    let rows = connection.rows("SELECT number FROM goflow.version", &[]).await?;
    Ok(rows.first().map_or(0, |row| row.get::<_, i32>(0) as u32))
}

/// Brings the schema up to date.
pub(super) async fn migrate(connection: &mut Connection) -> Result<(), Fault> {
    let found = version(connection).await?;
    if found > KNOWN {
        return Err(StoreError::TooNew { found, known: KNOWN }.into());
    }
    if found < KNOWN {
        connection
            .run(async |client| {
                client.batch_execute("BEGIN").await?;
                let done = step_up(client).await;
                client.batch_execute(if done.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
                done
            })
            .await?;
    }
    Ok(())
}

async fn step_up(client: &tokio_postgres::Client) -> Result<(), Fault> {
    client.query_typed("SELECT pg_advisory_xact_lock($1)", &[(&LOCK, Type::INT8)]).await?;
    client
        .batch_execute(
            "CREATE SCHEMA IF NOT EXISTS goflow;
             CREATE TABLE IF NOT EXISTS goflow.version
                 (lonely boolean PRIMARY KEY DEFAULT true CHECK (lonely), number int NOT NULL);
             INSERT INTO goflow.version (number) VALUES (0) ON CONFLICT DO NOTHING",
        )
        .await?;
    // Another process may have been first: look again under the lock.
    let row = client.query_typed_one("SELECT number FROM goflow.version", &[]).await?;
    let found = row.get::<_, i32>(0) as u32;
    if found > KNOWN {
        return Err(StoreError::TooNew { found, known: KNOWN }.into());
    }
    if found < KNOWN {
        client.batch_execute(FORGET_FUNCTIONS).await?;
        for part in MIGRATIONS.iter().skip(found as usize).chain(FUNCTIONS) {
            client.batch_execute(part).await?;
        }
        if found == 1 {
            mark_suspects(client).await?;
        }
    }
    client.query_typed("UPDATE goflow.version SET number = $1", &[(&(KNOWN as i32), Type::INT4)]).await?;
    Ok(())
}

/// Schema 1 did not note beside the record which jobs have crashed.
async fn mark_suspects(client: &tokio_postgres::Client) -> Result<(), Fault> {
    let sql = "SELECT id, body FROM goflow.job WHERE place IN ('s', 't', 'k', 'u')";
    let mut suspects: Vec<Uuid> = Vec::new();
    for row in client.query_typed(sql, &[]).await? {
        let id: Uuid = row.get(0);
        if decode_job(job_id(id), row.get(1))?.is_suspect() {
            suspects.push(id);
        }
    }
    let params: [Param<'_>; 1] = [(&suspects, Type::UUID_ARRAY)];
    client.query_typed("UPDATE goflow.job SET suspect = true WHERE id = ANY ($1)", &params).await?;
    Ok(())
}
