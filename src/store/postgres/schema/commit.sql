-- One commit of an exchange in its general form: any moves, by any right, with or without a part for
-- a run. All rights are checked before anything is written. What is common (a worker settles jobs and
-- steps) goes by `goflow.exchange` and `goflow.settle_steps` instead, a batch at a time.

-- `m_rights`: l = lease, e = lapsed lease, i = idle. `m_numbers`: the epoch, or the record's rev.
-- `m_tos`: a place, or f = front of the line, or g = out of the store. `m_after`: the parents of jobs that
-- are to be held, each with the number of its move.
-- Answers: moved 0 applied, 1 stale, 2 conflict; part 0 none, 1 advanced, 2 advanced and more to
-- drain, 3 inboxed, 4 contended, 5 gone.
CREATE FUNCTION goflow.commit(
    m_ids uuid[], m_rights "char"[], m_numbers bigint[], m_froms "char"[], m_tos "char"[], m_delays bigint[],
    m_queues int[], m_types text[], m_lanes smallint[], m_revs bigint[], m_timeouts bigint[], m_runs uuid[],
    m_keys bytea[], m_suspects boolean[], m_ckeys bytea[], m_climits int[], m_bodies bytea[], m_events bytea[],
    m_after_moves int[], m_after uuid[],
    r_run uuid, r_facts bytea[], a_rev bigint, a_drained bigint,
    e_workflows text[], e_states text[], e_terminal boolean[], e_revs bigint[], e_bodies bytea[], e_events bytea[],
    j_parts int[], j_ids uuid[], j_queues int[], j_types text[], j_lanes smallint[], j_revs bigint[],
    j_timeouts bigint[], j_runs uuid[], j_keys bytea[], j_suspects boolean[], j_ckeys bytea[], j_climits int[],
    j_bodies bytea[],
    v_parts int[], v_keys bytea[], v_values bytea[], d_parts int[], d_keys bytea[],
    t_parts int[], t_keys bytea[], t_delays bigint[], t_facts bytea[], x_parts int[], x_ids uuid[],
    OUT moved smallint[], OUT holders uuid[], OUT part smallint, OUT woke boolean)
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_now bigint := goflow.now_ms();
    given int := cardinality(m_ids);
    kept goflow.run;
    v_state smallint;
    v_holder uuid;
    live boolean;
    applied int := 0;
    facts int := 0;
    logged bytea[] := '{}';
BEGIN
    moved := '{}';
    holders := '{}';
    part := 0;
    woke := false;
    PERFORM pg_current_xact_id();
    -- A run's row is the lock of everything that belongs to the run.
    IF r_run IS NOT NULL THEN
        SELECT * INTO kept FROM goflow.run r WHERE r.id = r_run FOR UPDATE;
        part := CASE WHEN FOUND THEN 4 ELSE 5 END;
    END IF;
    FOR i IN 1 .. given LOOP
        v_holder := NULL;
        v_state := goflow.judge(v_now, m_ids[i], m_rights[i], m_numbers[i], m_froms[i], m_queues[i]);
        IF v_state = 0 AND m_ids[i] = ANY (m_ids[1 : i - 1]) THEN
            v_state := 1;
        END IF;
        live := m_tos[i] NOT IN ('d', 'c', 'x', 'g');
        IF v_state = 0 AND live AND m_keys[i] IS NOT NULL THEN
            v_holder := goflow.take_key(v_now, m_keys[i], m_ids[i], NULL, false);
            v_state := CASE WHEN v_holder IS NULL THEN 0 ELSE 2 END;
        END IF;
        moved[i] := v_state;
        holders[i] := v_holder;
        applied := applied + (v_state = 0)::int;
        facts := facts + (v_state = 0 AND i <= coalesce(cardinality(r_facts), 0))::int;
    END LOOP;

    IF part = 4 THEN
        IF a_rev IS NOT NULL AND applied = given AND kept.rev = a_rev THEN
            DELETE FROM goflow.inbox b WHERE b.run_id = r_run AND b.seq <= coalesce(a_drained, 0);
            part := CASE WHEN EXISTS (SELECT FROM goflow.inbox b WHERE b.run_id = r_run) THEN 2 ELSE 1 END;
            UPDATE goflow.run r SET rev = e_revs[1], workflow = e_workflows[1], state = e_states[1], body = e_bodies[1],
                live = NOT e_terminal[1], finished = CASE WHEN e_terminal[1] THEN coalesce(kept.finished, v_now) END
            WHERE r.id = r_run;
            PERFORM goflow.apply(v_now, ARRAY[r_run], '{true}', e_terminal, e_events, j_parts, j_ids, j_queues, j_types,
                j_lanes, j_revs, j_timeouts, j_runs, j_keys, j_suspects, j_ckeys, j_climits, j_bodies,
                v_parts, v_keys, v_values, d_parts, d_keys, t_parts, t_keys, t_delays, t_facts, x_parts, x_ids);
            IF part = 2 THEN
                INSERT INTO goflow.dirty (run_id, until) VALUES (r_run, v_now)
                ON CONFLICT (run_id) DO UPDATE SET until = v_now;
            ELSE
                DELETE FROM goflow.dirty d WHERE d.run_id = r_run;
            END IF;
            logged := logged || array_remove(e_events, NULL);
            woke := cardinality(j_ids) > 0 OR part = 2;
        ELSIF facts > 0 THEN
            part := 3;
            FOR i IN 1 .. given LOOP
                IF moved[i] = 0 AND i <= cardinality(r_facts) THEN
                    INSERT INTO goflow.inbox (run_id, seq, fact) VALUES (r_run, nextval('goflow.fact'), r_facts[i]);
                END IF;
            END LOOP;
            INSERT INTO goflow.dirty (run_id, until) VALUES (r_run, v_now) ON CONFLICT (run_id) DO NOTHING;
            woke := true;
        ELSE
            -- Nothing happens: and nothing was taken above, for a move brings its fact.
            FOR i IN 1 .. given LOOP
                IF moved[i] = 0 THEN
                    RAISE EXCEPTION 'a commit for run % brings moves without facts', r_run USING ERRCODE = '22023';
                END IF;
            END LOOP;
        END IF;
    END IF;

    FOR i IN 1 .. given LOOP
        CONTINUE WHEN moved[i] <> 0;
        PERFORM goflow.move(v_now, m_ids[i], m_rights[i], m_numbers[i], m_tos[i], m_delays[i], m_queues[i], m_types[i],
            m_lanes[i], m_revs[i], m_timeouts[i], m_runs[i], m_keys[i], m_suspects[i], m_ckeys[i], m_climits[i], m_bodies[i],
            CASE WHEN m_tos[i] = 'h' THEN
                ARRAY(SELECT u.id FROM unnest(m_after_moves, m_after) AS u(nth, id) WHERE u.nth = i) END);
        logged := logged || m_events[i];
        woke := woke OR m_tos[i] IN ('p', 'f', 'u');
    END LOOP;
    IF cardinality(logged) > 0 THEN
        PERFORM goflow.log(v_now, logged, NULL, NULL, NULL);
    END IF;
END
$$;

-- Whether a move may be made now: 0 yes, 1 stale. What it looked at stays locked.
CREATE FUNCTION goflow.judge(p_now bigint, p_id uuid, p_right "char", p_number bigint, p_from "char", p_queue int)
RETURNS smallint LANGUAGE plpgsql AS $$
DECLARE
    v_worker uuid;
    v_expires bigint;
    job goflow.job;
BEGIN
    IF p_right = 'i' THEN
        SELECT * INTO job FROM goflow.job j WHERE j.id = p_id FOR UPDATE;
        IF NOT FOUND OR job.place <> p_from OR job.rev <> p_number OR job.queue <> p_queue THEN
            RETURN 1;
        END IF;
        IF p_from = 'p' THEN
            -- Leased jobs have no turn any more.
            PERFORM FROM goflow.waiting w
            WHERE w.queue = job.queue AND w.lane = job.lane AND w.turn = job.turn AND p_id = ANY (w.ids[w.taken + 1 :]) FOR UPDATE;
            RETURN CASE WHEN FOUND THEN 0 ELSE 1 END;
        END IF;
        RETURN 0;
    END IF;
    SELECT b.worker, b.expires[p_number - b.block + 1] INTO v_worker, v_expires FROM goflow.leased b
    WHERE b.block = goflow.block_of(p_number) AND (b.held >> (p_number - b.block)::int) & 1 = 1
        AND b.ids[p_number - b.block + 1] = p_id FOR UPDATE;
    IF NOT FOUND THEN
        SELECT r.worker, r.expires INTO v_worker, v_expires FROM goflow.running r
        WHERE r.epoch = p_number AND r.id = p_id FOR UPDATE;
        IF NOT FOUND THEN
            RETURN 1;
        END IF;
    END IF;
    IF p_right = 'e' AND NOT goflow.lapsed(p_now, v_worker, v_expires) THEN
        RETURN 1;
    END IF;
    RETURN 0;
END
$$;

-- Ends a lease.
CREATE FUNCTION goflow.end_lease(p_epoch bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_held bigint;
BEGIN
    UPDATE goflow.leased b SET held = b.held & ~(1::bigint << (p_epoch - b.block)::int)
    WHERE b.block = goflow.block_of(p_epoch) AND (b.held >> (p_epoch - b.block)::int) & 1 = 1
    RETURNING b.held INTO v_held;
    IF v_held = 0 THEN
        DELETE FROM goflow.leased b WHERE b.block = goflow.block_of(p_epoch);
    ELSIF v_held IS NULL THEN
        DELETE FROM goflow.running r WHERE r.epoch = p_epoch;
    END IF;
END
$$;

-- Takes the rows that a transaction of several commits will want, before anything else and in one order, so that
-- two of them do not wait for each other in a ring: runs, then leases, then stretches of the line. (Rows of jobs
-- come after all of these.)
CREATE FUNCTION goflow.hold(p_runs uuid[], p_epochs bigint[], p_line uuid[]) RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    PERFORM FROM goflow.run r WHERE r.id = ANY (p_runs) ORDER BY r.id FOR UPDATE;
    IF cardinality(p_epochs) > 0 THEN
        PERFORM goflow.hold_leases(p_epochs);
    END IF;
    IF cardinality(p_line) > 0 THEN
        -- By key, so that a stretch that has changed meanwhile is held all the same.
        PERFORM FROM (SELECT DISTINCT j.queue, j.lane, j.turn FROM goflow.job j WHERE j.id = ANY (p_line) AND j.place = 'p') k
        JOIN goflow.waiting w ON w.queue = k.queue AND w.lane = k.lane AND w.turn = k.turn
        ORDER BY w.queue, w.lane, w.turn FOR UPDATE OF w;
    END IF;
END
$$;

CREATE FUNCTION goflow.hold_leases(p_epochs bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM goflow.leased b WHERE b.block = ANY (ARRAY(SELECT goflow.block_of(e) FROM unnest(p_epochs) AS e))
    ORDER BY b.block FOR UPDATE;
    PERFORM FROM goflow.running r WHERE r.epoch = ANY (p_epochs) ORDER BY r.epoch FOR UPDATE;
END
$$;

CREATE FUNCTION goflow.lapsed(p_now bigint, p_worker uuid, p_expires bigint) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT coalesce(p_expires < p_now, false)
        OR NOT EXISTS (SELECT FROM goflow.worker w WHERE w.id = p_worker AND w.expires >= p_now)
$$;

-- Carries out a move that was judged right.
CREATE FUNCTION goflow.move(p_now bigint, p_id uuid, p_right "char", p_number bigint, p_to "char", p_delay bigint,
    p_queue int, p_type text, p_lane smallint, p_rev bigint, p_timeout bigint, p_run uuid, p_key bytea,
    p_suspect boolean, p_ckey bytea, p_climit int, p_body bytea, p_after uuid[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    job goflow.job;
    v_from "char";
    v_turn bigint;
    v_lane smallint := p_lane;
    v_place "char" := p_to;
    ends boolean := p_to IN ('d', 'c', 'x', 'g');
BEGIN
    SELECT * INTO job FROM goflow.job j WHERE j.id = p_id FOR UPDATE;
    IF p_right = 'i' THEN
        v_from := job.place;
        IF v_from = 'p' THEN
            PERFORM goflow.leave_line(job.queue, job.lane, job.turn, p_id);
        END IF;
    ELSE
        v_from := 'r';
        PERFORM goflow.end_lease(p_number);
    END IF;
    IF p_key IS NOT NULL AND ends THEN
        PERFORM goflow.free_key(p_now, p_key, p_id);
    END IF;
    IF v_from = 'h' THEN
        DELETE FROM goflow.tie t WHERE t.child = p_id;
    ELSIF v_from IN ('d', 'c', 'x') AND NOT ends THEN
        UPDATE goflow.tie t SET loose = false WHERE t.parent = p_id AND t.loose;
    END IF;
    IF p_to = 'h' THEN
        PERFORM goflow.tie_again(p_id, p_after);
    END IF;
    INSERT INTO goflow.delta (n, queue, place) VALUES (-1, job.queue, v_from);
    IF ends THEN
        PERFORM goflow.over(ARRAY[p_id]);
    END IF;
    IF p_to = 'g' THEN
        DELETE FROM goflow.job j WHERE j.id = p_id;
        PERFORM goflow.forget_jobs(ARRAY[p_id]);
        IF v_from IN ('r', 'p', 'u') AND job.ckey IS NOT NULL THEN
            PERFORM goflow.unblock(p_now, job.ckey, 0);
        END IF;
        RETURN;
    END IF;
    v_turn := nextval('goflow.turn');
    IF p_to = 'f' THEN
        v_place := 'p';
        v_turn := -v_turn;
        v_lane := p_lane - 1;
    END IF;
    UPDATE goflow.job j SET turn = v_turn, at = p_now + p_delay, rev = p_rev, queue = p_queue, lane = v_lane,
        place = v_place, type = p_type, timeout_ms = p_timeout, run_id = p_run, suspect = p_suspect, ckey = p_ckey,
        climit = p_climit, body = p_body
    WHERE j.id = p_id;
    IF v_place = 'p' THEN
        INSERT INTO goflow.lane (queue, lane) VALUES (p_queue, v_lane) ON CONFLICT DO NOTHING;
        INSERT INTO goflow.waiting (turn, queue, lane, ids) VALUES (v_turn, p_queue, v_lane, ARRAY[p_id]);
    END IF;
    INSERT INTO goflow.delta (n, queue, place) VALUES (1, p_queue, v_place);
    IF v_from IN ('r', 'p', 'u') AND job.ckey IS NOT NULL THEN
        PERFORM goflow.unblock(p_now, job.ckey, 0);
    END IF;
END
$$;
