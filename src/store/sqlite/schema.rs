//! The tables, and how an older file becomes a newer one. It knows SQL and versions, not jobs.
//!
//! Bodies lie in rowid tables in the order they came, so that new work is appended; everything that
//! moves lies in narrow tables beside them. A running job is still in `jobs` as it was when it
//! waited: its row in `running` is the lease, and the only one.

use rusqlite::{Connection, TransactionBehavior};

use super::fault::Fault;
use crate::store::StoreError;

/// What this goflow writes.
pub(super) const VERSION: u32 = 3;

/// `application_id`: says that a SQLite file is goflow's.
const APPLICATION: i32 = 0x676f_666c;

/// One entry a version: what makes version n out of n - 1.
const STEPS: [&str; VERSION as usize] = [
    "
    -- The counters that every transaction reads and writes: one row.
    CREATE TABLE state(
        one INTEGER PRIMARY KEY CHECK (one = 1),
        back INTEGER NOT NULL,      -- the last turn given at the end of a line
        front INTEGER NOT NULL,     -- the last turn given at the head of a line
        epoch INTEGER NOT NULL,     -- the last lease
        settings INTEGER NOT NULL   -- rises when a queue comes or changes
    );
    INSERT INTO state VALUES (1, 0, 0, 0, 0);

    CREATE TABLE queues(
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        settings BLOB NOT NULL
    );
    CREATE TABLE counts(
        queue INTEGER NOT NULL,
        place INTEGER NOT NULL,
        jobs INTEGER NOT NULL,
        PRIMARY KEY (queue, place)
    ) WITHOUT ROWID;

    -- `place`, `rank` and `turn` name the row of `line`; they are out of date while the job runs.
    CREATE TABLE jobs(
        n INTEGER PRIMARY KEY,
        id BLOB NOT NULL UNIQUE,
        queue INTEGER NOT NULL,
        place INTEGER NOT NULL,
        rank INTEGER NOT NULL,
        turn INTEGER NOT NULL,
        priority INTEGER NOT NULL,
        rev INTEGER NOT NULL,
        timeout INTEGER,
        run BLOB,
        body BLOB NOT NULL
    );
    CREATE TABLE line(
        queue INTEGER NOT NULL,
        place INTEGER NOT NULL,
        rank INTEGER NOT NULL,
        turn INTEGER NOT NULL,
        job INTEGER NOT NULL,
        PRIMARY KEY (queue, place, rank, turn)
    ) WITHOUT ROWID;
    CREATE TABLE running(
        epoch INTEGER PRIMARY KEY,
        job INTEGER NOT NULL,
        id BLOB NOT NULL,
        queue INTEGER NOT NULL,
        worker BLOB NOT NULL,
        since INTEGER NOT NULL,
        expires INTEGER
    );
    CREATE TABLE parked(
        kind TEXT NOT NULL,
        rank INTEGER NOT NULL,
        turn INTEGER NOT NULL,
        job INTEGER NOT NULL,
        PRIMARY KEY (kind, rank, turn)
    ) WITHOUT ROWID;
    CREATE TABLE uniques(
        key TEXT PRIMARY KEY,
        id BLOB NOT NULL
    ) WITHOUT ROWID;

    CREATE TABLE workers(
        id BLOB PRIMARY KEY,
        expires INTEGER NOT NULL,
        info BLOB NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE producers(
        id BLOB PRIMARY KEY,
        sequence INTEGER NOT NULL,
        at INTEGER NOT NULL,
        answer BLOB NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX producers_at ON producers(at);

    CREATE TABLE runs(
        n INTEGER PRIMARY KEY,
        id BLOB NOT NULL UNIQUE,
        workflow TEXT NOT NULL,
        state TEXT NOT NULL,
        rev INTEGER NOT NULL,
        terminal INTEGER NOT NULL,
        finished INTEGER,
        body BLOB NOT NULL
    );
    CREATE INDEX runs_terminal ON runs(terminal, id);
    CREATE INDEX runs_finished ON runs(finished) WHERE finished IS NOT NULL;
    CREATE TABLE inbox(
        run INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        fact BLOB NOT NULL,
        PRIMARY KEY (run, seq)
    ) WITHOUT ROWID;
    CREATE TABLE dirty(
        run INTEGER PRIMARY KEY,
        hidden_until INTEGER NOT NULL
    );
    CREATE INDEX dirty_hidden_until ON dirty(hidden_until);
    CREATE TABLE vals(
        run INTEGER NOT NULL,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (run, key)
    ) WITHOUT ROWID;
    CREATE TABLE timers(
        run INTEGER NOT NULL,
        key TEXT NOT NULL,
        due INTEGER NOT NULL,
        fact BLOB NOT NULL,
        PRIMARY KEY (run, key)
    ) WITHOUT ROWID;
    CREATE INDEX timers_due ON timers(due);
    CREATE TABLE history(
        run INTEGER NOT NULL,
        turn INTEGER NOT NULL,
        at INTEGER NOT NULL,
        events BLOB NOT NULL,
        PRIMARY KEY (run, turn)
    ) WITHOUT ROWID;

    CREATE TABLE definitions(
        hash TEXT PRIMARY KEY,
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        text TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE current(
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        hash TEXT NOT NULL,
        PRIMARY KEY (kind, name)
    ) WITHOUT ROWID;

    -- One packed record a transaction.
    CREATE TABLE events(
        position INTEGER PRIMARY KEY,
        at INTEGER NOT NULL,
        record BLOB NOT NULL
    );
",
    "
    -- 1: it has crashed, and waits apart; 2: it has a row in `keyed`.
    ALTER TABLE jobs ADD COLUMN flags INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE workers ADD COLUMN draining INTEGER NOT NULL DEFAULT 0;
    -- A key may be taken for a time although its job has ended.
    ALTER TABLE uniques ADD COLUMN live INTEGER NOT NULL DEFAULT 1;
    ALTER TABLE uniques ADD COLUMN until INTEGER;

    -- Live jobs with a concurrency key: waiting (0), running (1), or blocked (2), and then with their order.
    CREATE TABLE keyed(
        job INTEGER PRIMARY KEY,
        key TEXT NOT NULL,
        most INTEGER NOT NULL,
        state INTEGER NOT NULL,
        rank INTEGER NOT NULL,
        turn INTEGER NOT NULL
    );
    CREATE INDEX keyed_key ON keyed(key, state, rank, turn);
    CREATE TABLE buckets(
        name TEXT PRIMARY KEY,
        next INTEGER NOT NULL       -- microseconds
    ) WITHOUT ROWID;

    -- A held job and each of its parents, and the parents among them that have ended.
    CREATE TABLE ties(
        parent BLOB NOT NULL,
        child INTEGER NOT NULL,
        PRIMARY KEY (parent, child)
    ) WITHOUT ROWID;
    CREATE INDEX ties_child ON ties(child);
    CREATE TABLE ended(parent BLOB PRIMARY KEY) WITHOUT ROWID;

    CREATE TABLE asks(id BLOB PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE progress(
        id BLOB PRIMARY KEY,
        progress BLOB NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE logs(
        id BLOB NOT NULL,
        seq INTEGER NOT NULL,
        at INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        text TEXT NOT NULL,
        PRIMARY KEY (id, seq)
    );
    CREATE TABLE log_sizes(
        id BLOB PRIMARY KEY,
        last INTEGER NOT NULL,      -- the last seq
        bytes INTEGER NOT NULL
    ) WITHOUT ROWID;

    -- Live runs under a concurrency key: waiting, or inside.
    CREATE TABLE gates(
        run INTEGER PRIMARY KEY,
        key TEXT NOT NULL,
        most INTEGER NOT NULL,
        inside INTEGER NOT NULL,
        turn INTEGER NOT NULL,
        go BLOB NOT NULL
    );
    CREATE INDEX gates_key ON gates(key, inside, turn);
    CREATE TABLE schedules(
        name TEXT PRIMARY KEY,
        rev INTEGER NOT NULL,
        due INTEGER,
        body BLOB NOT NULL
    ) WITHOUT ROWID;
",
    "
    -- Numbers that only rise: revisions of documents, and fences of locks.
    CREATE TABLE marks(
        name TEXT PRIMARY KEY,
        value INTEGER NOT NULL
    ) WITHOUT ROWID;
    INSERT INTO marks VALUES ('document', 0), ('fence', 0);

    CREATE TABLE documents(
        name TEXT PRIMARY KEY,
        rev INTEGER NOT NULL,
        until INTEGER,
        body BLOB NOT NULL
    );
    CREATE INDEX documents_until ON documents(until) WHERE until IS NOT NULL;

    -- Grants of locks. All live ones of a name have the same number of slots.
    CREATE TABLE locks(
        name TEXT NOT NULL,
        holder BLOB NOT NULL,
        slots INTEGER NOT NULL,
        about TEXT NOT NULL,
        fence INTEGER NOT NULL,
        since INTEGER NOT NULL,
        until INTEGER NOT NULL,
        PRIMARY KEY (name, holder)
    ) WITHOUT ROWID;
    CREATE INDEX locks_until ON locks(until);
",
];

/// The schema version of a file: 0 for an empty one. In one view of it, for another process may make the
/// tables between two looks.
///
/// # Errors
/// [`StoreError::TooNew`], or [`StoreError::Corrupt`] if the tables are another program's.
pub(super) fn look(conn: &mut Connection, path: &str) -> Result<u32, Fault> {
    let view = conn.transaction()?;
    version(&view, path)
}

/// Of a transaction.
fn version(conn: &Connection, path: &str) -> Result<u32, Fault> {
    let number = |pragma: &str| conn.query_row(pragma, (), |row| row.get::<_, i32>(0));
    let (application, found) = (number("PRAGMA application_id")?, number("PRAGMA user_version")?);
    if application == APPLICATION {
        let found = u32::try_from(found).unwrap_or_default();
        return if found > VERSION { Err(StoreError::TooNew { found, known: VERSION }.into()) } else { Ok(found) };
    }
    if application != 0 || found != 0 || number("SELECT count(*) FROM sqlite_schema")? != 0 {
        let message = format!("{path} is a SQLite database of another program; it was left as it is");
        return Err(StoreError::Corrupt(message).into());
    }
    Ok(0)
}

/// Brings the file to [`VERSION`], under the write lock: of several processes that open a file at
/// once, one migrates it and the others find it done.
pub(super) fn migrate(conn: &mut Connection, path: &str) -> Result<(), Fault> {
    if look(conn, path)? == VERSION {
        return Ok(());
    }
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let from = version(&tx, path)?;
    for step in STEPS.iter().skip(from as usize) {
        tx.execute_batch(step)?;
    }
    tx.execute_batch(&format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION};"))?;
    tx.commit()?;
    Ok(())
}
