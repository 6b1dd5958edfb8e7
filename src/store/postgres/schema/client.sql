-- For other programs: `goflow.enqueue(type, payload, options)` adds a job in the caller's own transaction, so
-- that it is there exactly if that commits. The record is written as `codec` writes it (MessagePack, maps
-- with short keys); every other function leaves records to the program.

CREATE FUNCTION goflow.pack_text(p text) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT '\xdb'::bytea || int4send(octet_length(convert_to(p, 'UTF8'))) || convert_to(p, 'UTF8')
$$;

CREATE FUNCTION goflow.pack_int(p bigint) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN p < 0 THEN '\xd3'::bytea ELSE '\xcf'::bytea END || int8send(p)
$$;

-- A map of keys and values that are packed already; what is null is left out.
CREATE FUNCTION goflow.pack_map(p_keys text[], p_values bytea[]) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT '\xdf'::bytea || int4send(count(*)::int)
           || coalesce(string_agg(goflow.pack_text(u.key) || u.value, ''::bytea ORDER BY u.ord), ''::bytea)
    FROM unnest(p_keys, p_values) WITH ORDINALITY AS u(key, value, ord) WHERE u.value IS NOT NULL
$$;

CREATE FUNCTION goflow.checked_name(p text, p_what text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF p IS NULL OR p !~ '^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$' OR p LIKE '%..%' OR p LIKE E'%\n%' THEN
        RAISE EXCEPTION 'the % % is not a name', p_what, coalesce(quote_literal(p), 'null') USING
            ERRCODE = '22023', HINT = 'names are letters, digits and _ . : -, begin with a letter or digit, and have at most 128';
    END IF;
    RETURN p;
END
$$;

-- `1h30m`, `250ms`: milliseconds.
CREATE FUNCTION goflow.duration_ms(p text, p_what text) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    total numeric;
BEGIN
    IF p IS NULL OR p = '0' THEN
        RETURN CASE WHEN p = '0' THEN 0 END;
    END IF;
    IF p !~ '^([0-9]+(\.[0-9]+)?d)?([0-9]+(\.[0-9]+)?h)?([0-9]+(\.[0-9]+)?m)?([0-9]+(\.[0-9]+)?s)?([0-9]+(\.[0-9]+)?ms)?$' OR p = '' THEN
        RAISE EXCEPTION '% is not a duration: %', p_what, quote_literal(p) USING
            ERRCODE = '22023', HINT = 'write it as 250ms, 30s, 5m, 1h30m or 7d';
    END IF;
    SELECT sum(m[1]::numeric * CASE m[2] WHEN 'd' THEN 86400000 WHEN 'h' THEN 3600000 WHEN 'm' THEN 60000 WHEN 's' THEN 1000 ELSE 1 END)
        INTO total FROM regexp_matches(p, '([0-9]+(?:\.[0-9]+)?)(ms|d|h|m|s)', 'g') AS m;
    IF total > 3155760000000 THEN
        RAISE EXCEPTION '% is too long: %', p_what, quote_literal(p) USING ERRCODE = '22023';
    END IF;
    RETURN round(total)::bigint;
END
$$;

CREATE FUNCTION goflow.whole_number(p jsonb, p_least bigint, p_most bigint, p_what text) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF p IS NULL THEN
        RETURN NULL;
    END IF;
    IF jsonb_typeof(p) <> 'number' OR p::text !~ '^-?[0-9]{1,18}$' OR p::text::bigint NOT BETWEEN p_least AND p_most THEN
        RAISE EXCEPTION '% is a whole number from % to %, not %', p_what, p_least, p_most, p USING ERRCODE = '22023';
    END IF;
    RETURN p::text::bigint;
END
$$;

-- Adds a job, and answers its id. Options: queue, priority, delay, at (RFC 3339), max_retries, timeout, deadline,
-- unique, unique_for, key, key_limit, after (ids), metadata (texts by name), each as `goflow enqueue` takes it.
CREATE FUNCTION goflow.enqueue(type text, payload jsonb DEFAULT 'null', options jsonb DEFAULT '{}') RETURNS uuid
LANGUAGE plpgsql AS $$
DECLARE
    v_now bigint := goflow.now_ms();
    v_id uuid := (lpad(to_hex(v_now), 12, '0') || '70008'
        || substr(md5(random()::text || clock_timestamp()::text || pg_backend_pid()::text || random()::text), 1, 15))::uuid;
    v_type text := goflow.checked_name(type, 'type');
    v_queue text;
    v_queue_id int;
    v_priority bigint;
    v_start bigint := 0;
    v_retries bigint;
    v_limit bigint;
    v_key text := options ->> 'unique';
    v_ckey text := options ->> 'key';
    v_after uuid[] := '{}';
    v_text text := coalesce(payload, 'null')::text;
    v_timeout bigint;
    v_metadata bytea;
    v_body bytea;
    v_events bytea[];
    v_unknown text;
    told record;
BEGIN
    IF jsonb_typeof(options) <> 'object' THEN
        RAISE EXCEPTION 'options is an object, not %', jsonb_typeof(options) USING ERRCODE = '22023';
    END IF;
    SELECT k INTO v_unknown FROM jsonb_object_keys(options) k WHERE k NOT IN ('queue', 'priority', 'delay', 'at',
        'max_retries', 'timeout', 'deadline', 'unique', 'unique_for', 'key', 'key_limit', 'after', 'metadata') ORDER BY k LIMIT 1;
    IF v_unknown IS NOT NULL THEN
        RAISE EXCEPTION '% is no option of goflow.enqueue', quote_literal(v_unknown) USING ERRCODE = '22023',
            HINT = 'options are queue, priority, delay, at, max_retries, timeout, deadline, unique, unique_for, key, key_limit, after, metadata';
    END IF;
    IF v_type LIKE 'goflow:%' THEN
        RAISE EXCEPTION 'the type % is kept for goflow itself', quote_literal(v_type) USING ERRCODE = '22023';
    END IF;
    IF octet_length(v_text) > 1048576 THEN
        RAISE EXCEPTION 'the payload has % bytes, at most 1048576 are kept', octet_length(v_text) USING ERRCODE = '22023';
    END IF;
    IF octet_length(v_key) > 256 OR octet_length(v_ckey) > 256 THEN
        RAISE EXCEPTION 'a key has at most 256 bytes' USING ERRCODE = '22023';
    END IF;
    IF options ? 'delay' AND options ? 'at' OR options ? 'unique_for' AND v_key IS NULL OR options ? 'key_limit' AND v_ckey IS NULL THEN
        RAISE EXCEPTION 'delay goes without at, unique_for with unique, key_limit with key' USING ERRCODE = '22023';
    END IF;
    v_queue := goflow.checked_name(coalesce(options ->> 'queue', 'default'), 'queue');
    v_priority := coalesce(goflow.whole_number(options -> 'priority', -100, 100, 'priority'), 0);
    v_retries := goflow.whole_number(options -> 'max_retries', 0, 4294967295, 'max_retries');
    v_limit := CASE WHEN v_ckey IS NULL THEN NULL ELSE coalesce(goflow.whole_number(options -> 'key_limit', 1, 2147483647, 'key_limit'), 1) END;
    v_timeout := goflow.duration_ms(options ->> 'timeout', 'timeout');
    IF options ? 'delay' THEN
        v_start := goflow.duration_ms(options ->> 'delay', 'delay');
    ELSIF options ? 'at' THEN
        v_start := -greatest((extract(epoch FROM (options ->> 'at')::timestamptz) * 1000)::bigint, 0);
        IF -v_start < v_now - 1000 THEN
            RAISE EXCEPTION 'at is in the past: %', options ->> 'at' USING ERRCODE = '22023';
        END IF;
    END IF;
    IF options ? 'after' THEN
        SELECT array_agg(a::uuid) INTO v_after FROM jsonb_array_elements_text(
            CASE jsonb_typeof(options -> 'after') WHEN 'array' THEN options -> 'after' ELSE jsonb_build_array(options -> 'after') END) a;
        v_after := coalesce(v_after, '{}');
        IF cardinality(v_after) > 100 OR cardinality(v_after) > 0 AND v_start <> 0 THEN
            RAISE EXCEPTION 'a job waits for at most 100 others, and then starts at once' USING ERRCODE = '22023';
        END IF;
    END IF;
    IF options ? 'metadata' THEN
        IF jsonb_typeof(options -> 'metadata') <> 'object' OR octet_length((options -> 'metadata')::text) > 16384
            OR EXISTS (SELECT FROM jsonb_each(options -> 'metadata') m WHERE jsonb_typeof(m.value) <> 'string') THEN
            RAISE EXCEPTION 'metadata is an object of texts, at most 16384 bytes' USING ERRCODE = '22023';
        END IF;
        SELECT goflow.pack_map(array_agg(m.key), array_agg(goflow.pack_text(m.value))) INTO v_metadata
            FROM jsonb_each_text(options -> 'metadata') m;
    END IF;
    v_body := goflow.pack_map(
        ARRAY['t', 'q', 'p', 'n', 'y', 'yo', 'o', 'u', 'm', 'k', 'i', 'a'],
        ARRAY[goflow.pack_text(v_type), goflow.pack_text(v_queue), goflow.pack_text(v_text), goflow.pack_int(v_priority),
              CASE WHEN v_retries IS NOT NULL THEN goflow.pack_map(ARRAY['m'], ARRAY[goflow.pack_int(v_retries)]) END,
              CASE WHEN v_retries IS NOT NULL THEN '\xc3'::bytea END,
              goflow.pack_int(v_timeout), goflow.pack_text(v_key), v_metadata,
              CASE WHEN v_ckey IS NOT NULL THEN goflow.pack_map(ARRAY['k', 'n'], ARRAY[goflow.pack_text(v_ckey), goflow.pack_int(v_limit)]) END,
              goflow.pack_int(goflow.duration_ms(options ->> 'deadline', 'deadline')),
              CASE WHEN cardinality(v_after) > 0 THEN '\xdd'::bytea || int4send(cardinality(v_after))
                  || (SELECT string_agg('\xc410'::bytea || uuid_send(a.id), ''::bytea ORDER BY a.ord)
                      FROM unnest(v_after) WITH ORDINALITY AS a(id, ord)) END]);
    -- The events of its birth: job.created is 1, job.scheduled is 2.
    v_events := ARRAY(SELECT '\x91'::bytea || goflow.pack_map(ARRAY['k', 'j', 'q'],
        ARRAY[goflow.pack_int(kind), '\xc410'::bytea || uuid_send(v_id), goflow.pack_text(v_queue)])
        FROM generate_series(1, 2) AS kind);
    INSERT INTO goflow.queue (name) VALUES (v_queue) ON CONFLICT (name) DO NOTHING;
    SELECT q.id INTO v_queue_id FROM goflow.queue q WHERE q.name = v_queue;
    SELECT * INTO told FROM goflow.enqueue(NULL::uuid, 0::bigint, ARRAY[true], true,
        ARRAY[v_queue_id], ARRAY[(1 - 2 * v_priority)::smallint], ARRAY[v_id], ARRAY[v_queue_id], ARRAY[v_type],
        ARRAY[(1 - 2 * v_priority)::smallint], ARRAY[v_start], ARRAY[0::bigint], ARRAY[v_timeout], ARRAY[NULL::uuid],
        ARRAY[convert_to(v_key, 'UTF8')], ARRAY[NULL::boolean], ARRAY[convert_to(v_ckey, 'UTF8')], ARRAY[v_limit::int], ARRAY[v_body],
        ARRAY[goflow.duration_ms(options ->> 'unique_for', 'unique_for')],
        ARRAY(SELECT 1 FROM unnest(v_after)), v_after, ARRAY[v_events[1]], ARRAY[v_events[2]]);
    IF told.states[1] = 2 THEN
        RAISE EXCEPTION 'the unique key % is held by job %', quote_literal(v_key), told.holders[1] USING ERRCODE = '23505';
    ELSIF told.states[1] = 3 THEN
        RAISE EXCEPTION 'job %, which it is to follow, is not kept', told.holders[1] USING ERRCODE = '23503';
    ELSIF told.states[1] <> 0 THEN
        RAISE EXCEPTION 'the id % is taken', v_id USING ERRCODE = '23505';
    END IF;
    -- Sent when the transaction commits, and not at all if it does not.
    PERFORM pg_notify('goflow', '');
    RETURN v_id;
END
$$;
