-- The core verb: settle a batch of plain jobs, bring in what is due, claim the next work; one round
-- trip and one commit.

-- Moves jobs whose time has come to the end of the line, in the order of their time.
CREATE FUNCTION goflow.promote(p_now bigint, p_queues int[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    base bigint;
    ready uuid[];
BEGIN
    -- Up to two blocks of 500 a call, the rest with the next: a transaction stays short.
    SELECT array_agg(d.id) INTO ready FROM unnest(p_queues) AS q(queue), unnest('{s,t}'::"char"[]) AS p(place),
        LATERAL (SELECT j.id FROM goflow.job j WHERE j.place = p.place AND j.place <> 'p' AND j.queue = q.queue AND j.at <= p_now
                 ORDER BY j.at, j.turn LIMIT 500) d;
    PERFORM pg_current_xact_id();
    WITH due AS MATERIALIZED (
        SELECT j.id, j.at, j.turn, j.queue, j.lane, j.place, coalesce(j.suspect, false) AS suspect FROM goflow.job j
        WHERE j.id = ANY (ready) AND j.place IN ('s', 't') AND j.at <= p_now
        ORDER BY j.id FOR UPDATE SKIP LOCKED
    ), line AS MATERIALIZED (
        SELECT d.*, d.lane | 1 AS own, (row_number() OVER (PARTITION BY d.queue, d.lane | 1, d.suspect ORDER BY d.at, d.turn) - 1)
            / CASE WHEN d.suspect THEN 1 ELSE 64 END AS nth FROM due d
    ), stretch AS MATERIALIZED (
        SELECT s.*, nextval('goflow.turn') AS next FROM (
            SELECT l.queue, l.own, l.suspect, l.nth, array_agg(l.id ORDER BY l.at, l.turn) AS ids FROM line l
            GROUP BY l.queue, l.own, l.suspect, l.nth ORDER BY l.nth) s
    ), laned AS (
        -- A job that was given back to the front and failed then waits in its own lane again.
        INSERT INTO goflow.lane (queue, lane) SELECT DISTINCT s.queue, s.own FROM stretch s WHERE NOT s.suspect ON CONFLICT DO NOTHING
    ), moved AS (
        UPDATE goflow.job j SET place = CASE WHEN s.suspect THEN 'u'::"char" ELSE 'p' END, turn = s.next, at = p_now,
            lane = s.own
        FROM stretch s WHERE j.id = ANY (s.ids)
    ), lined AS (
        INSERT INTO goflow.waiting (turn, queue, lane, ids) SELECT s.next, s.queue, s.own, s.ids FROM stretch s WHERE NOT s.suspect
    )
    INSERT INTO goflow.delta (n, queue, place)
    SELECT -count(*), l.queue, l.place FROM line l GROUP BY l.queue, l.place
    UNION ALL
    SELECT count(*), l.queue, CASE WHEN l.suspect THEN 'u'::"char" ELSE 'p' END FROM line l GROUP BY l.queue, l.suspect;
END
$$;

-- When the next job of these queues is due. (That the place is not `p` must be said: the planner
-- needs it to use the index.)
CREATE FUNCTION goflow.next_due(p_queues int[]) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT min(d.at) FROM unnest(p_queues) AS q(queue), unnest('{s,t}'::"char"[]) AS p(place),
        LATERAL (SELECT j.at FROM goflow.job j WHERE j.place = p.place AND j.place <> 'p' AND j.queue = q.queue
                 ORDER BY j.at LIMIT 1) d);
END
$$;

-- The first suspect of a queue that may run now, locked; those whose key is full are blocked on the way.
CREATE FUNCTION goflow.claim_suspect(p_now bigint, p_queue int, p_limited boolean) RETURNS goflow.job LANGUAGE plpgsql AS $$
DECLARE
    job goflow.job;
BEGIN
    IF p_limited THEN
        -- The lock comes before the row: whoever waits for it then finds the first one, not what is left beside it.
        IF NOT EXISTS (SELECT FROM goflow.job j WHERE j.place = 'u' AND j.queue = p_queue) THEN
            RETURN NULL;
        END IF;
        PERFORM goflow.lock_limits();
        IF goflow.room(p_queue) <= 0 THEN
            RETURN NULL;
        END IF;
    END IF;
    LOOP
        SELECT j.* INTO job FROM goflow.job j WHERE j.place = 'u' AND j.queue = p_queue
        ORDER BY j.at, j.turn LIMIT 1 FOR UPDATE SKIP LOCKED;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
        IF job.ckey IS NOT NULL THEN
            PERFORM goflow.lock_limits();
        END IF;
        IF job.ckey IS NULL OR goflow.key_runs(job.ckey) < job.climit THEN
            RETURN job;
        END IF;
        PERFORM goflow.block(p_now, job.id);
        INSERT INTO goflow.delta (n, queue, place) VALUES (-1, p_queue, 'u'), (1, p_queue, 'b');
    END LOOP;
END
$$;

-- Waits until nobody has their hands on the head of the line of some queues, for 700 ms each at most. It
-- holds nothing meanwhile.
CREATE FUNCTION goflow.await_line(p_queues int[]) RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan SET lock_timeout = '700ms' AS $$
DECLARE
    v_queue int;
BEGIN
    FOR v_queue IN SELECT q.id FROM unnest(p_queues) WITH ORDINALITY AS u(id, ord)
                   JOIN goflow.queue q ON q.id = u.id WHERE NOT q.paused AND q.concurrency IS NULL ORDER BY u.ord
    LOOP
        PERFORM FROM goflow.waiting w WHERE w.queue = v_queue ORDER BY w.lane, w.turn LIMIT 1 FOR UPDATE;
        EXIT WHEN FOUND;
    END LOOP;
EXCEPTION
    -- Whoever polls sees it later.
    WHEN lock_not_available THEN NULL;
END
$$;

-- `s_…`: plain settles, each by its lease to a place outside the line; events without settles are those of what was done
-- before in the same transaction. `f_…`: below these turns the lanes are known to be empty (see floors.rs); only a
-- shortcut past dead rows.
-- `moved`: the numbers (from 1) of the settles that applied. `t_…`: how far each lane was taken. `more`: there
-- was less than was wanted, but something waits that others had their hands on. `let_go`: as `goflow.settle`.
CREATE FUNCTION goflow.exchange(
    s_ids uuid[], s_epochs bigint[], s_places "char"[], s_delays bigint[], s_revs bigint[], s_suspects boolean[],
    s_bodies bytea[], s_events bytea[],
    c_worker uuid, c_queues int[], c_want int, c_alone boolean, c_grace bigint,
    f_queues int[], f_lanes smallint[], f_turns bigint[],
    OUT now bigint, OUT moved bigint[], OUT ids uuid[], OUT epochs bigint[], OUT bodies bytea[],
    OUT r_ids uuid[], OUT r_revs bigint[], OUT r_workflows text[], OUT r_states text[], OUT r_bodies bytea[],
    OUT t_queues int[], OUT t_lanes smallint[], OUT t_turns bigint[],
    OUT suspects boolean, OUT dirty boolean, OUT asked boolean, OUT freed boolean, OUT due bigint, OUT more boolean,
    OUT let_go boolean)
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    base bigint;
    settled record;
    v_queue int;
    v_lane smallint;
    v_floor bigint;
    taken_ids uuid[];
    taken_bodies bytea[];
    taken_last bigint;
    taken_runs uuid[];
    claimed_queues int[] := '{}';
    logged bytea[];
    v_job goflow.job;
    taken_epochs bigint[];
    v_count int;
    v_leased int;
    claimed_runs uuid[] := '{}';
    is_limited boolean := false;
    v_limited boolean;
    has_lock boolean := false;
    is_keyed boolean;
    fits boolean[];
    v_most bigint;
    v_have int := 0;
    v_used int := 64;
    v_step int;
    v_seen int;
    is_short boolean;
    v_row tid;
    v_turn bigint;
    v_taken smallint;
    v_ids uuid[];
    v_left uuid[];
    used_up tid[];
    taken_expires bigint[];
    v_held bigint := 0;
    held_ids uuid[] := '{}';
    held_spots tid[] := '{}';
    taken_spots tid[];
    found_spots tid[];
    found_ids uuid[];
    v_spots tid[];
    held_queues int[] := '{}';
    held_expires bigint[];
    v_unkept int := 0;
    v_last int := 0;
BEGIN
    now := goflow.now_ms();
    moved := '{}';
    ids := '{}';
    epochs := '{}';
    bodies := '{}';
    t_queues := '{}';
    t_lanes := '{}';
    t_turns := '{}';
    suspects := false;
    more := false;
    let_go := false;
    IF cardinality(s_ids) > 0 THEN
        settled := goflow.settle(now, s_ids, s_epochs, s_places, s_delays, s_revs, s_suspects, s_bodies);
        moved := settled.moved;
        let_go := settled.let_go;
        logged := goflow.of_moved(s_events, moved);
    ELSIF cardinality(s_events) > 0 THEN
        logged := s_events;
    END IF;

    IF c_worker IS NOT NULL THEN
        -- As `goflow.next_due`; each statement costs its start and its end, so there are few.
        SELECT (SELECT min(d.at) FROM unnest(c_queues) AS q(queue), unnest('{s,t}'::"char"[]) AS p(place),
                    LATERAL (SELECT j.at FROM goflow.job j WHERE j.place = p.place AND j.place <> 'p' AND j.queue = q.queue
                             ORDER BY j.at LIMIT 1) d),
               EXISTS (SELECT FROM goflow.queue q WHERE q.id = ANY (c_queues) AND q.concurrency IS NOT NULL)
        INTO due, is_limited;
        IF due <= now THEN
            PERFORM goflow.promote(now, c_queues);
            due := goflow.next_due(c_queues);
        END IF;
        IF c_alone AND c_want > 0 THEN
            FOR v_queue IN SELECT q.id FROM unnest(c_queues) WITH ORDINALITY AS u(id, ord)
                           JOIN goflow.queue q ON q.id = u.id WHERE NOT q.paused ORDER BY u.ord
            LOOP
                v_job := goflow.claim_suspect(now, v_queue, is_limited);
                CONTINUE WHEN v_job.id IS NULL;
                base := nextval('goflow.epoch');
                -- Outside the line and with a lease: running.
                UPDATE goflow.job j SET place = 'p' WHERE j.id = v_job.id;
                INSERT INTO goflow.running (epoch, since, expires, queue, id, worker, ckey)
                VALUES (base, now, now + v_job.timeout_ms + c_grace, v_queue, v_job.id, c_worker, v_job.ckey);
                INSERT INTO goflow.delta (n, queue, place) VALUES (-1, v_queue, 'u'), (1, v_queue, 'r');
                ids := ARRAY[v_job.id];
                epochs := ARRAY[base];
                bodies := ARRAY[v_job.body];
                claimed_queues := ARRAY[v_queue];
                claimed_runs := array_remove(ARRAY[v_job.run_id], NULL);
                v_have := 1;
                EXIT;
            END LOOP;
        END IF;
        IF v_have = 0 AND c_want > 0 THEN
            FOR v_queue, v_lane, v_floor, v_limited IN
                SELECT l.queue, l.lane, coalesce(f.turn, -9223372036854775807), q.concurrency IS NOT NULL
                FROM unnest(c_queues) WITH ORDINALITY AS u(id, ord)
                JOIN goflow.queue q ON q.id = u.id AND NOT q.paused
                JOIN goflow.lane l ON l.queue = u.id
                LEFT JOIN unnest(f_queues, f_lanes, f_turns) AS f(queue, lane, turn) ON f.queue = l.queue AND f.lane = l.lane
                ORDER BY u.ord, l.lane
            LOOP
                -- A block of epochs at a time; again if it is at least half full, or some of what came was blocked.
                LOOP
                    v_most := least(c_want - v_have, 64);
                    IF v_limited THEN
                        -- Only for work that has the limit does one claim wait for the other.
                        IF NOT has_lock THEN
                            EXIT WHEN NOT EXISTS (SELECT FROM goflow.waiting h
                                                  WHERE h.queue = v_queue AND h.lane = v_lane AND h.turn >= v_floor);
                            PERFORM goflow.lock_limits();
                            has_lock := true;
                        END IF;
                        -- What this claim has taken of the queue and not written down yet runs too.
                        v_most := least(v_most, goflow.room(v_queue) - CASE WHEN v_queue = v_last THEN v_unkept ELSE 0 END);
                        EXIT WHEN v_most <= 0;
                    END IF;
                    -- Stretch after stretch; where they are short, several at a time.
                    taken_ids := '{}';
                    taken_spots := '{}';
                    v_step := 1;
                    LOOP
                        used_up := '{}';
                        v_seen := 0;
                        FOR v_row, v_turn, v_taken, v_ids, v_spots IN
                            SELECT h.ctid, h.turn, h.taken, h.ids, h.spots FROM goflow.waiting h
                            WHERE h.queue = v_queue AND h.lane = v_lane AND h.turn >= v_floor
                            ORDER BY h.turn LIMIT v_step FOR UPDATE SKIP LOCKED
                        LOOP
                            EXIT WHEN cardinality(taken_ids) = v_most;
                            v_seen := v_seen + 1;
                            taken_last := v_turn;
                            v_left := v_ids[v_taken + 1 :];
                            v_spots := v_spots[v_taken + 1 :];
                            IF array_position(v_left, NULL) IS NOT NULL THEN
                                v_left := array_remove(v_left, NULL);
                                v_spots := NULL;
                            END IF;
                            v_spots := coalesce(v_spots, array_fill(NULL::tid, ARRAY[cardinality(v_left)]));
                            IF cardinality(taken_ids) + cardinality(v_left) <= v_most THEN
                                taken_ids := taken_ids || v_left;
                                taken_spots := taken_spots || v_spots;
                                used_up := used_up || v_row;
                                CONTINUE;
                            END IF;
                            v_left := v_left[1 : v_most - cardinality(taken_ids)];
                            taken_ids := taken_ids || v_left;
                            taken_spots := taken_spots || v_spots[1 : cardinality(v_left)];
                            UPDATE goflow.waiting w SET taken = array_position(v_ids, v_left[cardinality(v_left)])
                            WHERE w.ctid = v_row;
                            EXIT;
                        END LOOP;
                        IF cardinality(used_up) > 0 THEN
                            DELETE FROM goflow.waiting w WHERE w.ctid = ANY (used_up);
                        END IF;
                        v_count := cardinality(taken_ids);
                        is_short := v_seen < v_step;
                        EXIT WHEN is_short OR v_count >= least(v_most, 32);
                        v_step := greatest((v_most - v_count) * v_seen / greatest(v_count, 1), 1);
                    END LOOP;
                    -- Nobody else's hands are on the line of a queue with a limit.
                    IF is_short AND v_count < v_most AND NOT more THEN
                        more := EXISTS (SELECT FROM goflow.waiting h WHERE h.queue = v_queue AND h.lane = v_lane AND h.turn >= v_floor);
                    END IF;
                    EXIT WHEN v_count = 0;
                    -- A block of epochs is 64 long. Half of it is enough: what came in together goes together, and
                    -- two exchanges that end leases of one block wait for each other.
                    IF v_used >= 32 OR v_used + v_count > 64 THEN
                        IF v_held <> 0 THEN
                            INSERT INTO goflow.leased (block, held, since, worker, ids, spots, queues, expires)
                            VALUES (base, v_held, exchange.now, c_worker, held_ids, held_spots, held_queues, held_expires);
                        END IF;
                        base := nextval('goflow.epoch');
                        v_used := 0;
                        v_held := 0;
                        held_ids := '{}';
                        held_spots := '{}';
                        held_queues := '{}';
                        held_expires := NULL;
                        v_unkept := 0;
                    END IF;
                    SELECT array_agg(g.id), array_agg(g.body), array_agg(g.spot), array_agg(g.run_id) FILTER (WHERE g.run_id IS NOT NULL), bool_or(g.ckey IS NOT NULL),
                           CASE WHEN bool_or(g.timeout_ms IS NOT NULL)
                                THEN array_agg(exchange.now + g.timeout_ms + c_grace) END,
                           array_agg(base + v_used + g.ord - 1)
                    INTO found_ids, taken_bodies, found_spots, taken_runs, is_keyed, taken_expires, taken_epochs
                    FROM (SELECT u.ord, j.id, j.ctid AS spot, j.body, j.run_id, j.ckey, j.timeout_ms
                          FROM unnest(taken_ids, taken_spots) WITH ORDINALITY AS u(id, spot, ord) JOIN goflow.job j ON j.ctid = u.spot AND j.id = u.id
                          ORDER BY u.ord) g;
                    IF found_ids IS DISTINCT FROM taken_ids THEN
                        SELECT array_agg(g.id), array_agg(g.body), array_agg(g.spot), array_agg(g.run_id) FILTER (WHERE g.run_id IS NOT NULL), bool_or(g.ckey IS NOT NULL),
                               CASE WHEN bool_or(g.timeout_ms IS NOT NULL)
                                    THEN array_agg(exchange.now + g.timeout_ms + c_grace) END,
                               array_agg(base + v_used + g.ord - 1)
                        INTO taken_ids, taken_bodies, found_spots, taken_runs, is_keyed, taken_expires, taken_epochs
                        FROM (SELECT u.ord, j.* FROM unnest(taken_ids) WITH ORDINALITY AS u(id, ord),
                              LATERAL (SELECT h.id, h.ctid AS spot, h.body, h.run_id, h.ckey, h.timeout_ms FROM goflow.job h WHERE h.id = u.id LIMIT 1) j
                              ORDER BY u.ord) g;
                    END IF;
                    v_leased := v_count;
                    IF is_keyed THEN
                        fits := goflow.lease_keyed(now, taken_ids, taken_epochs[1], v_queue, c_worker, c_grace);
                    ELSE
                        v_unkept := v_count + CASE WHEN v_queue = v_last THEN v_unkept ELSE 0 END;
                        v_last := v_queue;
                        -- A shift by all 64 bits would be one by none.
                        v_held := v_held | (CASE WHEN v_count = 64 THEN -1 ELSE ~(-1::bigint << v_count) END << v_used);
                    END IF;
                    IF held_expires IS NOT NULL OR taken_expires IS NOT NULL THEN
                        held_expires := coalesce(held_expires, array_fill(NULL::bigint, ARRAY[v_used]))
                            || coalesce(taken_expires, array_fill(NULL::bigint, ARRAY[v_count]));
                    END IF;
                    held_ids := held_ids || taken_ids;
                    held_spots := held_spots || found_spots;
                    held_queues := held_queues || array_fill(v_queue, ARRAY[v_count]);
                    v_used := v_used + v_count;
                    IF is_keyed THEN
                        SELECT coalesce(array_agg(u.id ORDER BY u.ord), '{}'), coalesce(array_agg(u.body ORDER BY u.ord), '{}'),
                               coalesce(array_agg(u.epoch ORDER BY u.ord), '{}'), count(*)
                        INTO taken_ids, taken_bodies, taken_epochs, v_leased
                        FROM unnest(taken_ids, taken_bodies, taken_epochs, fits)
                            WITH ORDINALITY AS u(id, body, epoch, fits, ord) WHERE u.fits;
                    END IF;
                    ids := ids || taken_ids;
                    bodies := bodies || taken_bodies;
                    epochs := epochs || taken_epochs;
                    claimed_queues := claimed_queues || array_fill(v_queue, ARRAY[v_leased]);
                    claimed_runs := claimed_runs || taken_runs;
                    t_queues := t_queues || v_queue;
                    t_lanes := t_lanes || v_lane;
                    t_turns := t_turns || taken_last;
                    INSERT INTO goflow.delta (n, queue, place) VALUES (-v_count, v_queue, 'p'), (v_leased, v_queue, 'r');
                    v_have := v_have + v_leased;
                    IF v_leased < v_count THEN
                        INSERT INTO goflow.delta (n, queue, place) VALUES (v_count - v_leased, v_queue, 'b');
                    ELSIF is_short AND v_count < v_most THEN
                        EXIT;
                    END IF;
                    EXIT WHEN v_have >= c_want;
                END LOOP;
                EXIT WHEN v_have >= c_want;
            END LOOP;
            IF v_held <> 0 THEN
                INSERT INTO goflow.leased (block, held, since, worker, ids, spots, queues, expires)
                VALUES (base, v_held, exchange.now, c_worker, held_ids, held_spots, held_queues, held_expires);
            END IF;
        END IF;
        IF cardinality(claimed_runs) > 0 THEN
            SELECT array_agg(r.id), array_agg(r.rev), array_agg(r.workflow), array_agg(r.state), array_agg(r.body)
            INTO r_ids, r_revs, r_workflows, r_states, r_bodies
            FROM goflow.run r WHERE r.id = ANY (claimed_runs);
        END IF;
    END IF;
    SELECT c_worker IS NOT NULL AND EXISTS (SELECT FROM unnest(c_queues) AS q(id), LATERAL (
               SELECT j.queue FROM goflow.job j WHERE j.place = 'u' AND j.queue = q.id LIMIT 1) s
               -- Counting what runs is dear: for the queue of a suspect, not for each.
               WHERE NOT is_limited OR coalesce(goflow.room(s.queue) > 0, true)),
           CASE WHEN c_worker IS NOT NULL THEN least(exchange.due, (SELECT t.due FROM goflow.timer t ORDER BY t.due LIMIT 1)) END,
           EXISTS (SELECT FROM goflow.dirty d WHERE d.until <= exchange.now), EXISTS (SELECT FROM goflow.ask),
           EXISTS (SELECT FROM goflow.tie)
    INTO suspects, due, dirty, asked, freed;
    -- One look for both: what to tell, and whether what has ended here was waited for.
    IF asked OR freed THEN
        PERFORM goflow.settled_over(s_ids, s_places, moved);
        SELECT EXISTS (SELECT FROM goflow.ask), EXISTS (SELECT FROM goflow.tie t WHERE t.loose) INTO asked, freed;
    END IF;
    IF logged IS NOT NULL OR v_have > 0 THEN
        INSERT INTO goflow.event (position, at, events, worker, claimed, claimed_queues)
        VALUES (goflow.next_position(), exchange.now, logged, c_worker, CASE WHEN v_have > 0 THEN exchange.ids END,
            CASE WHEN v_have > 0 THEN claimed_queues END);
    END IF;
END
$$;
