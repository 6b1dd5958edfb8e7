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
                   UNION ALL SELECT 'port', inet_server_port()::text
                   UNION ALL SELECT 'standbys', count(*)::text FROM pg_stat_replication
                   UNION ALL SELECT 'tls', coalesce((SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl),
                             '')
                   UNION ALL SELECT 'owner', pg_has_role(relowner, 'USAGE')::text FROM pg_class
                             WHERE oid = 'goflow.running'::regclass
                   UNION ALL SELECT 'bytes', sum(pg_total_relation_size(oid))::bigint::text FROM pg_class
                             WHERE relnamespace = 'goflow'::regnamespace AND relkind = 'r'";
        let rows = connection.rows(sql, &[]).await.map_err(StoreError::from)?;
        let settings: BTreeMap<String, String> =
            rows.iter().map(|row| (row.get(0), row.get::<_, Option<String>>(1).unwrap_or_default())).collect();
        let setting = |name: &str| settings.get(name).map_or("", String::as_str);
        let pooler = pooler(&self.ports, setting("port"));
        let through = if pooler.is_some() { ", through a pooler" } else { "" };
        let mut told = told(&setting);
        told.insert("pooler".to_owned(), pooler.unwrap_or_else(|| "none seen".to_owned()));
        Ok(Health {
            server: format!("PostgreSQL {}{through}", setting("server_version")),
            durability: durability(&setting).to_owned(),
            schema,
            warnings: warnings(&setting),
            bytes: setting("bytes").parse().ok(),
            settings: told,
        })
    }
}

/// Somebody who stands between, told by where the server itself listens. On the same port on another machine he
/// is not seen.
fn pooler(ports: &[u16], own: &str) -> Option<String> {
    let own: u16 = own.parse().ok()?;
    let usual = [5432];
    let named = if ports.is_empty() { &usual[..] } else { ports };
    (!named.contains(&own)).then(|| {
        format!("yes, or a proxy: the server itself listens on port {own}; behind a transaction pooler work is seen within a second")
    })
}

fn told<'a>(setting: &impl Fn(&str) -> &'a str) -> BTreeMap<String, String> {
    let persistence = format!(
        "fsync {}, synchronous_commit {}, full_page_writes {}",
        setting("fsync"),
        setting("synchronous_commit"),
        setting("full_page_writes")
    );
    let replication = match (setting("standbys"), setting("synchronous_standby_names")) {
        ("0" | "", "") => "no standby".to_owned(),
        (count, "") => format!("{count} asynchronous standbys: a failover may cost the last commits"),
        (count, names) => format!("{count} standbys, synchronous: {names}"),
    };
    let tls = match setting("tls") {
        "" => "none on the server's side".to_owned(),
        version => version.to_owned(),
    };
    [("persistence", persistence), ("replication", replication), ("tls", tls)]
        .map(|(name, text)| (name.to_owned(), text))
        .into()
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

    #[test]
    fn who_stands_between_is_told_by_the_port() {
        assert_eq!(pooler(&[], "5432"), None);
        assert_eq!(pooler(&[6432], ""), None);
        assert!(pooler(&[6432], "5432").is_some_and(|text| text.contains("port 5432")));
    }
}
