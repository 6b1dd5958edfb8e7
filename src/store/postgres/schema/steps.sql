-- What ends steps and moves runs on: a batch of commits, each of plain settles and a part for a run of
-- its own, as a handful of statements over arrays. And the start of a batch of runs.
--
-- `r_…` and `e_…` have one item a run; `s_parts`, `j_parts`, `v_parts`, `d_parts` and `t_parts` say which
-- run (from 1) a settle, a job, a value or a timer belongs to; 0 is none.

-- Ends leases by plain settles; `moved`: the numbers of those (from 1) that held; `let_go`: the next of a concurrency
-- key may run now, in whatever queue. Whoever calls it looks
-- afterwards, in a statement of its own, whether anybody has asked for an end or waits for one, and says
-- by `goflow.settled_over` that it came.
CREATE FUNCTION goflow.settle(p_now bigint, s_ids uuid[], s_epochs bigint[], s_places "char"[], s_delays bigint[],
    s_revs bigint[], s_suspects boolean[], s_bodies bytea[],
    OUT moved bigint[], OUT let_go boolean)
LANGUAGE plpgsql AS $$
DECLARE
    base bigint;
    freed bigint[];
    ckeys bytea[];
BEGIN
    let_go := false;
    base := goflow.next_turn();
    -- The shapes below leave the planner one way: by key from the batch to the table. Left free, it
    -- walks all of a table that was empty when it last looked.
    WITH kept AS MATERIALIZED (
        SELECT b.block, b.held, b.ids, b.spots FROM goflow.leased b
        WHERE b.block = ANY (ARRAY(SELECT DISTINCT goflow.block_of(e) FROM unnest(s_epochs) AS e))
        ORDER BY b.block FOR UPDATE
    ), fit AS MATERIALIZED (
        SELECT u.ord, u.id, k.block, k.held, 1::bigint << (u.epoch - k.block)::int AS bit, k.spots[u.epoch - k.block + 1] AS spot
        FROM unnest(s_ids, s_epochs) WITH ORDINALITY AS u(id, epoch, ord) JOIN kept k ON k.block = goflow.block_of(u.epoch)
        WHERE k.ids[u.epoch - k.block + 1] = u.id AND (k.held >> (u.epoch - k.block)::int) & 1 = 1
    ), rest AS MATERIALIZED (
        SELECT f.block, f.held & ~bit_or(f.bit) AS held FROM fit f GROUP BY f.block, f.held
    ), gone AS (
        -- By key: where `kept` has waited, the row it has locked lies elsewhere than this statement sees it.
        DELETE FROM goflow.leased b USING rest r WHERE b.block = r.block AND r.held = 0
    ), fewer AS (
        UPDATE goflow.leased b SET held = r.held FROM rest r WHERE b.block = r.block AND r.held <> 0
    ), ended AS (
        UPDATE goflow.job j SET place = s_places[f.ord], at = p_now + s_delays[f.ord],
            turn = base + f.ord - 1, rev = s_revs[f.ord], suspect = s_suspects[f.ord], body = s_bodies[f.ord]
        FROM fit f WHERE j.ctid = f.spot AND j.id = f.id
        RETURNING f.ord, j.queue, j.place
    ), counted AS (
        INSERT INTO goflow.delta (n, queue, place)
        SELECT count(*), e.queue, e.place FROM ended e GROUP BY e.queue, e.place
        UNION ALL
        SELECT -count(*), e.queue, 'r' FROM ended e GROUP BY e.queue
    )
    SELECT array_agg(e.ord), (SELECT array_agg(f.ord) FROM fit f) INTO moved, freed FROM ended e;
    IF cardinality(moved) = cardinality(s_ids) THEN
        RETURN;
    END IF;
    IF cardinality(freed) > coalesce(cardinality(moved), 0) THEN
        -- Rows that are not where they were: somebody has rewritten the table.
        WITH ended AS (
            UPDATE goflow.job j SET place = s_places[f.ord], at = p_now + s_delays[f.ord],
                turn = base + f.ord - 1, rev = s_revs[f.ord], suspect = s_suspects[f.ord], body = s_bodies[f.ord]
            FROM unnest(freed) AS f(ord)
            WHERE j.id = s_ids[f.ord] AND NOT f.ord = ANY (coalesce(moved, '{}'))
            RETURNING f.ord, j.queue, j.place
        ), counted AS (
            INSERT INTO goflow.delta (n, queue, place)
            SELECT count(*), e.queue, e.place FROM ended e GROUP BY e.queue, e.place
            UNION ALL
            SELECT -count(*), e.queue, 'r' FROM ended e GROUP BY e.queue
        )
        SELECT coalesce(moved, '{}') || array_agg(e.ord) INTO moved FROM ended e;
    END IF;
    -- Leases that are kept one by one.
    WITH freed AS (
        DELETE FROM goflow.running r
        WHERE r.epoch = ANY (s_epochs) AND r.id = s_ids[array_position(s_epochs, r.epoch)]
        RETURNING array_position(s_epochs, r.epoch) AS ord, r.id, r.ckey
    ), ended AS (
        UPDATE goflow.job j SET place = s_places[f.ord], at = p_now + s_delays[f.ord],
            turn = base + f.ord - 1, rev = s_revs[f.ord], suspect = s_suspects[f.ord], body = s_bodies[f.ord]
        FROM (SELECT d.ord, d.ckey, k.row FROM freed d,
                  LATERAL (SELECT h.ctid AS row FROM goflow.job h WHERE h.id = d.id LIMIT 1) k) f
        WHERE j.ctid = f.row
        RETURNING f.ord, j.queue, j.place, f.ckey
    ), counted AS (
        INSERT INTO goflow.delta (n, queue, place)
        SELECT count(*), e.queue, e.place FROM ended e GROUP BY e.queue, e.place
        UNION ALL
        SELECT -count(*), e.queue, 'r' FROM ended e GROUP BY e.queue
    )
    SELECT coalesce(moved, '{}') || array_agg(e.ord::bigint), array_agg(e.ckey ORDER BY e.ord) FILTER (WHERE e.ckey IS NOT NULL)
    INTO moved, ckeys FROM ended e;
    moved := coalesce(moved, '{}');
    IF ckeys IS NOT NULL THEN
        FOR i IN 1 .. cardinality(ckeys) LOOP
            let_go := goflow.unblock(p_now, ckeys[i], coalesce(cardinality(array_positions(ckeys[i + 1 :], ckeys[i])), 0))
                OR let_go;
        END LOOP;
    END IF;
END
$$;

CREATE FUNCTION goflow.settled_over(s_ids uuid[], s_places "char"[], p_moved bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM goflow.over(ARRAY(SELECT s_ids[m] FROM unnest(p_moved) AS m WHERE s_places[m] IN ('d', 'c', 'x')));
END
$$;

-- The events of the settles that held.
CREATE FUNCTION goflow.of_moved(s_events bytea[], p_moved bigint[]) RETURNS bytea[] LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF cardinality(p_moved) = cardinality(s_events) THEN
        RETURN s_events;
    ELSIF cardinality(p_moved) = 0 THEN
        RETURN NULL;
    END IF;
    RETURN (SELECT array_agg(u.event ORDER BY u.ord) FROM unnest(s_events) WITH ORDINALITY AS u(event, ord)
            WHERE u.ord = ANY (p_moved));
END
$$;

-- Carries out what advances change, for those runs that are `r_on`. Their rows are locked, or new, in
-- this transaction.
CREATE FUNCTION goflow.apply(p_now bigint, r_ids uuid[], r_on boolean[], e_terminal boolean[], e_events bytea[],
    j_parts int[], j_ids uuid[], j_queues int[], j_types text[], j_lanes smallint[], j_revs bigint[],
    j_timeouts bigint[], j_runs uuid[], j_keys bytea[], j_suspects boolean[], j_ckeys bytea[], j_climits int[],
    j_bodies bytea[],
    v_parts int[], v_keys bytea[], v_values bytea[], d_parts int[], d_keys bytea[],
    t_parts int[], t_keys bytea[], t_delays bigint[], t_facts bytea[], x_parts int[], x_ids uuid[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    is_all boolean := array_position(r_on, false) IS NULL;
BEGIN
    IF cardinality(v_parts) > 0 THEN
        INSERT INTO goflow.value (run_id, key, value)
        SELECT r_ids[u.part], u.key, u.value FROM unnest(v_parts, v_keys, v_values) AS u(part, key, value)
        WHERE r_on[u.part]
        ON CONFLICT (run_id, key) DO NOTHING;
    END IF;
    IF cardinality(d_parts) > 0 THEN
        DELETE FROM goflow.timer t WHERE t.ctid = ANY (ARRAY(
            SELECT k.row FROM unnest(d_parts, d_keys) AS u(part, key),
                LATERAL (SELECT h.ctid AS row FROM goflow.timer h WHERE h.run_id = r_ids[u.part] AND h.key = u.key LIMIT 1) k
            WHERE r_on[u.part]));
    END IF;
    IF array_position(e_terminal, true) IS NOT NULL THEN
        DELETE FROM goflow.timer t WHERE t.run_id = ANY (ARRAY(
            SELECT u.id FROM unnest(r_ids, r_on, e_terminal) AS u(id, is_on, terminal) WHERE u.is_on AND u.terminal));
    END IF;
    IF cardinality(t_parts) > 0 THEN
        INSERT INTO goflow.timer (run_id, key, due, fact)
        SELECT DISTINCT ON (u.part, u.key) r_ids[u.part], u.key, p_now + u.delay, u.fact
        FROM unnest(t_parts, t_keys, t_delays, t_facts) WITH ORDINALITY AS u(part, key, delay, fact, ord)
        WHERE r_on[u.part] AND NOT e_terminal[u.part]
        ORDER BY u.part, u.key, u.ord DESC
        ON CONFLICT (run_id, key) DO UPDATE SET due = EXCLUDED.due, fact = EXCLUDED.fact;
    END IF;
    INSERT INTO goflow.history (run_id, seq, at, events)
    SELECT u.id, nextval('goflow.fact'), p_now, u.events FROM unnest(r_ids, r_on, e_events) AS u(id, is_on, events)
    WHERE u.is_on AND u.events IS NOT NULL;
    IF cardinality(j_parts) > 0 THEN
        IF is_all THEN
            PERFORM goflow.add_jobs(p_now, j_ids, j_queues, j_types, j_lanes, j_revs, j_timeouts, j_runs, j_keys,
                j_suspects, j_ckeys, j_climits, j_bodies);
        ELSE
            PERFORM goflow.add_jobs(p_now, array_agg(u.id ORDER BY u.ord), array_agg(u.queue ORDER BY u.ord),
                array_agg(u.type ORDER BY u.ord), array_agg(u.lane ORDER BY u.ord), array_agg(u.rev ORDER BY u.ord),
                array_agg(u.timeout_ms ORDER BY u.ord), array_agg(u.run_id ORDER BY u.ord),
                array_agg(u.key ORDER BY u.ord), array_agg(u.suspect ORDER BY u.ord), array_agg(u.ckey ORDER BY u.ord),
                array_agg(u.climit ORDER BY u.ord), array_agg(u.body ORDER BY u.ord))
            FROM unnest(j_parts, j_ids, j_queues, j_types, j_lanes, j_revs, j_timeouts, j_runs, j_keys, j_suspects, j_ckeys,
                        j_climits, j_bodies)
                WITH ORDINALITY AS u(part, id, queue, type, lane, rev, timeout_ms, run_id, key, suspect, ckey, climit, body, ord)
            WHERE r_on[u.part]
            HAVING count(*) > 0;
        END IF;
    END IF;
    IF cardinality(x_parts) > 0 THEN
        PERFORM goflow.ask(ARRAY(SELECT u.id FROM unnest(x_parts, x_ids) AS u(part, id) WHERE r_on[u.part]));
    END IF;
    IF array_position(e_terminal, true) IS NOT NULL THEN
        PERFORM goflow.leave_gates(p_now, ARRAY(
            SELECT u.id FROM unnest(r_ids, r_on, e_terminal) AS u(id, is_on, terminal) WHERE u.is_on AND u.terminal));
    END IF;
END
$$;

-- `r_given`: how many settles a run's commit brings. `parts`: 1 advanced, 2 advanced and more to
-- drain, 3 inboxed, 4 contended, 5 gone. `woke`: somebody has to look into an inbox, or for
-- what was let go. `logged`: what is to be written into the log, by `goflow.exchange` with what it does itself.
CREATE FUNCTION goflow.settle_steps(
    s_ids uuid[], s_epochs bigint[], s_places "char"[], s_delays bigint[], s_revs bigint[], s_suspects boolean[],
    s_bodies bytea[], s_events bytea[], s_parts int[], s_facts bytea[],
    r_ids uuid[], r_given int[], r_revs bigint[], r_drained bigint[],
    e_workflows text[], e_states text[], e_terminal boolean[], e_revs bigint[], e_bodies bytea[], e_events bytea[],
    j_parts int[], j_ids uuid[], j_queues int[], j_types text[], j_lanes smallint[], j_revs bigint[],
    j_timeouts bigint[], j_runs uuid[], j_keys bytea[], j_suspects boolean[], j_ckeys bytea[], j_climits int[],
    j_bodies bytea[],
    v_parts int[], v_keys bytea[], v_values bytea[], d_parts int[], d_keys bytea[],
    t_parts int[], t_keys bytea[], t_delays bigint[], t_facts bytea[], x_parts int[], x_ids uuid[],
    OUT moved bigint[], OUT parts smallint[], OUT woke boolean, OUT logged bytea[])
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_now bigint := goflow.now_ms();
    settled record;
    let_go boolean := false;
    counts int[] := r_given;
    nth bigint;
    r_on boolean[];
BEGIN
    PERFORM pg_current_xact_id();
    -- A run's row is the lock of everything that belongs to the run: in the order of their ids, before
    -- anything else.
    PERFORM FROM goflow.run r WHERE r.id = ANY (r_ids) ORDER BY r.id FOR UPDATE;
    IF cardinality(s_ids) > 0 THEN
        settled := goflow.settle(v_now, s_ids, s_epochs, s_places, s_delays, s_revs, s_suspects, s_bodies);
        moved := settled.moved;
        let_go := settled.let_go;
        IF EXISTS (SELECT FROM goflow.ask) OR EXISTS (SELECT FROM goflow.tie) THEN
            PERFORM goflow.settled_over(s_ids, s_places, moved);
        END IF;
        IF cardinality(moved) < cardinality(s_ids) THEN
            counts := array_fill(0, ARRAY[cardinality(r_ids)]);
            FOREACH nth IN ARRAY moved LOOP
                IF s_parts[nth] > 0 THEN
                    counts[s_parts[nth]] := counts[s_parts[nth]] + 1;
                END IF;
            END LOOP;
        END IF;
        logged := goflow.of_moved(s_events, moved);
    ELSE
        moved := '{}';
    END IF;
    SELECT array_agg(CASE WHEN k.rev IS NULL THEN 5
                          WHEN u.n = u.given AND k.rev = u.rev THEN CASE WHEN k.more THEN 2 ELSE 1 END
                          WHEN u.n > 0 THEN 3 ELSE 4 END ORDER BY u.ord)
    INTO parts
    FROM unnest(r_ids, counts, r_given, r_revs, r_drained) WITH ORDINALITY AS u(id, n, given, rev, drained, ord)
    LEFT JOIN LATERAL (
        SELECT r.rev, EXISTS (SELECT FROM goflow.inbox b WHERE b.run_id = r.id AND b.seq > coalesce(u.drained, 0)) AS more
        FROM goflow.run r WHERE r.id = u.id LIMIT 1) k ON true;
    r_on := ARRAY(SELECT p IN (1, 2) FROM unnest(parts) WITH ORDINALITY AS u(p, ord) ORDER BY u.ord);
    woke := let_go OR array_position(parts, 2::smallint) IS NOT NULL OR array_position(parts, 3::smallint) IS NOT NULL;

    IF array_position(r_on, true) IS NOT NULL THEN
        IF array_remove(r_drained, NULL) <> '{}' THEN
            DELETE FROM goflow.inbox b WHERE b.ctid = ANY (ARRAY(
                SELECT k.row FROM unnest(r_ids, r_drained, r_on) AS u(id, drained, is_on),
                    LATERAL (SELECT h.ctid AS row FROM goflow.inbox h WHERE h.run_id = u.id AND h.seq <= u.drained) k
                WHERE u.is_on));
        END IF;
        UPDATE goflow.run r SET rev = u.rev, workflow = u.workflow, state = u.state, body = u.body,
            live = NOT u.terminal, finished = CASE WHEN u.terminal THEN coalesce(r.finished, v_now) END
        FROM (SELECT n.*, k.row FROM
                  unnest(r_ids, r_on, e_workflows, e_states, e_terminal, e_revs, e_bodies)
                      AS n(id, is_on, workflow, state, terminal, rev, body),
                  LATERAL (SELECT h.ctid AS row FROM goflow.run h WHERE h.id = n.id LIMIT 1) k
              WHERE n.is_on) u
        WHERE r.ctid = u.row;
        -- Before the rest: a run that ends may let another one of these through a gate, which makes that one dirty again.
        DELETE FROM goflow.dirty d WHERE d.run_id = ANY (ARRAY(
            SELECT u.id FROM unnest(r_ids, parts) AS u(id, part) WHERE u.part = 1));
        PERFORM goflow.apply(v_now, r_ids, r_on, e_terminal, e_events, j_parts, j_ids, j_queues, j_types, j_lanes, j_revs,
            j_timeouts, j_runs, j_keys, j_suspects, j_ckeys, j_climits, j_bodies, v_parts, v_keys, v_values,
            d_parts, d_keys, t_parts, t_keys, t_delays, t_facts, x_parts, x_ids);
        logged := ARRAY(SELECT u.events FROM unnest(e_events, r_on) WITH ORDINALITY AS u(events, is_on, ord)
                        WHERE u.is_on AND u.events IS NOT NULL ORDER BY u.ord) || logged;
    END IF;
    IF array_position(parts, 2::smallint) IS NOT NULL THEN
        INSERT INTO goflow.dirty (run_id, until)
        SELECT u.id, v_now FROM unnest(r_ids, parts) AS u(id, part) WHERE u.part = 2
        ON CONFLICT (run_id) DO UPDATE SET until = v_now;
    END IF;
    IF array_position(parts, 3::smallint) IS NOT NULL THEN
        INSERT INTO goflow.inbox (run_id, seq, fact)
        SELECT r_ids[f.part], nextval('goflow.fact'), f.fact FROM (
            SELECT u.part, u.fact FROM unnest(s_parts, s_facts) WITH ORDINALITY AS u(part, fact, ord)
            WHERE u.part > 0 AND parts[u.part] = 3 AND u.ord = ANY (moved) ORDER BY u.ord) f;
        INSERT INTO goflow.dirty (run_id, until)
        SELECT u.id, v_now FROM unnest(r_ids, parts) AS u(id, part) WHERE u.part = 3
        ON CONFLICT (run_id) DO NOTHING;
    END IF;
    logged := coalesce(logged, '{}');
END
$$;

-- New runs with their first effects, after the jobs of the same batch, whose answers are `p_states` and
-- `p_holders`. Answers which runs were there already, and keeps the whole batch's answer.
CREATE FUNCTION goflow.start_runs(p_producer uuid, p_sequence bigint, p_states smallint[], p_holders uuid[],
    r_ids uuid[], e_workflows text[], e_states text[], e_terminal boolean[], e_revs bigint[], e_bodies bytea[],
    e_events bytea[],
    j_parts int[], j_ids uuid[], j_queues int[], j_types text[], j_lanes smallint[], j_revs bigint[],
    j_timeouts bigint[], j_runs uuid[], j_keys bytea[], j_suspects boolean[], j_ckeys bytea[], j_climits int[],
    j_bodies bytea[],
    v_parts int[], v_keys bytea[], v_values bytea[], d_parts int[], d_keys bytea[],
    t_parts int[], t_keys bytea[], t_delays bigint[], t_facts bytea[], x_parts int[], x_ids uuid[])
RETURNS smallint[] LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_now bigint := goflow.now_ms();
    states smallint[] := p_states;
    made uuid[];
    r_on boolean[];
    logged bytea[];
BEGIN
    PERFORM pg_current_xact_id();
    WITH new AS (
        INSERT INTO goflow.run (id, rev, finished, live, workflow, state, body)
        SELECT u.id, u.rev, CASE WHEN u.terminal THEN v_now END, NOT u.terminal, u.workflow, u.state, u.body
        FROM unnest(r_ids, e_revs, e_terminal, e_workflows, e_states, e_bodies)
            WITH ORDINALITY AS u(id, rev, terminal, workflow, state, body, ord)
        ORDER BY u.id, u.ord
        ON CONFLICT (id) DO NOTHING
        RETURNING id
    )
    SELECT array_agg(new.id) INTO made FROM new;
    IF cardinality(made) = cardinality(r_ids) THEN
        r_on := array_fill(true, ARRAY[cardinality(r_ids)]);
        states := states || array_fill(0::smallint, ARRAY[cardinality(r_ids)]);
    ELSE
        -- Of a run that comes twice in the batch the first is the one that is made.
        r_on := ARRAY(SELECT coalesce(u.id = ANY (made), false) AND array_position(r_ids, u.id) = u.ord
                      FROM unnest(r_ids) WITH ORDINALITY AS u(id, ord) ORDER BY u.ord);
        states := states || ARRAY(SELECT (CASE WHEN u.is_on THEN 0 ELSE 1 END)::smallint
                                  FROM unnest(r_on) WITH ORDINALITY AS u(is_on, ord) ORDER BY u.ord);
    END IF;
    IF array_position(r_on, true) IS NOT NULL THEN
        PERFORM goflow.apply(v_now, r_ids, r_on, e_terminal, e_events, j_parts, j_ids, j_queues, j_types, j_lanes, j_revs,
            j_timeouts, j_runs, j_keys, j_suspects, j_ckeys, j_climits, j_bodies, v_parts, v_keys, v_values,
            d_parts, d_keys, t_parts, t_keys, t_delays, t_facts, x_parts, x_ids);
        logged := ARRAY(SELECT u.events FROM unnest(e_events, r_on) WITH ORDINALITY AS u(events, is_on, ord)
                        WHERE u.is_on AND u.events IS NOT NULL ORDER BY u.ord);
        IF cardinality(logged) > 0 THEN
            PERFORM goflow.log(v_now, logged, NULL, NULL, NULL);
        END IF;
    END IF;
    PERFORM goflow.remember(p_producer, p_sequence, states,
        p_holders || array_fill(NULL::uuid, ARRAY[cardinality(r_ids)]));
    RETURN states;
END
$$;

-- One new run, perhaps with a gate: 0 created, 1 exists, 4 its gate is full and it does not wait.
CREATE FUNCTION goflow.start_run(p_run uuid, g_key bytea, g_most int, g_go bytea, g_reject boolean,
    e_workflows text[], e_states text[], e_terminal boolean[], e_revs bigint[], e_bodies bytea[], e_events bytea[],
    j_parts int[], j_ids uuid[], j_queues int[], j_types text[], j_lanes smallint[], j_revs bigint[],
    j_timeouts bigint[], j_runs uuid[], j_keys bytea[], j_suspects boolean[], j_ckeys bytea[], j_climits int[],
    j_bodies bytea[],
    v_parts int[], v_keys bytea[], v_values bytea[], d_parts int[], d_keys bytea[],
    t_parts int[], t_keys bytea[], t_delays bigint[], t_facts bytea[], x_parts int[], x_ids uuid[])
RETURNS smallint LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_now bigint := goflow.now_ms();
BEGIN
    PERFORM pg_current_xact_id();
    IF g_key IS NOT NULL THEN
        PERFORM goflow.lock_limits();
        IF g_reject AND NOT EXISTS (SELECT FROM goflow.run r WHERE r.id = p_run)
            AND (EXISTS (SELECT FROM goflow.gate g WHERE g.key = g_key AND NOT g.inside)
                 OR (SELECT count(*) FROM goflow.gate g WHERE g.key = g_key AND g.inside) >= g_most) THEN
            RETURN 4;
        END IF;
    END IF;
    INSERT INTO goflow.run (id, rev, finished, live, workflow, state, body)
    VALUES (p_run, e_revs[1], CASE WHEN e_terminal[1] THEN v_now END, NOT e_terminal[1], e_workflows[1], e_states[1], e_bodies[1])
    ON CONFLICT (id) DO NOTHING;
    IF NOT FOUND THEN
        RETURN 1;
    END IF;
    IF g_key IS NOT NULL THEN
        INSERT INTO goflow.gate (run_id, key, seq, inside, most, go)
        VALUES (p_run, g_key, nextval('goflow.fact'), false, g_most, g_go);
    END IF;
    PERFORM goflow.apply(v_now, ARRAY[p_run], '{true}', e_terminal, e_events, j_parts, j_ids, j_queues, j_types, j_lanes,
        j_revs, j_timeouts, j_runs, j_keys, j_suspects, j_ckeys, j_climits, j_bodies, v_parts, v_keys, v_values,
        d_parts, d_keys, t_parts, t_keys, t_delays, t_facts, x_parts, x_ids);
    IF e_events[1] IS NOT NULL THEN
        PERFORM goflow.log(v_now, e_events, NULL, NULL, NULL);
    END IF;
    IF g_key IS NOT NULL THEN
        PERFORM goflow.admit(v_now, g_key);
    END IF;
    RETURN 0;
END
$$;
