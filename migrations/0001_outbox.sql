-- Doorbell: the table `outbox`, and the schema `doorbell` with all that is the relay's own.
--
--     psql "$DATABASE_URL" -f migrations/0001_outbox.sql      or      doorbell migrate
--
-- Both do the same, as often as they are run. PostgreSQL 14 or newer.
-- An outbox with another name, or one more:  SELECT doorbell.create_outbox('app.events');

BEGIN;

SET LOCAL client_min_messages = warning;

-- One migration at a time: CREATE ... IF NOT EXISTS is not safe against itself.
DO $$ BEGIN PERFORM pg_catalog.pg_advisory_xact_lock(1685024626, 0); END $$;

CREATE SCHEMA IF NOT EXISTS doorbell;
COMMENT ON SCHEMA doorbell IS 'Doorbell''s own: functions and the registry of outboxes';

-- Each outbox has an identity of its own. The ids of its events are derived from it, so it must
-- survive a dump and restore: the table is named by its name, not by its oid.
CREATE TABLE IF NOT EXISTS doorbell.outbox (
    name       text PRIMARY KEY,
    id         uuid NOT NULL UNIQUE DEFAULT pg_catalog.gen_random_uuid(),
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE doorbell.outbox IS 'The outboxes that were set up, and the identity that the ids of their events are derived from';

-- Rows that Kafka can never take are moved here, as they were. Payload and key are kept byte for byte, in the one of two columns that fits.
-- The relay only adds; a row that was sent back leaves its entry without its contents (retried_at), so that its attempts are known if it is refused again.
CREATE TABLE IF NOT EXISTS doorbell.dead (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    outbox        text NOT NULL,
    row_id        bigint NOT NULL,
    created_at    timestamptz NOT NULL,
    type          text NOT NULL,
    payload       text,
    payload_bytes bytea,
    key           text,
    key_bytes     bytea,
    topic         text,
    headers       json,
    routed_to     text,
    reason        text NOT NULL,
    code          text NOT NULL,
    payload_size  bigint NOT NULL,
    key_size      bigint NOT NULL,
    headers_size  bigint NOT NULL,
    attempts      bigint NOT NULL,
    refused_at    timestamptz NOT NULL DEFAULT pg_catalog.now(),
    retried_at    timestamptz
);
CREATE INDEX IF NOT EXISTS dead_row ON doorbell.dead (outbox, row_id);
COMMENT ON TABLE doorbell.dead IS 'Rows that Kafka can never take, for `doorbell dead`';
COMMENT ON COLUMN doorbell.dead.outbox IS 'as in doorbell.outbox';
COMMENT ON COLUMN doorbell.dead.payload_bytes IS 'the payload of an outbox whose payload is bytea';
COMMENT ON COLUMN doorbell.dead.key_bytes IS 'the key of an outbox whose key is bytea';
COMMENT ON COLUMN doorbell.dead.topic IS 'the row''s own';
COMMENT ON COLUMN doorbell.dead.routed_to IS 'the topic that the record was for';
COMMENT ON COLUMN doorbell.dead.attempts IS 'how often it was refused';
COMMENT ON COLUMN doorbell.dead.retried_at IS 'when it was sent back: its contents are in the outbox again';

-- A row that ends the relay's process is found by counting starts that get no further, and by writing down what is sent next once there are several.
CREATE TABLE IF NOT EXISTS doorbell.starts (
    outbox    text PRIMARY KEY REFERENCES doorbell.outbox (name) ON UPDATE CASCADE ON DELETE CASCADE,
    starts    bigint NOT NULL,
    first_row bigint,
    rows      bigint[],
    last_rows bigint[],
    deaths    bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE doorbell.starts IS 'Starts of the relay since it last got on or ended as it should';
COMMENT ON COLUMN doorbell.starts.first_row IS 'the first row of the outbox at the last start';
COMMENT ON COLUMN doorbell.starts.rows IS 'what is being sent; NULL where nothing is suspected';
COMMENT ON COLUMN doorbell.starts.last_rows IS 'what was being sent when the relay ended';
COMMENT ON COLUMN doorbell.starts.deaths IS 'how often in a row that was one and the same row alone';

-- What the mode exactly-once writes with each delete, in the same transaction: the number of the last receipt, and how many deletes there were. Receipts in
-- Kafka carry both. A database that is behind them was restored from a backup or lost transactions in a failover; receipts behind their database are not
-- those that it knew. Either is said before anything is sent.
CREATE TABLE IF NOT EXISTS doorbell.receipt (
    outbox   uuid PRIMARY KEY,
    receipt  bigint NOT NULL,
    deletes  bigint NOT NULL,
    accepted boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE doorbell.receipt IS 'What is known of the receipts in Kafka, for the delivery mode exactly-once';
COMMENT ON COLUMN doorbell.receipt.outbox IS 'id in doorbell.outbox';
COMMENT ON COLUMN doorbell.receipt.receipt IS 'number of the last receipt whose rows were deleted';
COMMENT ON COLUMN doorbell.receipt.deletes IS 'how many deletes there were';
COMMENT ON COLUMN doorbell.receipt.accepted IS 'somebody has said `doorbell receipts accept`: go on with the receipts that are there';

-- A relay of an earlier version does not know the key that the trigger below asks for: it would never be rung for.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_stat_activity a
               WHERE a.datname = pg_catalog.current_database() AND a.application_name LIKE 'doorbell 0.1.%') THEN
        RAISE EXCEPTION 'a relay of version 0.1 is running'
            USING ERRCODE = 'object_in_use',
                  HINT = 'Upgrade the relay first: this version works with the earlier trigger, not the other way round.';
    END IF;
END
$$;

-- Wakes the relay at the commit of whoever inserts, if it sleeps. A transaction that notifies holds a lock of the whole server while it
-- commits, so the notification is left out where it is not needed: a relay that sleeps holds the key (1650814060, oid of the table),
-- and a writer that gets the key, shared and until its end, knows that the relay is awake and comes by. The relay cannot fall
-- asleep before that writer has ended.
--
-- The payload is empty, so that the many statements of one transaction make one notification. Every name is qualified, which makes a
-- SET search_path on the function needless: that would cost time in each insert. oid::int4 wraps where the oid is large.
--
-- PREPARE TRANSACTION is not possible after a notification. A writer in two phases sets doorbell.silent to on: it takes the key where it can,
-- and never rings. If the relay slept, the row waits for the sweep, or for any other ring.
CREATE OR REPLACE FUNCTION doorbell.ring() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT pg_catalog.pg_try_advisory_xact_lock_shared(1650814060, TG_RELID::pg_catalog.int4)
       AND pg_catalog.current_setting('doorbell.silent', true) IS DISTINCT FROM 'on' THEN
        PERFORM pg_catalog.pg_notify('doorbell:' OPERATOR(pg_catalog.||) TG_RELID::pg_catalog.text, '');
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION doorbell.ring() IS 'Trigger: tells the relay that rows were inserted, if it sleeps';

-- Takes a session-level advisory lock, or gives up after a time. A time-out that is caught here is not
-- written into the server's log; one that the client sets would be, at each turn of each standby.
CREATE OR REPLACE FUNCTION doorbell.lock_within(class int, key int, wait interval) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_catalog.set_config('lock_timeout',
        (pg_catalog.date_part('epoch', wait) * 1000)::int::text || 'ms', true);
    PERFORM pg_catalog.pg_advisory_lock(class, key);
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    -- The grant may have come together with the time-out.
    RETURN EXISTS (
        SELECT FROM pg_catalog.pg_locks l
        WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted
          AND l.pid = pg_catalog.pg_backend_pid()
          AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
          AND l.classid = class::oid AND l.objid = key::oid);
END
$$;
COMMENT ON FUNCTION doorbell.lock_within(int, int, interval) IS 'Waits for a session-level advisory lock, for a bounded time';

-- Runs one statement that needs a lock on a table in use. While such a statement waits, all who come
-- after it wait too; so it waits 100 ms at most, lets everybody through, and tries again.
CREATE OR REPLACE FUNCTION doorbell.patient_ddl(statement text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    FOR attempt IN 1..100 LOOP
        BEGIN
            PERFORM pg_catalog.set_config('lock_timeout', '100ms', true);
            EXECUTE statement;
            PERFORM pg_catalog.set_config('lock_timeout', '0', true);
            RETURN;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            PERFORM pg_catalog.pg_sleep(least(0.02 * attempt, 0.5));
        END;
    END LOOP;
    RAISE EXCEPTION 'no lock for: %', statement
        USING ERRCODE = 'lock_not_available',
              HINT = 'A transaction holds the table for long: look into pg_stat_activity, end it, and run the migration again.';
END
$$;
COMMENT ON FUNCTION doorbell.patient_ddl(text) IS 'Runs DDL without making writers wait for long';

-- A paused outbox keeps its rows: every relay of it fetches no more, until the pause is ended. `doorbell pause` and `doorbell resume` set the flag and ring.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = 'doorbell.outbox'::regclass AND a.attname = 'paused_at') THEN
        PERFORM doorbell.patient_ddl('ALTER TABLE doorbell.outbox ADD COLUMN paused_at timestamptz, ADD COLUMN paused_by text, '
            'ADD COLUMN paused_reason text, ADD CONSTRAINT only_a_pause_has_a_reason '
            'CHECK (paused_at IS NOT NULL OR (paused_by IS NULL AND paused_reason IS NULL))');
    END IF;
END
$$;
COMMENT ON COLUMN doorbell.outbox.paused_at IS 'since when no row is fetched; NULL: rows flow';

CREATE OR REPLACE FUNCTION doorbell.create_outbox(outbox text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    rel regclass := pg_catalog.to_regclass(outbox);
    wanted text[] := ARRAY[
        -- rows are inserted and deleted, never updated: no room for new versions
        'fillfactor=100',
        -- dead rows are all there is: clean up by their number, however large the table once was
        'autovacuum_vacuum_scale_factor=0',
        'autovacuum_vacuum_threshold=20000',
        -- a row lives for milliseconds: to freeze it is work thrown away
        'autovacuum_vacuum_insert_threshold=-1',
        -- the relay's plans do not depend on statistics
        'autovacuum_analyze_scale_factor=0',
        'autovacuum_analyze_threshold=1000000',
        -- keep up with a fast relay
        'autovacuum_vacuum_cost_limit=2000',
        -- cutting off the empty end locks out every writer, and the next burst needs the pages again
        'vacuum_truncate=off'];
    wanted_toast text[] := ARRAY[
        'autovacuum_vacuum_scale_factor=0',
        'autovacuum_vacuum_threshold=20000',
        'autovacuum_vacuum_insert_threshold=-1',
        'vacuum_truncate=off'];
    settings text;
    traced text;
BEGIN
    IF rel IS NULL THEN
        EXECUTE pg_catalog.format($ddl$
            CREATE TABLE %s (
                id         bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
                type       text NOT NULL,
                payload    text,
                created_at timestamptz NOT NULL DEFAULT now(),
                key        text,
                topic      text,
                headers    jsonb
            )$ddl$, outbox);
        rel := outbox::regclass;
        EXECUTE pg_catalog.format('COMMENT ON TABLE %s IS %L', rel, 'Events on their way to Kafka. A row is deleted when Kafka has it.');
        EXECUTE pg_catalog.format('COMMENT ON COLUMN %s.type IS %L', rel, 'what kind of event: header `type`');
        EXECUTE pg_catalog.format('COMMENT ON COLUMN %s.payload IS %L', rel, 'the value of the record, byte for byte; NULL is a tombstone');
        EXECUTE pg_catalog.format('COMMENT ON COLUMN %s.created_at IS %L', rel, 'the timestamp of the record');
        EXECUTE pg_catalog.format('COMMENT ON COLUMN %s.key IS %L', rel, 'the key of the record; NULL: none');
        EXECUTE pg_catalog.format('COMMENT ON COLUMN %s.topic IS %L', rel, 'NULL: the relay''s configured route');
        EXECUTE pg_catalog.format('COMMENT ON COLUMN %s.headers IS %L', rel, 'an object, added to the headers of the record');
    END IF;

    -- Storage parameters live on what stores rows: a partitioned table stores none itself.
    FOR settings IN
        SELECT pg_catalog.format('ALTER TABLE %s SET (%s)', c.oid::regclass, missing.list)
        -- a table without partitions is in no tree, not even its own
        FROM (SELECT t.relid FROM pg_catalog.pg_partition_tree(rel) t UNION SELECT rel) p
        JOIN pg_catalog.pg_class c ON c.oid = p.relid AND c.relkind = 'r'
        LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid
        CROSS JOIN LATERAL (
            SELECT pg_catalog.string_agg(s, ', ') AS list FROM (
                SELECT w AS s FROM unnest(wanted) w WHERE NOT w = ANY (coalesce(c.reloptions, '{}'))
                UNION ALL
                SELECT 'toast.' || w FROM unnest(wanted_toast) w WHERE t.oid IS NOT NULL AND NOT w = ANY (coalesce(t.reloptions, '{}'))
            ) s) missing
        WHERE missing.list IS NOT NULL
    LOOP
        PERFORM doorbell.patient_ddl(settings);
    END LOOP;

    INSERT INTO doorbell.outbox (name)
    SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = rel
    ON CONFLICT DO NOTHING;

    -- Whoever has no library for traces says SET LOCAL doorbell.traceparent = '00-...', and doorbell.tracestate where there is one: rows that are inserted without
    -- headers of their own get them as headers. What has not the form of one is left out, as is the empty text that the setting is after such a transaction. An
    -- expression instead of a function: it needs no right, and costs a row a look-up. A regular expression would cost it several times as much. A default that
    -- somebody has given is kept.
    SELECT pg_catalog.format_type(a.atttypid, NULL) INTO traced
    FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = rel AND a.attname = 'headers' AND NOT a.attisdropped AND NOT a.atthasdef
      AND a.atttypid IN ('pg_catalog.jsonb'::regtype, 'pg_catalog.json'::regtype);
    IF FOUND THEN
        PERFORM doorbell.patient_ddl(pg_catalog.format($ddl$
            ALTER TABLE %s ALTER COLUMN headers SET DEFAULT CASE
                WHEN pg_catalog.current_setting('doorbell.traceparent', true) LIKE '__-________________________________-________________-__'
                    AND pg_catalog.translate(pg_catalog.current_setting('doorbell.traceparent', true), '0123456789abcdef', '') = '---'
                THEN pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
                    'traceparent', pg_catalog.current_setting('doorbell.traceparent', true),
                    'tracestate', NULLIF(pg_catalog.current_setting('doorbell.tracestate', true), '')))::%s
            END$ddl$, rel, traced));
    END IF;

    -- Last, since its lock keeps writers out until the end of this transaction. A trigger that is
    -- as it should be is left alone: no lock at all.
    IF NOT EXISTS (
        SELECT FROM pg_catalog.pg_trigger t
        WHERE t.tgrelid = rel AND t.tgname = 'doorbell_ring' AND t.tgqual IS NULL
          AND t.tgfoid = 'doorbell.ring()'::regprocedure
          AND t.tgtype = 4  -- AFTER INSERT FOR EACH STATEMENT
    ) THEN
        PERFORM doorbell.patient_ddl(pg_catalog.format(
            'CREATE OR REPLACE TRIGGER doorbell_ring AFTER INSERT ON %s FOR EACH STATEMENT EXECUTE FUNCTION doorbell.ring()', rel));
    END IF;
END
$$;
COMMENT ON FUNCTION doorbell.create_outbox(text) IS 'Makes a table an outbox: creates it where there is none, sets what a queue needs, registers it, puts the trigger on';

DO $$ BEGIN PERFORM doorbell.create_outbox('outbox'); END $$;

COMMIT;
