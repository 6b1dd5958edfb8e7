-- What is said to and by running jobs and runs: asks, notes, ties to parents, facts, schedules.

-- Asks jobs to end. Answers which live. Their rows are held, so that none ends unseen meanwhile.
CREATE FUNCTION goflow.ask(p_ids uuid[]) RETURNS uuid[] LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    live uuid[];
BEGIN
    live := ARRAY(SELECT j.id FROM goflow.job j WHERE j.id = ANY (p_ids) AND j.place NOT IN ('d', 'c', 'x')
                  ORDER BY j.id FOR SHARE);
    INSERT INTO goflow.ask (id) SELECT unnest(live) ON CONFLICT (id) DO NOTHING;
    RETURN live;
END
$$;

-- These jobs have ended, or are about to leave the store, in this transaction.
CREATE FUNCTION goflow.over(p_ids uuid[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM goflow.ask) THEN
        DELETE FROM goflow.ask a WHERE a.id = ANY (p_ids);
    END IF;
    IF EXISTS (SELECT FROM goflow.tie) THEN
        UPDATE goflow.tie t SET loose = true WHERE t.parent = ANY (p_ids) AND NOT t.loose;
    END IF;
END
$$;

-- Ties a held job to its parents. Answers the first parent that is not kept, and ties nothing then.
CREATE FUNCTION goflow.tie(p_child uuid, p_parents uuid[]) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    v_parent uuid;
    v_place "char";
    loose boolean[] := '{}';
BEGIN
    FOREACH v_parent IN ARRAY p_parents LOOP
        SELECT j.place INTO v_place FROM goflow.job j WHERE j.id = v_parent FOR SHARE;
        IF NOT FOUND THEN
            RETURN v_parent;
        END IF;
        loose := loose || (v_place IN ('d', 'c', 'x'));
    END LOOP;
    INSERT INTO goflow.tie (parent, child, loose)
    SELECT u.parent, p_child, u.loose FROM unnest(p_parents, loose) AS u(parent, loose) ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;

-- As above for a job that is held already: parents that are gone are loose.
CREATE FUNCTION goflow.tie_again(p_child uuid, p_parents uuid[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_parent uuid;
    v_place "char";
BEGIN
    FOREACH v_parent IN ARRAY p_parents LOOP
        SELECT j.place INTO v_place FROM goflow.job j WHERE j.id = v_parent FOR SHARE;
        INSERT INTO goflow.tie (parent, child, loose)
        VALUES (v_parent, p_child, NOT FOUND OR v_place IN ('d', 'c', 'x')) ON CONFLICT DO NOTHING;
    END LOOP;
END
$$;

-- What goes with a job that leaves the store.
CREATE FUNCTION goflow.forget_jobs(p_ids uuid[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM goflow.chunk c WHERE c.id = ANY (p_ids);
    DELETE FROM goflow.job_log l WHERE l.id = ANY (p_ids);
END
$$;

-- The leases that some notes name; held until they are written.
CREATE FUNCTION goflow.noted(p_epochs bigint[]) RETURNS TABLE (epoch bigint, id uuid, worker uuid, queue text)
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    PERFORM goflow.hold_leases(p_epochs);
    RETURN QUERY
        SELECT l.epoch, l.id, l.worker, q.name FROM (
            SELECT r.epoch, r.id, r.worker, r.queue FROM goflow.running r WHERE r.epoch = ANY (p_epochs)
            UNION ALL
            SELECT e, b.ids[e - b.block + 1], b.worker, b.queues[e - b.block + 1]
            FROM (SELECT DISTINCT u FROM unnest(p_epochs) AS u) AS d(e) JOIN goflow.leased b ON b.block = goflow.block_of(e)
            WHERE (b.held >> (e - b.block)::int) & 1 = 1) l
        JOIN goflow.queue q ON q.id = l.queue ORDER BY l.epoch;
END
$$;

-- Writes notes whose leases hold, in their order; nothing is null where nothing is told.
CREATE FUNCTION goflow.note(p_ids uuid[], p_epochs bigint[], p_progress bytea[], p_texts bytea[], p_events bytea, p_most bigint)
RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_now bigint := goflow.now_ms();
    head goflow.job_log;
    oldest record;
BEGIN
    FOR i IN 1 .. cardinality(p_ids) LOOP
        IF p_progress[i] IS NOT NULL THEN
            UPDATE goflow.running r SET progress = p_progress[i] WHERE r.epoch = p_epochs[i];
            IF NOT FOUND THEN
                INSERT INTO goflow.running (epoch, since, expires, queue, id, worker, progress)
                SELECT p_epochs[i], b.since, b.expires[p_epochs[i] - b.block + 1], b.queues[p_epochs[i] - b.block + 1],
                       p_ids[i], b.worker, p_progress[i]
                FROM goflow.leased b WHERE b.block = goflow.block_of(p_epochs[i]);
                PERFORM goflow.end_lease(p_epochs[i]);
            END IF;
        END IF;
        CONTINUE WHEN p_texts[i] IS NULL;
        INSERT INTO goflow.job_log (id, bytes, seq, truncated) VALUES (p_ids[i], length(p_texts[i]), 1, false)
        ON CONFLICT (id) DO UPDATE SET bytes = job_log.bytes + EXCLUDED.bytes, seq = job_log.seq + 1
        RETURNING * INTO head;
        INSERT INTO goflow.chunk (id, seq, at, epoch, text) VALUES (p_ids[i], head.seq, v_now, p_epochs[i], p_texts[i]);
        CONTINUE WHEN head.bytes <= p_most;
        WHILE head.bytes > p_most LOOP
            DELETE FROM goflow.chunk c WHERE c.id = p_ids[i]
                AND c.seq = (SELECT h.seq FROM goflow.chunk h WHERE h.id = p_ids[i] ORDER BY h.seq LIMIT 1)
            RETURNING length(c.text) AS bytes INTO oldest;
            EXIT WHEN NOT FOUND;
            head.bytes := head.bytes - oldest.bytes;
        END LOOP;
        UPDATE goflow.job_log l SET bytes = head.bytes, truncated = true WHERE l.id = p_ids[i];
    END LOOP;
    IF p_events IS NOT NULL THEN
        PERFORM goflow.log(v_now, ARRAY[p_events], NULL, NULL, NULL);
    END IF;
END
$$;

-- Puts facts into the inboxes of runs. Answers which of the runs there are.
CREATE FUNCTION goflow.tell(p_now bigint, p_runs uuid[], p_facts bytea[]) RETURNS uuid[] LANGUAGE plpgsql AS $$
DECLARE
    there uuid[];
BEGIN
    there := ARRAY(SELECT r.id FROM goflow.run r WHERE r.id = ANY (p_runs) ORDER BY r.id FOR UPDATE);
    INSERT INTO goflow.inbox (run_id, seq, fact)
    SELECT f.run_id, nextval('goflow.fact'), f.fact FROM (
        SELECT u.run_id, u.fact FROM unnest(p_runs, p_facts) WITH ORDINALITY AS u(run_id, fact, ord)
        WHERE u.run_id = ANY (there) ORDER BY u.ord) f;
    INSERT INTO goflow.dirty (run_id, until) SELECT unnest(there), p_now ON CONFLICT (run_id) DO NOTHING;
    RETURN there;
END
$$;

CREATE FUNCTION goflow.inform(p_runs uuid[], p_facts bytea[]) RETURNS uuid[] LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN goflow.tell(goflow.now_ms(), p_runs, p_facts);
END
$$;

-- After an advance has told things, perhaps to its own run: whether more waits in the inbox.
CREATE FUNCTION goflow.look_again(p_run uuid) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    more boolean := EXISTS (SELECT FROM goflow.inbox b WHERE b.run_id = p_run);
    v_now bigint := goflow.now_ms();
BEGIN
    IF more THEN
        INSERT INTO goflow.dirty (run_id, until) VALUES (p_run, v_now) ON CONFLICT (run_id) DO UPDATE SET until = v_now;
    ELSE
        DELETE FROM goflow.dirty d WHERE d.run_id = p_run;
    END IF;
    RETURN more;
END
$$;

-- Changes a schedule if it still has `p_from`; without a body it is deleted.
CREATE FUNCTION goflow.set_schedule(p_name text, p_from bigint, p_due bigint, p_body bytea, p_events bytea)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF p_from = 0 THEN
        IF p_body IS NULL THEN
            -- Holds the name for the length of the transaction, as a change of it would.
            INSERT INTO goflow.schedule (name, rev, due, body) VALUES (p_name, 1, NULL, '') ON CONFLICT (name) DO NOTHING;
            IF FOUND THEN
                DELETE FROM goflow.schedule s WHERE s.name = p_name;
            END IF;
        ELSE
            INSERT INTO goflow.schedule (name, rev, due, body) VALUES (p_name, 1, p_due, p_body) ON CONFLICT (name) DO NOTHING;
        END IF;
    ELSIF p_body IS NULL THEN
        DELETE FROM goflow.schedule s WHERE s.name = p_name AND s.rev = p_from;
    ELSE
        UPDATE goflow.schedule s SET rev = p_from + 1, due = p_due, body = p_body WHERE s.name = p_name AND s.rev = p_from;
    END IF;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF p_events IS NOT NULL THEN
        PERFORM goflow.log(goflow.now_ms(), ARRAY[p_events], NULL, NULL, NULL);
    END IF;
    RETURN true;
END
$$;
