-- Optional: an event store whose streams reach Kafka through the outbox. Apply it after the
-- migration, in the same database:
--
--     psql "$DATABASE_URL" -f sql/events.sql
--     psql "$DATABASE_URL" -c "SELECT doorbell.create_event_store('outbox')"
--
-- Append the events of a decision in its transaction. 5 is the version that the decision read:
--
--     SELECT doorbell.append('order-17', 5, '{OrderPaid}', '{"{\"amount\": 1999}"}');
--
-- It returns the new version, or fails with SQLSTATE DB409 if another transaction has appended to
-- the stream in the meantime: read the stream again, and decide again. docs/event-sourcing.md has
-- the rest. Running it again changes nothing. PostgreSQL 14 or newer.

BEGIN;

SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL client_min_messages = warning;

CREATE TABLE IF NOT EXISTS doorbell.stream (
    name    text PRIMARY KEY,
    version bigint NOT NULL
);
COMMENT ON TABLE doorbell.stream IS 'The streams of events, and the version of the last event of each';

CREATE TABLE IF NOT EXISTS doorbell.event (
    stream     text NOT NULL REFERENCES doorbell.stream (name),
    version    bigint NOT NULL,
    type       text NOT NULL,
    payload    text,
    headers    jsonb,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    PRIMARY KEY (stream, version)
);
COMMENT ON TABLE doorbell.event IS 'The events of each stream, from version 1 on';
COMMENT ON COLUMN doorbell.event.payload IS 'NULL where an event never had one, or where it was erased';

CREATE TABLE IF NOT EXISTS doorbell.snapshot (
    stream     text PRIMARY KEY REFERENCES doorbell.stream (name),
    version    bigint NOT NULL,
    state      text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE doorbell.snapshot IS 'The state of a stream after one of its events, so that not all of them are read';

-- doorbell.append names the table and the types of its columns. Looking them up would cost more
-- than the rest of it. The table is a regclass: its name is found by the search_path of the caller,
-- and nothing else is.
CREATE OR REPLACE FUNCTION doorbell.create_event_store(outbox regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $$
DECLARE
    outbox_name text;
    payload_type text;
    headers_type text;
BEGIN
    SELECT max(o.name), max(format_type(a.atttypid, a.atttypmod)) FILTER (WHERE a.attname = 'payload'),
           max(format_type(a.atttypid, a.atttypmod)) FILTER (WHERE a.attname = 'headers')
    INTO outbox_name, payload_type, headers_type
    FROM pg_attribute a
        JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN doorbell.outbox o ON o.name = format('%I.%I', n.nspname, c.relname)
    WHERE a.attrelid = outbox AND NOT a.attisdropped
    HAVING count(*) FILTER (WHERE a.attname IN ('type', 'key', 'payload', 'headers')) = 4;
    IF payload_type IS NULL OR payload_type = 'bytea' THEN
        RAISE EXCEPTION '% is no outbox with the columns type, key, payload (text, json or jsonb) and headers', outbox
            USING ERRCODE = 'invalid_table_definition', HINT = 'Run `doorbell migrate` for it first.';
    END IF;
    EXECUTE format($ddl$
        CREATE OR REPLACE FUNCTION doorbell.append(
            stream text, expected bigint, types text[], payloads text[], headers jsonb[] DEFAULT NULL
        ) RETURNS bigint
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $body$
        #variable_conflict use_column
        DECLARE
            added bigint := cardinality(types);
            current bigint;
        BEGIN
            IF append.stream IS NULL OR types IS NULL OR payloads IS NULL OR array_position(types, NULL) IS NOT NULL THEN
                RAISE EXCEPTION 'append needs a stream, and each event a type; a NULL stands in their place'
                    USING ERRCODE = 'null_value_not_allowed', HINT = 'Only payloads, headers and the expected version may be NULL.';
            END IF;
            IF added = 0 OR cardinality(payloads) <> added OR cardinality(append.headers) <> added THEN
                RAISE EXCEPTION 'append needs at least one event, and as many payloads and headers as types'
                    USING ERRCODE = 'invalid_parameter_value', DETAIL = format('types: %%s, payloads: %%s, headers: %%s',
                        added, cardinality(payloads), coalesce(cardinality(append.headers)::text, 'none'));
            END IF;
            IF expected < -1 THEN
                RAISE EXCEPTION 'the expected version %% is negative', expected
                    USING ERRCODE = 'invalid_parameter_value', HINT = 'Use -1 for a stream that must be new, and NULL for any version.';
            END IF;

            -- The row of the stream stays locked until the commit. What follows draws its ids under
            -- that lock, so the order of the ids in a stream is the order of its commits.
            IF expected IS NULL THEN
                INSERT INTO doorbell.stream AS s (name, version) VALUES (append.stream, added)
                    ON CONFLICT (name) DO UPDATE SET version = s.version + added RETURNING s.version INTO current;
            ELSIF expected < 1 THEN
                INSERT INTO doorbell.stream (name, version) VALUES (append.stream, added)
                    ON CONFLICT (name) DO NOTHING RETURNING version INTO current;
            ELSE
                UPDATE doorbell.stream s SET version = s.version + added
                    WHERE s.name = append.stream AND s.version = expected RETURNING s.version INTO current;
            END IF;
            IF current IS NULL THEN
                SELECT s.version INTO current FROM doorbell.stream s WHERE s.name = append.stream;
                RAISE EXCEPTION 'the stream %% has another version than expected', append.stream
                    USING ERRCODE = 'DB409', HINT = 'Read the stream again, and decide again.',
                          DETAIL = format('stream: %%s, expected: %%s, actual: %%s', append.stream, expected, coalesce(current, -1));
            END IF;

            INSERT INTO doorbell.event (stream, version, type, payload, headers)
            SELECT append.stream, current - added + e.n, e.type, e.payload, e.headers
            FROM unnest(types, payloads, append.headers) WITH ORDINALITY AS e (type, payload, headers, n);
            INSERT INTO %1$s (type, key, payload, headers)
            SELECT e.type, append.stream, e.payload::%2$s,
                   (coalesce(e.headers, '{}') || jsonb_build_object('stream-version', (current - added + e.n)::text))::%3$s
            FROM unnest(types, payloads, append.headers) WITH ORDINALITY AS e (type, payload, headers, n) ORDER BY e.n;
            RETURN current;
        END
        $body$
        $ddl$, outbox_name, payload_type, headers_type);
    COMMENT ON FUNCTION doorbell.append(text, bigint, text[], text[], jsonb[]) IS
        'Appends events to a stream, and sends them through the outbox; returns the version of the last. Fails with DB409 if the stream has another version than expected (-1: it must be new, NULL: any)';
END
$$;
COMMENT ON FUNCTION doorbell.create_event_store(regclass) IS 'From now on doorbell.append sends events through this outbox';

CREATE OR REPLACE FUNCTION doorbell.read_stream(stream text, from_version bigint DEFAULT 1, max integer DEFAULT 1000)
RETURNS TABLE (version bigint, type text, payload text, headers jsonb, created_at timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT e.version, e.type, e.payload, e.headers, e.created_at FROM doorbell.event e
    WHERE e.stream = read_stream.stream AND e.version >= from_version ORDER BY e.version LIMIT max
$$;
COMMENT ON FUNCTION doorbell.read_stream(text, bigint, integer) IS 'The events of a stream in their order, at most `max`';

-- An older snapshot never replaces a newer one. A version that the stream has not reached would
-- hide its next events.
CREATE OR REPLACE FUNCTION doorbell.save_snapshot(stream text, version bigint, state text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    IF NOT EXISTS (SELECT FROM doorbell.event e WHERE e.stream = save_snapshot.stream AND e.version = save_snapshot.version) THEN
        RAISE EXCEPTION 'the stream % has no event with version %', save_snapshot.stream, save_snapshot.version
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Save the version of the last event that the state holds.';
    END IF;
    INSERT INTO doorbell.snapshot AS s (stream, version, state)
    VALUES (save_snapshot.stream, save_snapshot.version, save_snapshot.state)
    ON CONFLICT (stream) DO UPDATE SET version = excluded.version, state = excluded.state, created_at = now()
    WHERE s.version < excluded.version;
END
$$;
COMMENT ON FUNCTION doorbell.save_snapshot(text, bigint, text) IS 'Keeps the state of a stream after the event with this version';

CREATE OR REPLACE FUNCTION doorbell.load_snapshot(stream text) RETURNS TABLE (version bigint, state text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.version, s.state FROM doorbell.snapshot s WHERE s.stream = load_snapshot.stream
$$;
COMMENT ON FUNCTION doorbell.load_snapshot(text) IS 'The newest state that was kept; read the stream from the next version on';

COMMIT;
