-- What several functions need. Functions decide nothing about a job's life: they check rights and
-- move records where they are told.
--
-- What is called from outside says how it is planned: by key and once, whatever the tables held when
-- it was first looked at. What it calls in turn inherits that, for each setting costs time in each call.

CREATE FUNCTION goflow.now_ms() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint
$$;

-- Writes one record of the log. The transaction has its number before it draws the position: readers
-- rely on that.
CREATE FUNCTION goflow.log(p_at bigint, p_events bytea[], p_worker uuid, p_claimed uuid[], p_queues int[])
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_current_xact_id();
    INSERT INTO goflow.event (position, at, events, worker, claimed, claimed_queues)
    VALUES (nextval('goflow.position'), p_at, p_events, p_worker, p_claimed, p_queues);
END
$$;

-- Adds jobs that start now; those whose id is kept already are left out.
CREATE FUNCTION goflow.add_jobs(p_now bigint, p_ids uuid[], p_queues int[], p_types text[], p_lanes smallint[],
    p_revs bigint[], p_timeouts bigint[], p_runs uuid[], p_keys bytea[], p_suspects boolean[], p_ckeys bytea[],
    p_climits int[], p_bodies bytea[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    base bigint;
BEGIN
    PERFORM pg_current_xact_id();
    base := nextval('goflow.turn');
    INSERT INTO goflow.lane SELECT DISTINCT q, l FROM unnest(p_queues, p_lanes) AS u(q, l) ON CONFLICT DO NOTHING;
    WITH new AS (
        INSERT INTO goflow.job (id, turn, at, rev, queue, lane, place, type, timeout_ms, run_id, suspect, ckey, climit, body)
        -- A foreach may bring more than a block of turns; later blocks are higher.
        SELECT u.id, CASE WHEN u.ord <= 1024 THEN base + u.ord - 1 ELSE nextval('goflow.turn') END,
               p_now, u.rev, u.queue, u.lane, CASE WHEN u.suspect THEN 'u' ELSE 'p' END, u.type, u.timeout_ms, u.run_id,
               u.suspect, u.ckey, u.climit, u.body
        FROM unnest(p_ids, p_queues, p_types, p_lanes, p_revs, p_timeouts, p_runs, p_suspects, p_ckeys, p_climits, p_bodies)
             WITH ORDINALITY AS u(id, queue, type, lane, rev, timeout_ms, run_id, suspect, ckey, climit, body, ord)
        ORDER BY u.ord
        ON CONFLICT (id) DO NOTHING
        RETURNING id, queue, lane, turn, place
    ), lined AS (
        INSERT INTO goflow.waiting (turn, queue, lane, id) SELECT turn, queue, lane, id FROM new WHERE place = 'p'
    ), keyed AS (
        INSERT INTO goflow.unique_key (key, id)
        SELECT u.key, u.id FROM unnest(p_keys, p_ids) AS u(key, id) JOIN new ON new.id = u.id
        WHERE u.key IS NOT NULL ORDER BY u.key
        ON CONFLICT (key) DO NOTHING
    )
    INSERT INTO goflow.delta (n, queue, place) SELECT count(*), queue, place FROM new GROUP BY queue, place;
END
$$;
