-- Documents and locks. Whoever changes one holds its name for the length of the transaction; names that
-- share a number wait for each other, which costs time and nothing else.

CREATE FUNCTION goflow.hold_name(p_kind int, p_name text) RETURNS void LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock(p_kind, hashtext(p_name))
$$;

-- Changes a document if it still has `p_from`; without a body it is deleted. Answers its new revision (0: it
-- is gone), or what is kept.
CREATE FUNCTION goflow.set_document(p_name bytea, p_from bigint, p_body bytea, p_keep bigint,
    OUT done boolean, OUT rev bigint, OUT until bigint, OUT body bytea)
LANGUAGE plpgsql AS $$
DECLARE
    v_now bigint;
BEGIN
    PERFORM goflow.hold_name(1734763057, encode(p_name, 'hex'));
    v_now := goflow.now_ms();
    SELECT d.rev, d.until, d.body INTO rev, until, body FROM goflow.document d
        WHERE d.name = p_name AND (d.until IS NULL OR d.until > v_now);
    done := coalesce(rev, 0) = p_from;
    IF NOT done THEN
        RETURN;
    END IF;
    IF p_body IS NULL THEN
        DELETE FROM goflow.document d WHERE d.name = p_name;
        rev := 0;
    ELSE
        rev := nextval('goflow.document_rev');
        until := v_now + p_keep;
        INSERT INTO goflow.document AS d (name, rev, until, body) VALUES (p_name, set_document.rev, set_document.until, p_body)
        ON CONFLICT (name) DO UPDATE SET rev = EXCLUDED.rev, until = EXCLUDED.until, body = EXCLUDED.body;
    END IF;
    body := NULL;
END
$$;

-- Gives a slot of a lock if one is free: `g` and the grant. Else `h`, all are taken, or `s`, the slots are of
-- another number, and the grants there are.
CREATE FUNCTION goflow.acquire(p_name text, p_holder uuid, p_about text, p_slots int, p_ttl bigint)
RETURNS TABLE (code "char", now bigint, slots int, holder uuid, about text, fence bigint, since bigint, until bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_now bigint;
    v_fence bigint;
    v_slots int;
    v_held int;
    v_code "char" := 'g';
BEGIN
    PERFORM goflow.hold_name(1734763058, p_name);
    v_now := goflow.now_ms();
    SELECT count(*) INTO v_held FROM goflow.lock_holder h WHERE h.name = p_name AND h.until > v_now;
    SELECT l.slots, l.fence INTO v_slots, v_fence FROM goflow.lock l WHERE l.name = p_name;
    UPDATE goflow.lock_holder h SET until = greatest(h.until, v_now + p_ttl)
        WHERE h.name = p_name AND h.holder = p_holder AND h.until > v_now;
    IF NOT FOUND THEN
        IF v_held > 0 AND v_slots <> p_slots THEN
            v_code := 's';
        ELSIF v_held >= p_slots THEN
            v_code := 'h';
        ELSE
            v_slots := p_slots;
            SELECT greatest(coalesce(v_fence, 0) + 1, f.fence + 1, v_now * 1000) INTO v_fence FROM goflow.fence_floor f;
            INSERT INTO goflow.lock AS l (name, slots, fence) VALUES (p_name, p_slots, v_fence)
            ON CONFLICT (name) DO UPDATE SET slots = EXCLUDED.slots, fence = EXCLUDED.fence;
            DELETE FROM goflow.lock_holder h WHERE h.name = p_name AND h.until <= v_now;
            INSERT INTO goflow.lock_holder (name, holder, about, fence, since, until)
            VALUES (p_name, p_holder, p_about, v_fence, v_now, v_now + p_ttl);
        END IF;
    END IF;
    RETURN QUERY SELECT v_code, v_now, v_slots, h.holder, h.about, h.fence, h.since, h.until
        FROM goflow.lock_holder h
        WHERE h.name = p_name AND h.until > v_now AND (v_code <> 'g' OR h.holder = p_holder) ORDER BY h.fence;
END
$$;

CREATE FUNCTION goflow.extend(p_name text, p_holder uuid, p_ttl bigint)
RETURNS TABLE (now bigint, fence bigint, until bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_now bigint;
BEGIN
    PERFORM goflow.hold_name(1734763058, p_name);
    v_now := goflow.now_ms();
    RETURN QUERY UPDATE goflow.lock_holder h SET until = v_now + p_ttl
        WHERE h.name = p_name AND h.holder = p_holder AND h.until > v_now RETURNING v_now, h.fence, h.until;
END
$$;

-- Ends one grant, or all where no holder is named. With an event, which is logged if there were any.
CREATE FUNCTION goflow.end_grants(p_name text, p_holder uuid, p_event bytea)
RETURNS TABLE (holder uuid, about text, fence bigint, since bigint, until bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_now bigint;
BEGIN
    PERFORM goflow.hold_name(1734763058, p_name);
    v_now := goflow.now_ms();
    RETURN QUERY WITH gone AS (
            DELETE FROM goflow.lock_holder h WHERE h.name = p_name AND h.until > v_now
                AND (p_holder IS NULL OR h.holder = p_holder) RETURNING h.*)
        SELECT g.holder, g.about, g.fence, g.since, g.until FROM gone g ORDER BY g.fence;
    IF FOUND AND p_event IS NOT NULL THEN
        PERFORM goflow.log(v_now, ARRAY[p_event], NULL, NULL, NULL);
    END IF;
END
$$;

-- Removes documents whose time is over, and locks that nobody holds.
CREATE FUNCTION goflow.forget_shared(p_limit int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_name text;
    v_fence bigint;
BEGIN
    DELETE FROM goflow.document d WHERE d.name IN (
        SELECT o.name FROM goflow.document o WHERE o.until <= goflow.now_ms() ORDER BY o.until LIMIT p_limit
        FOR UPDATE SKIP LOCKED);
    FOR v_name IN SELECT l.name FROM goflow.lock l WHERE NOT EXISTS
        (SELECT FROM goflow.lock_holder h WHERE h.name = l.name AND h.until > goflow.now_ms()) LIMIT p_limit
    LOOP
        CONTINUE WHEN NOT pg_try_advisory_xact_lock(1734763058, hashtext(v_name));
        CONTINUE WHEN EXISTS (SELECT FROM goflow.lock_holder h WHERE h.name = v_name AND h.until > goflow.now_ms());
        DELETE FROM goflow.lock_holder h WHERE h.name = v_name;
        DELETE FROM goflow.lock l WHERE l.name = v_name RETURNING l.fence INTO v_fence;
        UPDATE goflow.fence_floor f SET fence = v_fence WHERE f.fence < v_fence;
    END LOOP;
END
$$;
