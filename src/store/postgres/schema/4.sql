-- Schema 4: the line and the leases are packed. One row is a stretch of the line, or what one claim took;
-- a job in either costs an item of an array, not a row and its key.

-- A stretch of the line: up to 64 jobs of one lane, in their order, all of them with its turn. The first
-- `taken` are gone; one that left in between is null. So each keeps its place for as long as the row lasts.
ALTER TABLE goflow.waiting RENAME TO old_waiting;
ALTER INDEX goflow.waiting_pkey RENAME TO old_waiting_pkey;
CREATE TABLE goflow.waiting (
    turn bigint NOT NULL,
    queue int NOT NULL,
    lane smallint NOT NULL,
    taken smallint NOT NULL DEFAULT 0,
    ids uuid[] NOT NULL,
    -- Where their rows were, if it is known. Only a hint: whoever follows it looks whose row that is.
    spots tid[],
    PRIMARY KEY (queue, lane, turn)
);
ALTER TABLE goflow.waiting SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
INSERT INTO goflow.waiting (turn, queue, lane, ids) SELECT turn, queue, lane, ARRAY[id] FROM goflow.old_waiting;

-- What one claim took. The job at place n of `ids` (from 1) has the epoch `block + n - 1`, and its lease for as
-- long as bit n - 1 of `held` is set. A lease with more to say (a concurrency key, a job that is leased alone,
-- progress) is a row of `running` instead. `goflow.lease` shows both.
CREATE TABLE goflow.leased (
    block bigint NOT NULL PRIMARY KEY,
    held bigint NOT NULL,
    since bigint NOT NULL,
    worker uuid NOT NULL,
    ids uuid[] NOT NULL,
    -- As in `waiting`.
    spots tid[] NOT NULL,
    queues int[] NOT NULL,
    -- Null if none of them has a time-out.
    expires bigint[]
) WITH (fillfactor = 40);
ALTER TABLE goflow.leased SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0);
ALTER TABLE goflow.leased ALTER COLUMN ids SET STORAGE PLAIN;

-- Blocks of epochs are 64 long and begin at one more than a multiple of it.
SELECT setval('goflow.epoch', (e.last_value / 64 + 1) * 64 + 1) FROM goflow.epoch e;

-- All leases there are.
CREATE VIEW goflow.lease AS
SELECT r.epoch, r.since, r.expires, r.queue, r.id, r.worker, r.ckey, r.progress FROM goflow.running r
UNION ALL
SELECT b.block + u.nth - 1, b.since, u.expires, u.queue, u.id, b.worker, NULL::bytea, NULL::bytea
FROM goflow.leased b, LATERAL unnest(b.ids, b.queues, b.expires) WITH ORDINALITY AS u(id, queue, expires, nth)
WHERE (b.held >> (u.nth - 1)::int) & 1 = 1;

-- For people.
DROP VIEW goflow.jobs;
CREATE VIEW goflow.jobs AS
SELECT job.id, queue.name AS queue, job.type,
       CASE WHEN lease.epoch IS NOT NULL THEN 'running' ELSE
       CASE job.place WHEN 's' THEN 'scheduled' WHEN 'h' THEN 'scheduled (held)' WHEN 'p' THEN 'pending'
            WHEN 'u' THEN 'pending (suspect)' WHEN 'k' THEN 'pending (parked)' WHEN 'b' THEN 'pending (blocked)'
            WHEN 't' THEN 'retrying' WHEN 'd' THEN 'dead' WHEN 'c' THEN 'completed' WHEN 'x' THEN 'cancelled' END END AS state,
       -(job.lane >> 1) AS priority, job.turn, to_timestamp(job.at / 1000.0) AS at, job.rev, job.run_id,
       lease.worker, lease.epoch, to_timestamp(lease.since / 1000.0) AS claimed_at
FROM goflow.job
JOIN goflow.queue ON queue.id = job.queue
LEFT JOIN goflow.lease ON lease.id = job.id;

DROP TABLE goflow.old_waiting;

-- A job has a second entry in its key when it ends: with room for it, pages need neither be split nor searched for
-- what can go.
ALTER INDEX goflow.job_pkey SET (fillfactor = 45);
