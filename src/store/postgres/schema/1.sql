-- Schema 1: where things lie. Every fact is stored once: a job's record in `job`, its turn in
-- `waiting`, its lease in `running`.
--
-- A job costs, over a plain life: one row and one key in `job`, one in `waiting`, one in `running`
-- (both narrow and short-lived), and one new version in `job` when it ends. Claims never touch the
-- wide row: `job.place` says `p` from the enqueue until the job is settled, and the lease is what
-- tells a running job from a waiting one.
--
-- Places are the letters of `Place::code`. Times are milliseconds since 1970 in UTC.

CREATE TABLE goflow.queue (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    paused boolean NOT NULL DEFAULT false,
    settings bytea
);

-- Turns are drawn in blocks of 1,024 (one draw a batch), epochs in blocks of 64 (one a claim).
CREATE SEQUENCE goflow.turn INCREMENT BY 1024;
CREATE SEQUENCE goflow.epoch INCREMENT BY 64;
CREATE SEQUENCE goflow.fact;
CREATE SEQUENCE goflow.position;

CREATE TABLE goflow.job (
    id uuid NOT NULL PRIMARY KEY,
    turn bigint NOT NULL,
    -- Scheduled, retrying: when it is due. Elsewhere: when it came there.
    at bigint NOT NULL,
    rev bigint NOT NULL,
    queue int NOT NULL,
    lane smallint NOT NULL,
    place "char" NOT NULL,
    type text COLLATE "C" NOT NULL,
    timeout_ms bigint,
    run_id uuid,
    body bytea NOT NULL
);
-- Everything that is neither in the line nor leased, in the order in which it is listed, comes due
-- and is trimmed. What waits in the line pays nothing for it.
CREATE INDEX job_place ON goflow.job (place, queue, at, turn) WHERE place <> 'p';
CREATE INDEX job_parked ON goflow.job (type, at, turn) WHERE place = 'k';

-- The line. A lane is twice the negated priority, plus one; jobs put in front have the lane before
-- theirs, with falling turns. So the order of the key is the order of claims, and each lane is
-- consumed from one end.
CREATE TABLE goflow.waiting (
    turn bigint NOT NULL,
    queue int NOT NULL,
    lane smallint NOT NULL,
    id uuid NOT NULL,
    PRIMARY KEY (queue, lane, turn)
);
ALTER TABLE goflow.waiting SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

-- Which lanes a queue has ever had: so that a claim can go to the head of each by its key.
CREATE TABLE goflow.lane (
    queue int NOT NULL,
    lane smallint NOT NULL,
    PRIMARY KEY (queue, lane)
);

-- The leases, and nothing else: a row here is the right to settle.
CREATE TABLE goflow.running (
    epoch bigint NOT NULL PRIMARY KEY,
    since bigint NOT NULL,
    expires bigint,
    queue int NOT NULL,
    id uuid NOT NULL,
    worker uuid NOT NULL
);
ALTER TABLE goflow.running SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0);

-- Counters as changes, so that no two transactions meet at one row; folded now and then.
CREATE TABLE goflow.delta (
    n bigint NOT NULL,
    queue int NOT NULL,
    place "char" NOT NULL
);
ALTER TABLE goflow.delta SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0);

CREATE TABLE goflow.unique_key (
    key bytea NOT NULL PRIMARY KEY,
    id uuid NOT NULL
);

CREATE TABLE goflow.worker (
    id uuid NOT NULL PRIMARY KEY,
    expires bigint NOT NULL,
    info bytea NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE goflow.producer (
    id uuid NOT NULL PRIMARY KEY,
    sequence bigint NOT NULL,
    at bigint NOT NULL,
    -- The answer: 0 created, 1 exists, 2 conflict with the holder at the same place.
    states smallint[] NOT NULL,
    holders uuid[] NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE goflow.run (
    id uuid NOT NULL PRIMARY KEY,
    rev bigint NOT NULL,
    finished bigint,
    live boolean NOT NULL,
    workflow text COLLATE "C" NOT NULL,
    state text NOT NULL,
    body bytea NOT NULL
) WITH (fillfactor = 60);
CREATE INDEX run_live ON goflow.run (live, id);
CREATE INDEX run_finished ON goflow.run (finished) WHERE finished IS NOT NULL;

CREATE TABLE goflow.inbox (
    run_id uuid NOT NULL,
    seq bigint NOT NULL,
    fact bytea NOT NULL,
    PRIMARY KEY (run_id, seq)
);
CREATE TABLE goflow.dirty (
    run_id uuid NOT NULL PRIMARY KEY,
    until bigint NOT NULL
);
CREATE INDEX dirty_until ON goflow.dirty (until, run_id);
CREATE TABLE goflow.timer (
    run_id uuid NOT NULL,
    due bigint NOT NULL,
    key bytea NOT NULL,
    fact bytea NOT NULL,
    PRIMARY KEY (run_id, key)
);
CREATE INDEX timer_due ON goflow.timer (due, run_id, key);
CREATE TABLE goflow.value (
    run_id uuid NOT NULL,
    key bytea NOT NULL,
    value bytea NOT NULL,
    PRIMARY KEY (run_id, key)
);
CREATE TABLE goflow.history (
    run_id uuid NOT NULL,
    seq bigint NOT NULL,
    at bigint NOT NULL,
    events bytea NOT NULL,
    PRIMARY KEY (run_id, seq)
);

CREATE TABLE goflow.definition (
    hash text COLLATE "C" NOT NULL PRIMARY KEY,
    kind text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    text bytea NOT NULL
);
CREATE TABLE goflow.current_definition (
    kind text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    hash text COLLATE "C" NOT NULL,
    PRIMARY KEY (kind, name)
);

-- The event log: one packed record a commit. A position is drawn by a transaction that has its number
-- already, and after everything that it saw: so positions follow cause and effect, though not the
-- order of commits (see events.rs).
CREATE TABLE goflow.event (
    position bigint NOT NULL PRIMARY KEY,
    at bigint NOT NULL,
    -- Each a list of events.
    events bytea[],
    -- The jobs claimed in the same commit: their events are made when they are read.
    worker uuid,
    claimed uuid[],
    claimed_queues int[]
);
ALTER TABLE goflow.event ALTER COLUMN events SET STORAGE EXTERNAL;

-- For people.
CREATE VIEW goflow.jobs AS
SELECT job.id, queue.name AS queue, job.type,
       CASE WHEN running.epoch IS NOT NULL THEN 'running' ELSE
       CASE job.place WHEN 's' THEN 'scheduled' WHEN 'p' THEN 'pending' WHEN 'u' THEN 'pending (suspect)'
            WHEN 'k' THEN 'pending (parked)' WHEN 't' THEN 'retrying' WHEN 'd' THEN 'dead'
            WHEN 'c' THEN 'completed' WHEN 'x' THEN 'cancelled' END END AS state,
       -(job.lane >> 1) AS priority, job.turn, to_timestamp(job.at / 1000.0) AS at, job.rev, job.run_id,
       running.worker, running.epoch, to_timestamp(running.since / 1000.0) AS claimed_at
FROM goflow.job
JOIN goflow.queue ON queue.id = job.queue
LEFT JOIN goflow.running ON running.id = job.id;
