-- What several functions need. Functions decide nothing about a job's life: they check rights and
-- move records where they are told.
--
-- What is called from outside says how it is planned: by key and once, whatever the tables held when
-- it was first looked at. What it calls in turn inherits that, for each setting costs time in each call.

CREATE FUNCTION goflow.now_ms() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint
$$;

-- A block of turns. The transaction has its number before it draws them: floors rely on that (floors.rs).
CREATE FUNCTION goflow.next_turn() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT CASE WHEN pg_current_xact_id() IS NOT NULL THEN nextval('goflow.turn') END
$$;

-- A position in the log, likewise: readers rely on it.
CREATE FUNCTION goflow.next_position() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT CASE WHEN pg_current_xact_id() IS NOT NULL THEN nextval('goflow.position') END
$$;

-- Writes one record of the log.
CREATE FUNCTION goflow.log(p_at bigint, p_events bytea[], p_worker uuid, p_claimed uuid[], p_queues int[])
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO goflow.event (position, at, events, worker, claimed, claimed_queues)
    VALUES (goflow.next_position(), p_at, p_events, p_worker, p_claimed, p_queues);
END
$$;

-- The block of epochs that one belongs to: see `goflow.leased`.
CREATE FUNCTION goflow.block_of(p_epoch bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT p_epoch - (p_epoch - 1) % 64
$$;

-- Takes one job out of the line.
CREATE FUNCTION goflow.leave_line(p_queue int, p_lane smallint, p_turn bigint, p_id uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    is_empty boolean;
BEGIN
    UPDATE goflow.waiting w SET ids = array_replace(w.ids, p_id, NULL)
    WHERE w.queue = p_queue AND w.lane = p_lane AND w.turn = p_turn
    RETURNING cardinality(array_remove(w.ids[w.taken + 1 :], NULL)) = 0 INTO is_empty;
    IF is_empty THEN
        DELETE FROM goflow.waiting w WHERE w.queue = p_queue AND w.lane = p_lane AND w.turn = p_turn;
    END IF;
END
$$;

-- Where the stretches of a batch begin: for each of its jobs the number, from 1, of the first one of its stretch. Those
-- that are `p_odd` are a stretch each, and no other goes past them. Null if all belong to one lane and none is odd: then it
-- is each 64th.
CREATE FUNCTION goflow.cut(p_queues int[], p_lanes smallint[], p_odd boolean[]) RETURNS bigint[] LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF p_odd IS NULL AND p_queues[1] = ALL (p_queues) AND p_lanes[1] = ALL (p_lanes) THEN
        RETURN NULL;
    END IF;
    RETURN ARRAY(
        SELECT CASE WHEN n.odd THEN n.ord ELSE min(n.ord) OVER (PARTITION BY n.queue, n.lane, n.odd, n.part, (n.nth - 1) / 64) END FROM (
            SELECT m.*, row_number() OVER (PARTITION BY m.queue, m.lane, m.odd, m.part ORDER BY m.ord) AS nth FROM (
                SELECT u.queue, u.lane, u.ord, coalesce(u.odd, false) AS odd,
                       count(*) FILTER (WHERE u.odd) OVER (PARTITION BY u.queue, u.lane ORDER BY u.ord) AS part
                FROM unnest(p_queues, p_lanes, p_odd) WITH ORDINALITY AS u(queue, lane, odd, ord)) m) n
        ORDER BY n.ord);
END
$$;

CREATE FUNCTION goflow.first_of(p_firsts bigint[], p_nth bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN p_firsts IS NULL THEN (p_nth - 1) / 64 * 64 + 1 ELSE p_firsts[p_nth] END
$$;

-- The turn of a stretch of a batch by the number of its first job, out of blocks of 1,024.
CREATE FUNCTION goflow.seat(p_bases bigint[], p_first bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT p_bases[(p_first - 1) / 1024 + 1] + (p_first - 1) % 1024
$$;

-- Puts jobs of a batch into the line, in their order; where `p_fits` is given, those of them that it names.
CREATE FUNCTION goflow.line_up(p_bases bigint[], p_firsts bigint[], p_ids uuid[], p_spots tid[], p_queues int[], p_lanes smallint[],
    p_fits boolean[])
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO goflow.waiting (turn, queue, lane, ids, spots)
    SELECT goflow.seat(p_bases, goflow.first_of(p_firsts, min(u.ord))), u.queue, u.lane, array_agg(u.id ORDER BY u.ord),
           CASE WHEN p_spots IS NOT NULL THEN array_agg(u.spot ORDER BY u.ord) END
    FROM unnest(p_ids, p_spots, p_queues, p_lanes) WITH ORDINALITY AS u(id, spot, queue, lane, ord)
    WHERE p_fits IS NULL OR p_fits[u.ord]
    GROUP BY u.queue, u.lane, goflow.first_of(p_firsts, u.ord);
END
$$;

-- Adds jobs that start now; those whose id is kept already are left out.
CREATE FUNCTION goflow.add_jobs(p_now bigint, p_ids uuid[], p_queues int[], p_types text[], p_lanes smallint[],
    p_revs bigint[], p_timeouts bigint[], p_runs uuid[], p_keys bytea[], p_suspects boolean[], p_ckeys bytea[],
    p_climits int[], p_bodies bytea[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    bases bigint[];
    firsts bigint[] := goflow.cut(p_queues, p_lanes, NULL);
    kept uuid[];
    spots tid[];
    fits boolean[];
BEGIN
    PERFORM pg_current_xact_id();
    -- A foreach may bring more than a block of turns; later blocks are higher.
    bases := ARRAY(SELECT nextval('goflow.turn') FROM generate_series(0, (cardinality(p_ids) - 1) / 1024));
    INSERT INTO goflow.lane SELECT DISTINCT q, l FROM unnest(p_queues, p_lanes) AS u(q, l) ON CONFLICT DO NOTHING;
    WITH new AS (
        INSERT INTO goflow.job (id, turn, at, rev, queue, lane, place, type, timeout_ms, run_id, suspect, ckey, climit, body)
        SELECT u.id, CASE WHEN u.suspect THEN nextval('goflow.turn') ELSE goflow.seat(bases, goflow.first_of(firsts, u.ord)) END,
               p_now, u.rev, u.queue, u.lane, CASE WHEN u.suspect THEN 'u' ELSE 'p' END, u.type, u.timeout_ms, u.run_id,
               u.suspect, u.ckey, u.climit, u.body
        FROM unnest(p_ids, p_queues, p_types, p_lanes, p_revs, p_timeouts, p_runs, p_suspects, p_ckeys, p_climits, p_bodies)
             WITH ORDINALITY AS u(id, queue, type, lane, rev, timeout_ms, run_id, suspect, ckey, climit, body, ord)
        ORDER BY u.ord
        ON CONFLICT (id) DO NOTHING
        RETURNING id, ctid, queue, place
    ), keyed AS (
        INSERT INTO goflow.unique_key (key, id)
        SELECT u.key, u.id FROM unnest(p_keys, p_ids) AS u(key, id) JOIN new ON new.id = u.id
        WHERE u.key IS NOT NULL ORDER BY u.key
        ON CONFLICT (key) DO NOTHING
    ), counted AS (
        INSERT INTO goflow.delta (n, queue, place) SELECT count(*), queue, place FROM new GROUP BY queue, place
    )
    SELECT array_agg(new.id), array_agg(new.ctid) INTO kept, spots FROM new;
    IF kept IS NULL THEN
        RETURN;
    ELSIF cardinality(kept) < cardinality(p_ids) OR array_position(p_suspects, true) IS NOT NULL THEN
        -- Of one that comes twice the first is the one that was added.
        fits := ARRAY(SELECT u.id = ANY (kept) AND array_position(p_ids, u.id) = u.ord AND u.suspect IS NOT TRUE
                      FROM unnest(p_ids, p_suspects) WITH ORDINALITY AS u(id, suspect, ord) ORDER BY u.ord);
    END IF;
    PERFORM goflow.line_up(bases, firsts, p_ids, CASE WHEN kept = p_ids THEN spots END, p_queues, p_lanes, fits);
END
$$;
