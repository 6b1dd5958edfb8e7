-- Schema 2: concurrency keys and limits, parents, asks, logs, permits, gates of runs, schedules.

ALTER TABLE goflow.job
    -- It has crashed before: wherever it would wait in the line, it waits to be leased alone. Null is no.
    ADD COLUMN suspect boolean,
    -- Its concurrency key, and how many jobs of it may run.
    ADD COLUMN ckey bytea,
    ADD COLUMN climit int;
CREATE INDEX job_blocked ON goflow.job (ckey, lane, turn) WHERE place = 'b';

ALTER TABLE goflow.running
    ADD COLUMN ckey bytea,
    ADD COLUMN progress bytea;
CREATE INDEX running_key ON goflow.running (ckey) WHERE ckey IS NOT NULL;

ALTER TABLE goflow.queue ADD COLUMN concurrency int;

ALTER TABLE goflow.worker ADD COLUMN draining boolean NOT NULL DEFAULT false;

-- Until when the key is taken, even if its holder ends. Where there is none, the row goes with the
-- holder's life.
ALTER TABLE goflow.unique_key ADD COLUMN until bigint;
CREATE INDEX unique_until ON goflow.unique_key (until) WHERE until IS NOT NULL;

-- Jobs that were asked to end, and live.
CREATE TABLE goflow.ask (id uuid NOT NULL PRIMARY KEY);

-- Held jobs and their parents. A tie is loose when the parent has ended or is gone: whoever ends a job
-- marks it, and whoever ties holds the parent's row, so that neither misses the other.
CREATE TABLE goflow.tie (
    parent uuid NOT NULL,
    child uuid NOT NULL,
    loose boolean NOT NULL,
    PRIMARY KEY (parent, child)
);
CREATE INDEX tie_child ON goflow.tie (child);
CREATE INDEX tie_loose ON goflow.tie (parent, child) WHERE loose;

-- What jobs have printed: how much is kept of each, and the chunks.
CREATE TABLE goflow.job_log (
    id uuid NOT NULL PRIMARY KEY,
    bytes bigint NOT NULL,
    seq bigint NOT NULL,
    truncated boolean NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE goflow.chunk (
    id uuid NOT NULL,
    seq bigint NOT NULL,
    at bigint NOT NULL,
    epoch bigint NOT NULL,
    text bytea NOT NULL,
    PRIMARY KEY (id, seq)
);

-- Permits: the number that `Rate::reserve` keeps of each bucket, in microseconds.
CREATE TABLE goflow.bucket (
    name bytea NOT NULL PRIMARY KEY,
    next_us bigint NOT NULL
) WITH (fillfactor = 50);

-- Runs with a gate that live: inside, or waiting in the order of `seq`.
CREATE TABLE goflow.gate (
    run_id uuid NOT NULL PRIMARY KEY,
    key bytea NOT NULL,
    seq bigint NOT NULL,
    inside boolean NOT NULL,
    most int NOT NULL,
    go bytea NOT NULL
);
CREATE INDEX gate_key ON goflow.gate (key, inside, seq);

CREATE TABLE goflow.schedule (
    name text COLLATE "C" NOT NULL PRIMARY KEY,
    rev bigint NOT NULL,
    due bigint,
    body bytea NOT NULL
);

-- For people.
DROP VIEW goflow.jobs;
CREATE VIEW goflow.jobs AS
SELECT job.id, queue.name AS queue, job.type,
       CASE WHEN running.epoch IS NOT NULL THEN 'running' ELSE
       CASE job.place WHEN 's' THEN 'scheduled' WHEN 'h' THEN 'scheduled (held)' WHEN 'p' THEN 'pending'
            WHEN 'u' THEN 'pending (suspect)' WHEN 'k' THEN 'pending (parked)' WHEN 'b' THEN 'pending (blocked)'
            WHEN 't' THEN 'retrying' WHEN 'd' THEN 'dead' WHEN 'c' THEN 'completed' WHEN 'x' THEN 'cancelled' END END AS state,
       -(job.lane >> 1) AS priority, job.turn, to_timestamp(job.at / 1000.0) AS at, job.rev, job.run_id,
       running.worker, running.epoch, to_timestamp(running.since / 1000.0) AS claimed_at
FROM goflow.job
JOIN goflow.queue ON queue.id = job.queue
LEFT JOIN goflow.running ON running.id = job.id;
