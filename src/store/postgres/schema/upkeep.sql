-- What keeps a store in order: heartbeats, timers, taking runs that have news, trimming, folding.

CREATE FUNCTION goflow.heartbeat(p_worker uuid, p_info bytea, p_lease bigint, p_types text[], p_started bytea,
    OUT now bigint, OUT ids uuid[], OUT epochs bigint[], OUT unparked int, OUT drain boolean)
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    parked record;
    v_turn bigint;
BEGIN
    now := goflow.now_ms();
    unparked := 0;
    UPDATE goflow.worker w SET expires = now + p_lease, info = p_info WHERE w.id = p_worker RETURNING w.draining INTO drain;
    IF NOT FOUND THEN
        INSERT INTO goflow.worker (id, expires, info) VALUES (p_worker, now + p_lease, p_info)
        ON CONFLICT (id) DO UPDATE SET expires = EXCLUDED.expires, info = EXCLUDED.info;
        PERFORM goflow.log(now, ARRAY[p_started], NULL, NULL, NULL);
        drain := false;
    END IF;
    -- The one parked first shall be the first out, so it is the last one put in front.
    FOR parked IN
        SELECT j.id, j.queue, j.lane, j.suspect FROM unnest(p_types) AS t(type) JOIN goflow.job j ON j.type = t.type AND j.place = 'k'
        ORDER BY j.at DESC, j.turn DESC FOR UPDATE OF j SKIP LOCKED
    LOOP
        unparked := unparked + 1;
        v_turn := -nextval('goflow.turn');
        IF parked.suspect THEN
            UPDATE goflow.job j SET place = 'u', turn = -v_turn, at = now WHERE j.id = parked.id;
            INSERT INTO goflow.delta (n, queue, place) VALUES (-1, parked.queue, 'k'), (1, parked.queue, 'u');
            CONTINUE;
        END IF;
        UPDATE goflow.job j SET place = 'p', turn = v_turn, lane = (parked.lane | 1) - 1, at = now WHERE j.id = parked.id;
        INSERT INTO goflow.lane (queue, lane) VALUES (parked.queue, (parked.lane | 1) - 1) ON CONFLICT DO NOTHING;
        INSERT INTO goflow.waiting (turn, queue, lane, ids) VALUES (v_turn, parked.queue, (parked.lane | 1) - 1, ARRAY[parked.id]);
        INSERT INTO goflow.delta (n, queue, place) VALUES (-1, parked.queue, 'k'), (1, parked.queue, 'p');
    END LOOP;
    SELECT array_agg(r.id ORDER BY r.epoch), array_agg(r.epoch ORDER BY r.epoch) INTO ids, epochs
    FROM goflow.lease r WHERE r.worker = p_worker;
END
$$;

CREATE FUNCTION goflow.farewell(p_worker uuid, p_stopped bytea) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM goflow.worker w WHERE w.id = p_worker;
    IF FOUND THEN
        PERFORM goflow.log(goflow.now_ms(), ARRAY[p_stopped], NULL, NULL, NULL);
    END IF;
END
$$;

-- Strikes a silent worker off; its leases have lapsed before and stay so.
CREATE FUNCTION goflow.lose(p_worker uuid, p_lost bytea) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_now bigint := goflow.now_ms();
BEGIN
    DELETE FROM goflow.worker w WHERE w.id = p_worker AND w.expires < v_now;
    IF FOUND THEN
        PERFORM goflow.log(v_now, ARRAY[p_lost], NULL, NULL, NULL);
    END IF;
END
$$;

-- Fires timers that are due into the inboxes of their runs.
CREATE FUNCTION goflow.tick(p_limit int, OUT fired int, OUT due bigint) LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_now bigint := goflow.now_ms();
    ready record;
BEGIN
    fired := 0;
    FOR ready IN
        SELECT t.run_id, t.key, t.fact FROM goflow.timer t JOIN goflow.run r ON r.id = t.run_id
        WHERE t.due <= v_now ORDER BY t.due, t.run_id, t.key LIMIT p_limit FOR UPDATE OF r, t SKIP LOCKED
    LOOP
        DELETE FROM goflow.timer t WHERE t.run_id = ready.run_id AND t.key = ready.key;
        INSERT INTO goflow.inbox (run_id, seq, fact) VALUES (ready.run_id, nextval('goflow.fact'), ready.fact);
        INSERT INTO goflow.dirty (run_id, until) VALUES (ready.run_id, v_now) ON CONFLICT (run_id) DO NOTHING;
        fired := fired + 1;
    END LOOP;
    SELECT t.due INTO due FROM goflow.timer t ORDER BY t.due LIMIT 1;
END
$$;

-- Runs with news, hidden from other takers for `p_hold`, each with the head of its inbox.
CREATE FUNCTION goflow.take_dirty(p_limit int, p_hold bigint, p_entries int)
RETURNS TABLE (id uuid, rev bigint, workflow text, state text, body bytea, seqs bigint[], facts bytea[])
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_now bigint := goflow.now_ms();
    taken uuid[];
BEGIN
    SELECT array_agg(t.run_id ORDER BY t.until, t.run_id) INTO taken FROM (
        SELECT d.run_id, d.until FROM goflow.dirty d WHERE d.until <= v_now
        ORDER BY d.until, d.run_id LIMIT p_limit FOR UPDATE SKIP LOCKED) t;
    IF taken IS NULL THEN
        RETURN;
    END IF;
    UPDATE goflow.dirty d SET until = v_now + p_hold WHERE d.run_id = ANY (taken);
    RETURN QUERY
        SELECT r.id, r.rev, r.workflow, r.state, r.body,
               ARRAY(SELECT b.seq FROM goflow.inbox b WHERE b.run_id = r.id ORDER BY b.seq LIMIT p_entries),
               ARRAY(SELECT b.fact FROM goflow.inbox b WHERE b.run_id = r.id ORDER BY b.seq LIMIT p_entries)
        FROM unnest(taken) WITH ORDINALITY AS u(id, ord) JOIN goflow.run r ON r.id = u.id ORDER BY u.ord;
END
$$;

-- Replaces changes of counters by their sums. One at a time; who comes second has nothing to do.
CREATE FUNCTION goflow.fold() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF pg_try_advisory_xact_lock(hashtext('goflow.fold')) THEN
        WITH old AS (DELETE FROM goflow.delta RETURNING n, queue, place)
        INSERT INTO goflow.delta (n, queue, place)
        SELECT sum(n), queue, place FROM old GROUP BY queue, place HAVING sum(n) <> 0;
    END IF;
END
$$;

-- Removes the oldest finished jobs of one place of one queue: those beyond the count, and those
-- beyond the age.
CREATE FUNCTION goflow.trim_jobs(p_queue int, p_place "char", p_before bigint, p_keep bigint, p_limit int)
RETURNS int LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    kept bigint;
    dropped int;
    ids uuid[];
BEGIN
    SELECT coalesce(sum(d.n), 0) INTO kept FROM goflow.delta d WHERE d.queue = p_queue AND d.place = p_place;
    WITH oldest AS MATERIALIZED (
        SELECT j.id, j.at, j.turn FROM goflow.job j WHERE j.place = p_place AND j.place <> 'p' AND j.queue = p_queue
        ORDER BY j.at, j.turn LIMIT p_limit FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM goflow.job j USING (SELECT o.id, o.at, row_number() OVER (ORDER BY o.at, o.turn) AS nth FROM oldest o) o
        WHERE j.id = o.id AND (o.nth <= kept - p_keep OR o.at <= p_before)
        RETURNING j.id
    )
    SELECT count(*), array_agg(gone.id) INTO dropped, ids FROM gone;
    IF dropped > 0 THEN
        PERFORM goflow.forget_jobs(ids);
        INSERT INTO goflow.delta (n, queue, place) VALUES (-dropped, p_queue, p_place);
    END IF;
    RETURN dropped;
END
$$;

CREATE FUNCTION goflow.trim_runs(p_before bigint, p_limit int) RETURNS int LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    old uuid[];
BEGIN
    SELECT array_agg(t.id) INTO old FROM (
        SELECT r.id FROM goflow.run r WHERE r.finished <= p_before ORDER BY r.finished LIMIT p_limit
        FOR UPDATE SKIP LOCKED) t;
    IF old IS NULL THEN
        RETURN 0;
    END IF;
    DELETE FROM goflow.inbox WHERE run_id = ANY (old);
    DELETE FROM goflow.timer WHERE run_id = ANY (old);
    DELETE FROM goflow.value WHERE run_id = ANY (old);
    DELETE FROM goflow.history WHERE run_id = ANY (old);
    DELETE FROM goflow.dirty WHERE run_id = ANY (old);
    DELETE FROM goflow.gate WHERE run_id = ANY (old);
    DELETE FROM goflow.run WHERE id = ANY (old);
    RETURN cardinality(old);
END
$$;

-- Forgets producers and event records beyond their limits, unique keys whose time and holder are over, and
-- permits that are as good as new.
CREATE FUNCTION goflow.forget(p_producers bigint, p_records int) RETURNS void LANGUAGE sql AS $$
    DELETE FROM goflow.producer p WHERE p.id IN (
        SELECT q.id FROM goflow.producer q WHERE q.at <= goflow.now_ms() - p_producers FOR UPDATE SKIP LOCKED);
    DELETE FROM goflow.event e WHERE e.position <= (
        SELECT f.position FROM goflow.event f ORDER BY f.position DESC OFFSET p_records LIMIT 1);
    DELETE FROM goflow.unique_key k WHERE k.until <= goflow.now_ms()
        AND NOT EXISTS (SELECT FROM goflow.job j WHERE j.id = k.id AND j.place NOT IN ('d', 'c', 'x'));
    DELETE FROM goflow.bucket b WHERE b.next_us <= goflow.now_ms() * 1000;
$$;

CREATE FUNCTION goflow.drain(p_worker uuid, p_event bytea) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    UPDATE goflow.worker w SET draining = true WHERE w.id = p_worker AND NOT w.draining;
    IF FOUND THEN
        PERFORM goflow.log(goflow.now_ms(), ARRAY[p_event], NULL, NULL, NULL);
        RETURN true;
    END IF;
    RETURN EXISTS (SELECT FROM goflow.worker w WHERE w.id = p_worker);
END
$$;

-- `p_plain`: the settings of a queue that nobody has set. `p_turned`: the event if it is paused or resumed
-- by this, `p_event` if anything else changes.
CREATE FUNCTION goflow.set_queue(p_name text, p_paused boolean, p_concurrency int, p_settings bytea, p_plain bytea,
    p_turned bytea, p_event bytea)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    before goflow.queue;
BEGIN
    INSERT INTO goflow.queue (name) VALUES (p_name) ON CONFLICT (name) DO NOTHING;
    SELECT * INTO before FROM goflow.queue q WHERE q.name = p_name FOR UPDATE;
    UPDATE goflow.queue q SET paused = p_paused, concurrency = p_concurrency, settings = p_settings WHERE q.name = p_name;
    IF before.paused <> p_paused THEN
        PERFORM goflow.log(goflow.now_ms(), ARRAY[p_turned], NULL, NULL, NULL);
    ELSIF coalesce(before.settings, p_plain) <> p_settings THEN
        PERFORM goflow.log(goflow.now_ms(), ARRAY[p_event], NULL, NULL, NULL);
    END IF;
END
$$;
