-- Limits: room in a queue, concurrency keys, unique keys, permits, gates of runs. All of it is judged
-- under one lock of the whole database that ends with the transaction: only work that has limits takes
-- it, and nobody can wait in a ring.

CREATE FUNCTION goflow.lock_limits() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('goflow.limits', 0));
END
$$;

-- How many more jobs of a queue may run; null if as many as like. Under the lock.
CREATE FUNCTION goflow.room(p_queue int) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT q.concurrency - (SELECT count(*) FROM goflow.lease r WHERE r.queue = p_queue)
            FROM goflow.queue q WHERE q.id = p_queue);
END
$$;

-- How many jobs of a concurrency key run. Under the lock.
CREATE FUNCTION goflow.key_runs(p_key bytea) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT count(*) FROM goflow.running r WHERE r.ckey = p_key AND r.ckey IS NOT NULL);
END
$$;

-- Takes a job that was in the line out of it, until there is room under its key.
CREATE FUNCTION goflow.block(p_now bigint, p_id uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE goflow.job j SET place = 'b', at = p_now, turn = nextval('goflow.turn'), lane = j.lane | 1 WHERE j.id = p_id;
END
$$;

-- Leases some jobs one by one; those whose concurrency key does not let them run are blocked. Answers true for
-- those that run.
CREATE FUNCTION goflow.lease_keyed(p_now bigint, p_ids uuid[], p_base bigint, p_queue int, p_worker uuid, p_grace bigint)
RETURNS boolean[] LANGUAGE plpgsql AS $$
DECLARE
    job record;
    fits boolean[] := '{}';
BEGIN
    PERFORM goflow.lock_limits();
    FOR i IN 1 .. cardinality(p_ids) LOOP
        SELECT j.ckey, j.climit, j.timeout_ms INTO job FROM goflow.job j WHERE j.id = p_ids[i];
        fits[i] := true;
        IF job.ckey IS NULL OR goflow.key_runs(job.ckey) < job.climit THEN
            INSERT INTO goflow.running (epoch, since, expires, queue, id, worker, ckey)
            VALUES (p_base + i - 1, p_now, p_now + job.timeout_ms + p_grace, p_queue, p_ids[i], p_worker, job.ckey);
        ELSE
            PERFORM goflow.block(p_now, p_ids[i]);
            fits[i] := false;
        END IF;
    END LOOP;
    RETURN fits;
END
$$;

-- A job of this key has left its place: the first one that it blocked goes to the front of its queue,
-- if there is room: whether it does. `p_later`: so many jobs of the key have left too, and are looked at after it.
CREATE FUNCTION goflow.unblock(p_now bigint, p_key bytea, p_later int) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    first goflow.job;
    v_turn bigint;
    v_lane smallint;
BEGIN
    PERFORM goflow.lock_limits();
    SELECT * INTO first FROM goflow.job j WHERE j.place = 'b' AND j.ckey = p_key ORDER BY j.lane, j.turn LIMIT 1 FOR UPDATE;
    IF NOT FOUND OR goflow.key_runs(p_key) + p_later >= first.climit THEN
        RETURN false;
    END IF;
    v_turn := nextval('goflow.turn');
    IF first.suspect THEN
        UPDATE goflow.job j SET place = 'u', at = p_now, turn = v_turn WHERE j.id = first.id;
        INSERT INTO goflow.delta (n, queue, place) VALUES (-1, first.queue, 'b'), (1, first.queue, 'u');
        RETURN true;
    END IF;
    v_lane := (first.lane | 1) - 1;
    UPDATE goflow.job j SET place = 'p', at = p_now, turn = -v_turn, lane = v_lane WHERE j.id = first.id;
    INSERT INTO goflow.lane (queue, lane) VALUES (first.queue, v_lane) ON CONFLICT DO NOTHING;
    INSERT INTO goflow.waiting (turn, queue, lane, ids) VALUES (-v_turn, first.queue, v_lane, ARRAY[first.id]);
    INSERT INTO goflow.delta (n, queue, place) VALUES (-1, first.queue, 'b'), (1, first.queue, 'p');
    RETURN true;
END
$$;

-- Takes a unique key for a job. Answers who has it, if that is another one; for a new job also if it is
-- an earlier one of its id.
CREATE FUNCTION goflow.take_key(p_now bigint, p_key bytea, p_id uuid, p_until bigint, p_new boolean) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    kept goflow.unique_key;
BEGIN
    LOOP
        INSERT INTO goflow.unique_key (key, id, until) VALUES (p_key, p_id, p_until) ON CONFLICT (key) DO NOTHING;
        IF FOUND THEN
            RETURN NULL;
        END IF;
        SELECT * INTO kept FROM goflow.unique_key k WHERE k.key = p_key;
        -- Not there any more: it became free just now.
        CONTINUE WHEN NOT FOUND;
        IF kept.id = p_id AND NOT p_new THEN
            RETURN NULL;
        ELSIF kept.until IS NULL OR kept.until > p_now OR EXISTS (
            SELECT FROM goflow.job j WHERE j.id = kept.id AND j.place NOT IN ('d', 'c', 'x')) THEN
            RETURN kept.id;
        END IF;
        -- Its time is over and so is its holder: it goes to the first who comes.
        DELETE FROM goflow.unique_key k WHERE k.key = p_key AND k.id = kept.id;
    END LOOP;
END
$$;

-- Frees a unique key at the end of its holder, unless it is taken for longer.
CREATE FUNCTION goflow.free_key(p_now bigint, p_key bytea, p_id uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM goflow.unique_key k WHERE k.key = p_key AND k.id = p_id AND (k.until IS NULL OR k.until <= p_now);
END
$$;

-- Gives out permits: how long each request's ones have to wait, in microseconds, one after the other.
-- The rule is `Rate::reserve`.
CREATE FUNCTION goflow.permits(p_names bytea[], p_intervals bigint[], p_tolerances bigint[], p_counts int[])
RETURNS TABLE (ord bigint, waits bigint[]) LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    now_us bigint := goflow.now_ms() * 1000;
    item record;
    v_next bigint;
BEGIN
    FOR item IN
        SELECT * FROM unnest(p_names, p_intervals, p_tolerances, p_counts)
            WITH ORDINALITY AS u(name, pace, tolerance, n, nth)
        ORDER BY u.name, u.nth
    LOOP
        INSERT INTO goflow.bucket (name, next_us) VALUES (item.name, 0) ON CONFLICT (name) DO NOTHING;
        SELECT b.next_us INTO v_next FROM goflow.bucket b WHERE b.name = item.name FOR UPDATE;
        -- Forgotten in between: as good as new.
        v_next := coalesce(v_next, 0);
        ord := item.nth;
        waits := '{}';
        FOR i IN 1 .. item.n LOOP
            waits := waits || (greatest(now_us, v_next - item.tolerance) - now_us);
            v_next := greatest(v_next, now_us) + item.pace;
        END LOOP;
        INSERT INTO goflow.bucket (name, next_us) VALUES (item.name, v_next)
        ON CONFLICT (name) DO UPDATE SET next_us = EXCLUDED.next_us;
        RETURN NEXT;
    END LOOP;
END
$$;

-- Lets runs of a key in, first come first in, as long as the first one waiting has room.
CREATE FUNCTION goflow.admit(p_now bigint, p_key bytea) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    first goflow.gate;
BEGIN
    LOOP
        SELECT * INTO first FROM goflow.gate g WHERE g.key = p_key AND NOT g.inside ORDER BY g.seq LIMIT 1;
        EXIT WHEN NOT FOUND
            OR (SELECT count(*) FROM goflow.gate g WHERE g.key = p_key AND g.inside) >= first.most;
        UPDATE goflow.gate g SET inside = true WHERE g.run_id = first.run_id;
        PERFORM goflow.tell(p_now, ARRAY[first.run_id], ARRAY[first.go]);
    END LOOP;
END
$$;

-- Runs that have ended hold no place under their keys, and wait for none.
CREATE FUNCTION goflow.leave_gates(p_now bigint, p_runs uuid[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_key bytea;
BEGIN
    IF NOT EXISTS (SELECT FROM goflow.gate g WHERE g.run_id = ANY (p_runs)) THEN
        RETURN;
    END IF;
    PERFORM goflow.lock_limits();
    FOR v_key IN
        WITH gone AS (DELETE FROM goflow.gate g WHERE g.run_id = ANY (p_runs) RETURNING g.key)
        SELECT DISTINCT gone.key FROM gone ORDER BY gone.key
    LOOP
        PERFORM goflow.admit(p_now, v_key);
    END LOOP;
END
$$;
