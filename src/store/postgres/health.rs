//! What `doctor` tells of the server: what an acknowledged write survives, by its settings.

use std::collections::BTreeMap;

use super::PostgresStore;
use super::pool::{Connection, DEADLINE};
use super::schema;
use crate::store::contract::{Health, Result, StoreError};

impl PostgresStore {
    pub(super) async fn look_at_health(&self) -> Result<Health> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let schema = schema::version(&mut connection).await?;
        let sql =
            "SELECT name, setting FROM pg_settings WHERE name IN ('server_version', 'fsync', 'synchronous_commit',
                   'full_page_writes', 'autovacuum', 'synchronous_standby_names')
                   UNION ALL SELECT 'standby', pg_is_in_recovery()::text
                   UNION ALL SELECT 'owner', pg_has_role(relowner, 'USAGE')::text FROM pg_class
                             WHERE oid = 'goflow.running'::regclass
                   UNION ALL SELECT 'bytes', sum(pg_total_relation_size(oid))::bigint::text FROM pg_class
                             WHERE relnamespace = 'goflow'::regnamespace AND relkind = 'r'";
        let rows = connection.rows(sql, &[]).await.map_err(StoreError::from)?;
        let settings: BTreeMap<String, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let setting = |name: &str| settings.get(name).map_or("", String::as_str);
        Ok(Health {
            server: format!("PostgreSQL {}", setting("server_version")),
            durability: durability(&setting).to_owned(),
            schema,
            warnings: warnings(&setting),
            bytes: setting("bytes").parse().ok(),
        })
    }
}

fn durability<'a>(setting: &impl Fn(&str) -> &'a str) -> &'static str {
    if setting("fsync") != "on" {
        return "survives a crash of the server process, not of the machine: fsync is off";
    }
    let standbys = !setting("synchronous_standby_names").is_empty();
    match setting("synchronous_commit") {
        "off" => "the last moments of acknowledged writes are lost in a crash: synchronous_commit is off",
        "remote_apply" | "remote_write" | "on" if standbys => {
            "survives a loss of power and of this machine: committed on disk here and at a synchronous standby"
        }
        _ => "survives a loss of power: committed on disk with fsync",
    }
}

fn warnings<'a>(setting: &impl Fn(&str) -> &'a str) -> Vec<String> {
    let all = [
        (setting("fsync") != "on", "fsync is off: a loss of power may destroy the whole database"),
        (setting("full_page_writes") != "on", "full_page_writes is off: a loss of power may tear pages"),
        (setting("synchronous_commit") == "off", "synchronous_commit is off: acknowledged work may be lost in a crash"),
        (setting("autovacuum") != "on", "autovacuum is off: finished work will bloat the tables"),
        (setting("standby") == "true", "the server is a standby: it takes no writes"),
        (
            setting("owner") == "false",
            "this role does not own the goflow tables: it cannot clean them between autovacuums",
        ),
    ];
    all.into_iter().filter(|(on, _)| *on).map(|(_, text)| text.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durability_follows_the_settings() {
        let with = |changes: &[(&'static str, &'static str)]| {
            let mut settings = BTreeMap::from([
                ("fsync", "on"),
                ("synchronous_commit", "on"),
                ("full_page_writes", "on"),
                ("autovacuum", "on"),
            ]);
            settings.extend(changes.iter().copied());
            let setting = |name: &str| settings.get(name).copied().unwrap_or("");
            (durability(&setting), warnings(&setting))
        };
        assert_eq!(with(&[]), ("survives a loss of power: committed on disk with fsync", vec![]));
        let (text, warned) = with(&[("fsync", "off")]);
        assert!(text.contains("fsync is off"), "{text}");
        assert_eq!(warned.len(), 1);
        assert!(with(&[("synchronous_commit", "off")]).0.contains("lost in a crash"));
        assert!(with(&[("synchronous_standby_names", "a")]).0.contains("standby"));
    }
}
