-- New work. One call a batch; the producer's row is locked for its length, so that a batch that is
-- sent again while the first is still under way waits and finds its answer.

-- A negative start is a moment (negated), any other a delay; both in milliseconds. `p_plain` says
-- that no id comes twice and no job has a unique key. `p_last` says that no runs follow.
CREATE FUNCTION goflow.enqueue(p_producer uuid, p_sequence bigint, p_plain boolean, p_last boolean,
    p_new_queues int[], p_new_lanes smallint[],
    p_ids uuid[], p_queues int[], p_types text[], p_lanes smallint[], p_starts bigint[], p_revs bigint[],
    p_timeouts bigint[], p_runs uuid[], p_keys bytea[], p_bodies bytea[], p_created bytea[], p_scheduled bytea[],
    OUT again boolean, OUT newest bigint, OUT states smallint[], OUT holders uuid[])
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_now bigint := goflow.now_ms();
    base bigint;
    given int := cardinality(p_ids);
    made int := 0;
    item record;
    v_state smallint;
    v_holder uuid;
    logged bytea[];
    kept_ids uuid[];
BEGIN
    again := false;
    INSERT INTO goflow.producer (id, sequence, at, states, holders)
    VALUES (p_producer, p_sequence, v_now, '{}', '{}') ON CONFLICT (id) DO NOTHING;
    IF NOT FOUND THEN
        SELECT p.sequence, p.states, p.holders INTO newest, states, holders
        FROM goflow.producer p WHERE p.id = p_producer FOR UPDATE;
        IF newest >= p_sequence THEN
            again := true;
            RETURN;
        END IF;
    END IF;
    newest := p_sequence;
    states := '{}';
    holders := '{}';
    IF given > 0 THEN
        base := nextval('goflow.turn');
        INSERT INTO goflow.lane SELECT q, l FROM unnest(p_new_queues, p_new_lanes) AS u(q, l) ON CONFLICT DO NOTHING;
    END IF;
    IF given > 0 AND p_plain THEN
        WITH new AS (
            INSERT INTO goflow.job (id, turn, at, rev, queue, lane, place, type, timeout_ms, run_id, body)
            SELECT u.id, base + u.ord - 1,
                   CASE WHEN u.start < 0 THEN greatest(-u.start, v_now) ELSE v_now + u.start END,
                   u.rev, u.queue, u.lane,
                   CASE WHEN u.start = 0 OR (u.start < 0 AND -u.start <= v_now) THEN 'p' ELSE 's' END,
                   u.type, u.timeout_ms, u.run_id, u.body
            FROM unnest(p_ids, p_queues, p_types, p_lanes, p_starts, p_revs, p_timeouts, p_runs, p_bodies)
                 WITH ORDINALITY AS u(id, queue, type, lane, start, rev, timeout_ms, run_id, body, ord)
            ORDER BY u.id
            ON CONFLICT (id) DO NOTHING
            RETURNING id, queue, lane, turn, place
        ), lined AS (
            INSERT INTO goflow.waiting (turn, queue, lane, id)
            SELECT n.turn, n.queue, n.lane, n.id FROM new n WHERE n.place = 'p'
        ), counted AS (
            INSERT INTO goflow.delta (n, queue, place) SELECT count(*), n.queue, n.place FROM new n GROUP BY n.queue, n.place
        )
        SELECT count(*), array_agg(n.id) INTO made, kept_ids FROM new n;
        IF made = given THEN
            states := array_fill(0::smallint, ARRAY[given]);
        ELSE
            SELECT array_agg(CASE WHEN u.id = ANY (kept_ids) THEN 0 ELSE 1 END ORDER BY u.ord) INTO states
            FROM unnest(p_ids) WITH ORDINALITY AS u(id, ord);
        END IF;
        holders := array_fill(NULL::uuid, ARRAY[given]);
        SELECT array_agg(CASE WHEN u.start = 0 OR (u.start < 0 AND -u.start <= v_now) THEN u.created ELSE u.scheduled END
                         ORDER BY u.ord) INTO logged
        FROM unnest(states, p_starts, p_created, p_scheduled) WITH ORDINALITY AS u(state, start, created, scheduled, ord)
        WHERE u.state = 0;
    ELSIF given > 0 THEN
        states := array_fill(1::smallint, ARRAY[given]);
        holders := array_fill(NULL::uuid, ARRAY[given]);
        -- By key, so that two batches with the same keys do not wait for each other in a ring.
        FOR item IN
            SELECT * FROM unnest(p_ids, p_queues, p_types, p_lanes, p_starts, p_revs, p_timeouts, p_runs, p_keys,
                                 p_bodies, p_created, p_scheduled)
            WITH ORDINALITY AS u(id, queue, type, lane, start, rev, timeout_ms, run_id, key, body, created, scheduled, ord)
            ORDER BY u.key NULLS FIRST, u.ord
        LOOP
            v_state := 1;
            v_holder := NULL;
            IF NOT EXISTS (SELECT FROM goflow.job j WHERE j.id = item.id) THEN
                v_state := 0;
                WHILE item.key IS NOT NULL LOOP
                    INSERT INTO goflow.unique_key (key, id) VALUES (item.key, item.id) ON CONFLICT (key) DO NOTHING;
                    EXIT WHEN FOUND;
                    SELECT k.id INTO v_holder FROM goflow.unique_key k WHERE k.key = item.key;
                    -- Not there any more: it became free just now.
                    CONTINUE WHEN NOT FOUND;
                    v_state := 2;
                    EXIT;
                END LOOP;
            END IF;
            IF v_state = 0 THEN
                INSERT INTO goflow.job (id, turn, at, rev, queue, lane, place, type, timeout_ms, run_id, body)
                VALUES (item.id, base + item.ord - 1,
                    CASE WHEN item.start < 0 THEN greatest(-item.start, v_now) ELSE v_now + item.start END,
                    item.rev, item.queue, item.lane,
                    CASE WHEN item.start = 0 OR (item.start < 0 AND -item.start <= v_now) THEN 'p' ELSE 's' END,
                    item.type, item.timeout_ms, item.run_id, item.body)
                ON CONFLICT (id) DO NOTHING;
                IF NOT FOUND THEN
                    v_state := 1;
                    DELETE FROM goflow.unique_key k WHERE k.key = item.key AND k.id = item.id;
                ELSIF item.start = 0 OR (item.start < 0 AND -item.start <= v_now) THEN
                    INSERT INTO goflow.waiting (turn, queue, lane, id) VALUES (base + item.ord - 1, item.queue, item.lane, item.id);
                    INSERT INTO goflow.delta (n, queue, place) VALUES (1, item.queue, 'p');
                    logged := logged || item.created;
                ELSE
                    INSERT INTO goflow.delta (n, queue, place) VALUES (1, item.queue, 's');
                    logged := logged || item.scheduled;
                END IF;
            END IF;
            states[item.ord] := v_state;
            holders[item.ord] := v_holder;
        END LOOP;
    END IF;
    IF logged IS NOT NULL THEN
        PERFORM goflow.log(v_now, logged, NULL, NULL, NULL);
    END IF;
    IF p_last THEN
        PERFORM goflow.remember(p_producer, p_sequence, states, holders);
    END IF;
END
$$;

-- Keeps the answer of a batch for the one who asks again.
CREATE FUNCTION goflow.remember(p_producer uuid, p_sequence bigint, p_states smallint[], p_holders uuid[])
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO goflow.producer (id, sequence, at, states, holders)
    VALUES (p_producer, p_sequence, goflow.now_ms(), p_states, p_holders)
    ON CONFLICT (id) DO UPDATE
    SET sequence = EXCLUDED.sequence, at = EXCLUDED.at, states = EXCLUDED.states, holders = EXCLUDED.holders;
END
$$;
