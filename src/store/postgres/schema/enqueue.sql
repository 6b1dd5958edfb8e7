-- New work. One call a batch; the producer's row is locked for its length, so that a batch that is
-- sent again while the first is still under way waits and finds its answer.

-- A negative start is a moment (negated), any other a delay; both in milliseconds. `p_odd`: the jobs that are added one by
-- one after the others, because they have a unique key or parents, come again, or come after a child of theirs; null if none
-- is. Without a producer nothing is remembered.
-- `p_key_for`: how long a unique key stays taken at least. `p_after`: parents, each with the number of its
-- job. States: 0 created, 1 exists, 2 conflict with the holder, 3 the holder's place names a parent that is not kept.
-- `p_last` says that no runs follow.
CREATE FUNCTION goflow.enqueue(p_producer uuid, p_sequence bigint, p_odd boolean[], p_last boolean,
    p_new_queues int[], p_new_lanes smallint[],
    p_ids uuid[], p_queues int[], p_types text[], p_lanes smallint[], p_starts bigint[], p_revs bigint[],
    p_timeouts bigint[], p_runs uuid[], p_keys bytea[], p_suspects boolean[], p_ckeys bytea[], p_climits int[],
    p_bodies bytea[], p_key_for bigint[], p_after_jobs int[], p_after uuid[], p_created bytea[], p_scheduled bytea[],
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
    v_place "char";
    is_now boolean;
    v_taken boolean;
    parents uuid[];
    logged bytea[];
    kept_ids uuid[];
    spots tid[];
    fits boolean[];
    firsts bigint[];
    plain uuid[];
BEGIN
    again := false;
    IF p_producer IS NOT NULL THEN
        INSERT INTO goflow.producer (id, sequence, at, states, holders)
        VALUES (p_producer, p_sequence, v_now, '{}', '{}') ON CONFLICT (id) DO NOTHING;
    END IF;
    IF p_producer IS NOT NULL AND NOT FOUND THEN
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
        base := goflow.next_turn();
        INSERT INTO goflow.lane SELECT q, l FROM unnest(p_new_queues, p_new_lanes) AS u(q, l) ON CONFLICT DO NOTHING;
        states := array_fill(1::smallint, ARRAY[given]);
        holders := array_fill(NULL::uuid, ARRAY[given]);
        firsts := goflow.cut(p_queues, p_lanes, p_odd);
        IF p_odd IS NULL THEN
            plain := p_ids;
        ELSE
            plain := ARRAY(SELECT u.id FROM unnest(p_ids, p_odd) WITH ORDINALITY AS u(id, odd, ord) WHERE NOT u.odd ORDER BY u.ord);
        END IF;
    END IF;
    IF cardinality(plain) > 0 THEN
        WITH new AS (
            INSERT INTO goflow.job (id, turn, at, rev, queue, lane, place, type, timeout_ms, run_id, suspect, ckey, climit, body)
            SELECT u.id,
                   -- In the line that of its stretch.
                   CASE WHEN (u.start = 0 OR (u.start < 0 AND -u.start <= v_now)) AND u.suspect IS NOT TRUE
                        THEN goflow.seat(ARRAY[base], goflow.first_of(firsts, u.ord)) ELSE base + u.ord - 1 END,
                   CASE WHEN u.start < 0 THEN greatest(-u.start, v_now) ELSE v_now + u.start END,
                   u.rev, u.queue, u.lane,
                   CASE WHEN u.start = 0 OR (u.start < 0 AND -u.start <= v_now)
                        THEN CASE WHEN u.suspect THEN 'u' ELSE 'p' END ELSE 's' END,
                   u.type, u.timeout_ms, u.run_id, u.suspect, u.ckey, u.climit, u.body
            FROM unnest(p_ids, p_queues, p_types, p_lanes, p_starts, p_revs, p_timeouts, p_runs, p_suspects, p_ckeys,
                        p_climits, p_bodies, p_odd)
                 WITH ORDINALITY AS u(id, queue, type, lane, start, rev, timeout_ms, run_id, suspect, ckey, climit, body, odd, ord)
            WHERE u.odd IS NOT TRUE
            ORDER BY u.ord
            ON CONFLICT (id) DO NOTHING
            RETURNING id, ctid, queue, place
        ), counted AS (
            INSERT INTO goflow.delta (n, queue, place) SELECT count(*), n.queue, n.place FROM new n GROUP BY n.queue, n.place
        )
        SELECT count(*), array_agg(n.id), array_agg(n.ctid) INTO made, kept_ids, spots FROM new n;
        IF kept_ids IS DISTINCT FROM plain THEN
            spots := NULL;
        ELSIF p_odd IS NOT NULL THEN
            spots := ARRAY(SELECT CASE WHEN u.odd IS NOT TRUE THEN spots[count(*) FILTER (WHERE u.odd IS NOT TRUE) OVER (ORDER BY u.ord)] END
                           FROM unnest(p_odd) WITH ORDINALITY AS u(odd, ord) ORDER BY u.ord);
        END IF;
        IF made = given THEN
            states := array_fill(0::smallint, ARRAY[given]);
        ELSE
            SELECT array_agg(CASE WHEN u.odd IS NOT TRUE AND (made = cardinality(plain) OR u.id = ANY (kept_ids)) THEN 0 ELSE 1 END ORDER BY u.ord)
            INTO states FROM unnest(p_ids, p_odd) WITH ORDINALITY AS u(id, odd, ord);
        END IF;
        IF made < given OR NOT 0 = ALL (p_starts) OR array_position(p_suspects, true) IS NOT NULL THEN
            fits := ARRAY(SELECT u.state = 0 AND (u.start = 0 OR (u.start < 0 AND -u.start <= v_now)) AND u.suspect IS NOT TRUE
                          FROM unnest(states, p_starts, p_suspects) WITH ORDINALITY AS u(state, start, suspect, ord) ORDER BY u.ord);
        END IF;
        PERFORM goflow.line_up(ARRAY[base], firsts, p_ids, spots, p_queues, p_lanes, fits);
        SELECT array_agg(CASE WHEN u.start = 0 OR (u.start < 0 AND -u.start <= v_now) THEN u.created ELSE u.scheduled END
                         ORDER BY u.ord) INTO logged
        FROM unnest(states, p_starts, p_created, p_scheduled) WITH ORDINALITY AS u(state, start, created, scheduled, ord)
        WHERE u.state = 0;
    END IF;
    IF p_odd IS NOT NULL THEN
        -- By key, so that two batches with the same keys do not wait for each other in a ring. Where there
        -- are parents, in order: one that comes before its child counts.
        FOR item IN
            SELECT * FROM unnest(p_ids, p_queues, p_types, p_lanes, p_starts, p_revs, p_timeouts, p_runs, p_keys,
                                 p_suspects, p_ckeys, p_climits, p_bodies, p_key_for, p_created, p_scheduled)
            WITH ORDINALITY AS u(id, queue, type, lane, start, rev, timeout_ms, run_id, key, suspect, ckey, climit, body,
                                 key_for, created, scheduled, ord)
            WHERE p_odd[u.ord]
            ORDER BY CASE WHEN cardinality(p_after) = 0 THEN u.key END NULLS FIRST, u.ord
        LOOP
            v_state := 0;
            v_holder := NULL;
            v_taken := false;
            parents := ARRAY(SELECT a.parent FROM unnest(p_after_jobs, p_after) WITH ORDINALITY AS a(nth, parent, ord)
                             WHERE a.nth = item.ord ORDER BY a.ord);
            is_now := item.start = 0 OR (item.start < 0 AND -item.start <= v_now);
            v_place := CASE WHEN cardinality(parents) > 0 THEN 'h' WHEN NOT is_now THEN 's'
                            WHEN item.suspect THEN 'u' ELSE 'p' END;
            IF EXISTS (SELECT FROM goflow.job j WHERE j.id = item.id) THEN
                v_state := 1;
            ELSIF item.key IS NOT NULL THEN
                v_holder := goflow.take_key(v_now, item.key, item.id, v_now + item.key_for, true);
                v_taken := v_holder IS NULL;
                v_state := CASE WHEN v_taken THEN 0 ELSE 2 END;
            END IF;
            IF v_state = 0 AND cardinality(parents) > 0 THEN
                v_holder := goflow.tie(item.id, parents);
                v_state := CASE WHEN v_holder IS NULL THEN 0 ELSE 3 END;
            END IF;
            IF v_state = 0 THEN
                INSERT INTO goflow.job (id, turn, at, rev, queue, lane, place, type, timeout_ms, run_id, suspect, ckey, climit, body)
                VALUES (item.id, base + item.ord - 1,
                    CASE WHEN item.start < 0 THEN greatest(-item.start, v_now) ELSE v_now + item.start END,
                    item.rev, item.queue, item.lane, v_place, item.type, item.timeout_ms, item.run_id,
                    item.suspect, item.ckey, item.climit, item.body)
                ON CONFLICT (id) DO NOTHING;
                IF NOT FOUND THEN
                    v_state := 1;
                    DELETE FROM goflow.tie t WHERE t.child = item.id AND cardinality(parents) > 0;
                END IF;
            END IF;
            IF v_state = 0 THEN
                INSERT INTO goflow.delta (n, queue, place) VALUES (1, item.queue, v_place);
                IF v_place = 'p' THEN
                    INSERT INTO goflow.waiting (turn, queue, lane, ids) VALUES (base + item.ord - 1, item.queue, item.lane, ARRAY[item.id]);
                END IF;
                logged := logged || CASE WHEN v_place IN ('p', 'u') THEN item.created ELSE item.scheduled END;
            ELSIF v_taken THEN
                DELETE FROM goflow.unique_key k WHERE k.key = item.key AND k.id = item.id;
            END IF;
            states[item.ord] := v_state;
            holders[item.ord] := v_holder;
        END LOOP;
    END IF;
    IF logged IS NOT NULL THEN
        PERFORM goflow.log(v_now, logged, NULL, NULL, NULL);
    END IF;
    IF p_last AND p_producer IS NOT NULL THEN
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
