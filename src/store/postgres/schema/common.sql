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
    p_revs bigint[], p_timeouts bigint[], p_runs uuid[], p_keys bytea[], p_bodies bytea[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    base bigint;
BEGIN
    PERFORM pg_current_xact_id();
    base := nextval('goflow.turn');
    INSERT INTO goflow.lane SELECT DISTINCT q, l FROM unnest(p_queues, p_lanes) AS u(q, l) ON CONFLICT DO NOTHING;
    WITH new AS (
        INSERT INTO goflow.job (id, turn, at, rev, queue, lane, place, type, timeout_ms, run_id, body)
        -- A foreach may bring more than a block of turns; later blocks are higher.
        SELECT u.id, CASE WHEN u.ord <= 1024 THEN base + u.ord - 1 ELSE nextval('goflow.turn') END,
               p_now, u.rev, u.queue, u.lane, 'p', u.type, u.timeout_ms, u.run_id, u.body
        FROM unnest(p_ids, p_queues, p_types, p_lanes, p_revs, p_timeouts, p_runs, p_bodies)
             WITH ORDINALITY AS u(id, queue, type, lane, rev, timeout_ms, run_id, body, ord)
        ORDER BY u.ord
        ON CONFLICT (id) DO NOTHING
        RETURNING id, queue, lane, turn
    ), lined AS (
        INSERT INTO goflow.waiting (turn, queue, lane, id) SELECT turn, queue, lane, id FROM new
    ), keyed AS (
        INSERT INTO goflow.unique_key (key, id)
        SELECT u.key, u.id FROM unnest(p_keys, p_ids) AS u(key, id) JOIN new ON new.id = u.id
        WHERE u.key IS NOT NULL ORDER BY u.key
        ON CONFLICT (key) DO NOTHING
    )
    INSERT INTO goflow.delta (n, queue, place) SELECT count(*), queue, 'p' FROM new GROUP BY queue;
END
$$;

-- Carries out what one advance of a run changes. The run's row is locked, or new, in this transaction.
CREATE FUNCTION goflow.apply(p_now bigint, p_run uuid, p_terminal boolean, p_history bytea,
    j_ids uuid[], j_queues int[], j_types text[], j_lanes smallint[], j_revs bigint[], j_timeouts bigint[],
    j_runs uuid[], j_keys bytea[], j_bodies bytea[],
    v_keys bytea[], v_values bytea[], d_keys bytea[], t_keys bytea[], t_delays bigint[], t_facts bytea[])
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF cardinality(v_keys) > 0 THEN
        INSERT INTO goflow.value (run_id, key, value)
        SELECT p_run, u.key, u.value FROM unnest(v_keys, v_values) AS u(key, value)
        ON CONFLICT (run_id, key) DO NOTHING;
    END IF;
    IF cardinality(d_keys) > 0 THEN
        DELETE FROM goflow.timer WHERE run_id = p_run AND key = ANY (d_keys);
    END IF;
    IF p_terminal THEN
        DELETE FROM goflow.timer WHERE run_id = p_run;
    ELSIF cardinality(t_keys) > 0 THEN
        INSERT INTO goflow.timer (run_id, key, due, fact)
        SELECT DISTINCT ON (u.key) p_run, u.key, p_now + u.delay, u.fact
        FROM unnest(t_keys, t_delays, t_facts) WITH ORDINALITY AS u(key, delay, fact, ord)
        ORDER BY u.key, u.ord DESC
        ON CONFLICT (run_id, key) DO UPDATE SET due = EXCLUDED.due, fact = EXCLUDED.fact;
    END IF;
    IF p_history IS NOT NULL THEN
        INSERT INTO goflow.history (run_id, seq, at, events) VALUES (p_run, nextval('goflow.fact'), p_now, p_history);
    END IF;
    IF cardinality(j_ids) > 0 THEN
        PERFORM goflow.add_jobs(p_now, j_ids, j_queues, j_types, j_lanes, j_revs, j_timeouts, j_runs, j_keys, j_bodies);
    END IF;
END
$$;
