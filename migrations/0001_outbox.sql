-- Doorbell: the table `outbox`, and the schema `doorbell` with the relay's functions and tables.
--
--     psql "$DATABASE_URL" -f migrations/0001_outbox.sql      or      doorbell migrate
--
-- Both do the same, and can be run repeatedly. PostgreSQL 14 or newer.
-- An outbox with another name, or another one:  SELECT doorbell.create_outbox('app.events');

BEGIN;

-- Where others may create objects in a schema of the search_path, a function or an operator of
-- theirs would run as the role that migrates. So only the name of the outbox is found by the
-- search_path of that role: the first statement keeps it for the last one.
DO $$
BEGIN
    PERFORM pg_catalog.set_config('doorbell.search_path', pg_catalog.current_setting('search_path'), true);
END
$$;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL quote_all_identifiers = off;
SET LOCAL client_min_messages = warning;

-- Only one migration runs at a time: CREATE ... IF NOT EXISTS is not safe against itself. Any role
-- that may connect can take this lock, so the wait is bounded and the holder is named.
DO $$
DECLARE
    usual text := current_setting('lock_timeout');
    holder text;
BEGIN
    IF usual = '0' THEN
        SET LOCAL lock_timeout = '10s';
    END IF;
    BEGIN
        PERFORM pg_advisory_xact_lock(1685024626, 0);
    EXCEPTION WHEN lock_not_available THEN
        SELECT string_agg(concat_ws(', ', 'server process ' || l.pid, 'role ' || quote_ident(a.usename),
                                    'application_name ' || quote_literal(a.application_name)), '; ') INTO holder
        FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
        WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted AND l.classid = 1685024626 AND l.objid = 0
          AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database());
        RAISE EXCEPTION 'the lock of migrations is held by %', coalesce(holder, 'a session that has just ended')
            USING ERRCODE = 'lock_not_available',
                  HINT = 'Wait for that migration, or end a session that is none with pg_terminate_backend, and run the migration again.';
    END;
    PERFORM set_config('lock_timeout', usual, true);
END
$$;

-- What another role has put into the schema would run as the role that migrates, or as the relay.
DO $$
DECLARE
    strange text;
BEGIN
    SELECT string_agg(format('%s of role %I', pg_describe_object(o.classid, o.objid, 0), r.rolname), ', ') INTO strange
    FROM (SELECT s.classid, s.objid, s.refobjid AS owner
          FROM pg_namespace n
          JOIN pg_depend d ON d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid
          JOIN pg_shdepend s ON s.classid = d.classid AND s.objid = d.objid AND s.deptype = 'o'
          JOIN pg_database b ON b.oid = s.dbid AND b.datname = current_database()
          LEFT JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
          -- keep_order makes one for the owner of each table, which nothing but its trigger calls
          WHERE n.nspname = 'doorbell' AND (p.proname IS NULL OR p.proname NOT LIKE 'order\_%' OR p.prorettype <> 'trigger'::regtype)
          UNION ALL SELECT 'pg_namespace'::regclass, n.oid, n.nspowner FROM pg_namespace n WHERE n.nspname = 'doorbell') o
    JOIN pg_roles r ON r.oid = o.owner
    WHERE NOT r.rolsuper AND r.rolname <> current_user
      AND r.oid <> (SELECT d.datdba FROM pg_database d WHERE d.datname = current_database());
    IF strange IS NOT NULL THEN
        RAISE EXCEPTION 'the schema doorbell, or something in it, is owned neither by role % nor by the owner of the database: %', quote_ident(current_user), strange
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Migrate as that role if you trust it, or look at what it made, and drop it or change its owner.';
    END IF;
END
$$;

CREATE SCHEMA IF NOT EXISTS doorbell;
COMMENT ON SCHEMA doorbell IS 'Doorbell''s own: functions and the registry of outboxes';

-- Each outbox has an identity, from which the ids of its events are derived. It must survive a dump
-- and restore, so the table is registered by its name, not by its oid.
CREATE TABLE IF NOT EXISTS doorbell.outbox (
    name       text PRIMARY KEY,
    id         uuid NOT NULL UNIQUE DEFAULT pg_catalog.gen_random_uuid(),
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE doorbell.outbox IS 'The outboxes that were set up, and the identity that the ids of their events are derived from';

-- Rows that Kafka can never take are moved here unchanged. Payload and key are kept byte for byte,
-- in the one of two columns that fits.
--
-- The relay only adds rows. A row that was sent back leaves its entry without its contents
-- (retried_at), so that its attempts are known if Kafka refuses it again.
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

-- The relay finds a row that ends its process by counting starts that make no progress. After
-- several such starts it records which rows it sends next.
CREATE TABLE IF NOT EXISTS doorbell.starts (
    outbox    text PRIMARY KEY REFERENCES doorbell.outbox (name) ON UPDATE CASCADE ON DELETE CASCADE,
    starts    bigint NOT NULL,
    first_row bigint,
    rows      bigint[],
    last_rows bigint[],
    deaths    bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE doorbell.starts IS 'Starts of the relay since it last made progress or stopped in order';
COMMENT ON COLUMN doorbell.starts.first_row IS 'the first row of the outbox at the last start';
COMMENT ON COLUMN doorbell.starts.rows IS 'what is being sent; NULL where nothing is suspected';
COMMENT ON COLUMN doorbell.starts.last_rows IS 'what was being sent when the relay ended';
COMMENT ON COLUMN doorbell.starts.deaths IS 'how often in a row this was one row alone, and the same one';

-- What the mode exactly-once records with each delete, in the same transaction: the number of the
-- last receipt, and the number of deletes. Receipts in Kafka carry both. A database that is behind
-- its receipts was restored from a backup, or lost transactions in a failover. Receipts that are
-- behind their database are not those that it knew. The relay reports either before it sends
-- anything.
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
COMMENT ON COLUMN doorbell.receipt.accepted IS 'whether the operator ran `doorbell receipts accept`: continue with the receipts that exist';

-- The rows that Kafka refused and that keep others waiting: those of their key, under the policy
-- hold-key, or of their topic. The leading relay records each change, so that `doorbell.pending`
-- can tell. Nothing is decided by it.
CREATE TABLE IF NOT EXISTS doorbell.held (
    outbox     uuid NOT NULL,
    row_id     bigint NOT NULL,
    created_at timestamptz NOT NULL,
    key_column text,
    PRIMARY KEY (outbox, row_id, created_at)
);
COMMENT ON TABLE doorbell.held IS 'Rows that Kafka refused and that others wait for, as the leading relay knows them';
COMMENT ON COLUMN doorbell.held.outbox IS 'id in doorbell.outbox';
COMMENT ON COLUMN doorbell.held.key_column IS 'rows with the same key in this column of the outbox wait; NULL: those of the topic';

-- A relay of an earlier version does not take the wake lock that the trigger below asks for, so no
-- writer would ever ring for it.
DO $$
BEGIN
    -- Any role that may connect can call its session so.
    IF EXISTS (SELECT FROM pg_catalog.pg_stat_activity a
               WHERE a.datname = pg_catalog.current_database() AND a.application_name LIKE 'doorbell 0.1.%'
                 AND pg_catalog.has_schema_privilege(a.usesysid, 'doorbell', 'USAGE')) THEN
        RAISE EXCEPTION 'a relay of version 0.1 is running'
            USING ERRCODE = 'object_in_use',
                  HINT = 'Upgrade the relay first: this version works with the earlier trigger, not the other way round.';
    END IF;
END
$$;

-- Wakes the relay at the commit of a writer, if the relay sleeps. A transaction that notifies holds
-- a lock of the whole server while it commits, so the trigger notifies only when it is needed. A
-- relay that sleeps holds the advisory lock (1650814060, oid of the table). A writer that gets this
-- lock, shared and until its end, knows that the relay is awake and will read the row. The relay
-- cannot fall asleep before that writer has ended.
--
-- The payload is empty, so that the statements of one transaction make one notification. oid::int4
-- wraps if the oid is large.
--
-- PREPARE TRANSACTION is not possible after a notification. A writer that uses two-phase commit
-- sets doorbell.silent to on: it takes the lock if it can, and never rings. If the relay slept, the
-- row waits for the sweep, or for another ring. So do rows while the server's queue of
-- notifications is nearly full: a COMMIT after a notification would fail.
CREATE OR REPLACE FUNCTION doorbell.ring() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT pg_catalog.pg_try_advisory_xact_lock_shared(1650814060, TG_RELID::pg_catalog.int4)
       AND (pg_catalog.current_setting('doorbell.silent', true) OPERATOR(pg_catalog.=) 'on') IS NOT TRUE
       AND pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.<) 0.9 THEN
        PERFORM pg_catalog.pg_notify('doorbell:' OPERATOR(pg_catalog.||) TG_RELID::pg_catalog.text, '');
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION doorbell.ring() IS 'Trigger: tells the relay that rows were inserted, if it sleeps';

-- Takes a session-level advisory lock, or gives up after a time. A time-out that is caught here is
-- not written to the server log. One that the client sets would be, at each attempt of each
-- standby. With log_lock_waits, which is on by default from PostgreSQL 19, the server also logs a
-- wait that outlasts deadlock_timeout: there the time is spent in turns that are shorter.
CREATE OR REPLACE FUNCTION doorbell.lock_within(class int, key int, wait interval) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    give_up timestamptz := pg_catalog.clock_timestamp() + wait;
    turn interval := wait;
BEGIN
    IF pg_catalog.current_setting('log_lock_waits')::boolean THEN
        turn := 0.8 * pg_catalog.current_setting('deadlock_timeout')::interval;
    END IF;
    LOOP
        BEGIN
            PERFORM pg_catalog.set_config('lock_timeout', greatest(1, pg_catalog.round(1000 * pg_catalog.date_part('epoch',
                least(turn, give_up - pg_catalog.clock_timestamp()))))::text || 'ms', true);
            PERFORM pg_catalog.pg_advisory_lock(class, key);
            RETURN true;
        EXCEPTION WHEN lock_not_available THEN
            -- The grant may have come together with the time-out.
            IF EXISTS (
                SELECT FROM pg_catalog.pg_locks l
                WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted
                  AND l.pid = pg_catalog.pg_backend_pid()
                  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
                  AND l.classid = class::oid AND l.objid = key::oid) THEN
                RETURN true;
            END IF;
        END;
        IF pg_catalog.clock_timestamp() >= give_up THEN
            RETURN false;
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION doorbell.lock_within(int, int, interval) IS 'Waits for a session-level advisory lock, for a bounded time';

-- Runs one statement that needs a lock on a table in use. While such a statement waits, every later
-- statement on the table waits too. So it waits 100 ms at most, lets the others continue, and tries
-- again.
CREATE OR REPLACE FUNCTION doorbell.patient_ddl(statement text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
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

-- A paused outbox keeps its rows: its relays fetch nothing until the pause ends. `doorbell pause`
-- and `doorbell resume` set the flag and notify the relays.
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

-- Dead rows that vacuum cannot remove yet lie below the first row of the outbox, perhaps millions.
-- The relay begins above them.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = 'doorbell.starts'::regclass AND a.attname = 'lowest_row') THEN
        PERFORM doorbell.patient_ddl('ALTER TABLE doorbell.starts ADD COLUMN IF NOT EXISTS lowest_row bigint');
    END IF;
END
$$;
COMMENT ON COLUMN doorbell.starts.lowest_row IS 'no row below this id was in the outbox when the relay last looked';

-- A dead letter keeps the columns that only the configuration names, each as text. The id of the
-- event, if it is one of them, is the only one that the relay may read again.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = 'doorbell.dead'::regclass AND a.attname = 'own_id') THEN
        PERFORM doorbell.patient_ddl('ALTER TABLE doorbell.dead ADD COLUMN IF NOT EXISTS columns jsonb');
        PERFORM doorbell.patient_ddl('ALTER TABLE doorbell.dead ADD COLUMN IF NOT EXISTS own_id text');
    END IF;
END
$$;
COMMENT ON COLUMN doorbell.dead.own_id IS 'the event''s own id, of an outbox that has one';
COMMENT ON COLUMN doorbell.dead.columns IS 'the columns that only the configuration of the relay names, each as text';

-- The default of `path` is what the caller has: it says which table the name stands for, and in
-- which schema a new one is made, and decides nothing else.
-- squawk-ignore ban-drop-function
DROP FUNCTION IF EXISTS doorbell.create_outbox(text);
CREATE OR REPLACE FUNCTION doorbell.create_outbox(outbox text, path text DEFAULT current_setting('search_path')) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $$
DECLARE
    parts text[] := parse_ident(outbox);
    new_name text := parts[cardinality(parts)];
    new_schema text := parts[cardinality(parts) - 1];
    alike text;
    rel regclass;
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
        -- to cut off the empty end locks out every writer, and the next burst needs the pages
        'vacuum_truncate=off'];
    wanted_toast text[] := ARRAY[
        'autovacuum_vacuum_scale_factor=0',
        'autovacuum_vacuum_threshold=20000',
        'autovacuum_vacuum_insert_threshold=-1',
        'vacuum_truncate=off'];
    settings text;
    traced text;
BEGIN
    PERFORM pg_catalog.set_config('search_path', path, true);
    rel := pg_catalog.to_regclass(outbox);
    IF new_schema IS NULL THEN
        new_schema := pg_catalog.current_schema();
    END IF;
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    IF rel IS NULL THEN
        SELECT format('%I.%I', n.nspname, c.relname) INTO alike
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = new_schema AND lower(c.relname) = lower(new_name) AND c.relkind IN ('r', 'p', 'v', 'm', 'f');
        IF FOUND THEN
            RAISE EXCEPTION 'table % does not exist, and % does: the names differ in case only', quote_ident(new_name), alike
                USING ERRCODE = 'ambiguous_alias',
                      HINT = format('Names without quotes are folded to lower case: write --table ''%s'', or for SQL create_outbox(%L).', alike, alike);
        ELSIF new_schema IS NULL THEN
            RAISE EXCEPTION 'no schema of the search_path exists to create table % in', quote_ident(new_name)
                USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Name the schema: app.outbox.';
        END IF;
        EXECUTE format($ddl$
            CREATE TABLE %I.%I (
                id         bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
                type       text NOT NULL,
                payload    text,
                created_at timestamptz NOT NULL DEFAULT now(),
                key        text,
                topic      text,
                headers    jsonb
            )$ddl$, new_schema, new_name);
        rel := format('%I.%I', new_schema, new_name)::regclass;
        EXECUTE pg_catalog.format('COMMENT ON TABLE %s IS %L', rel, 'Events on their way to Kafka. A row is deleted when Kafka has it.');
        EXECUTE pg_catalog.format('COMMENT ON COLUMN %s.type IS %L', rel, 'what kind of event: header `type`');
        EXECUTE pg_catalog.format('COMMENT ON COLUMN %s.payload IS %L', rel, 'the value of the record, byte for byte; NULL is a tombstone');
        EXECUTE pg_catalog.format('COMMENT ON COLUMN %s.created_at IS %L', rel, 'the timestamp of the record');
        EXECUTE pg_catalog.format('COMMENT ON COLUMN %s.key IS %L', rel, 'the key of the record; NULL: none');
        EXECUTE pg_catalog.format('COMMENT ON COLUMN %s.topic IS %L', rel, 'NULL: the relay''s configured route');
        EXECUTE pg_catalog.format('COMMENT ON COLUMN %s.headers IS %L', rel, 'an object, added to the headers of the record');
    -- Before anything is changed. Which columns are meant is configured elsewhere.
    ELSIF NOT EXISTS (
        SELECT FROM pg_class c JOIN pg_index i ON i.indrelid = c.oid AND i.indisvalid
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
            -- the rows that `doorbell adopt` left without an id are no part of its index
            AND (i.indpred IS NULL OR pg_get_expr(i.indpred, c.oid) = format('(%I IS NOT NULL)', a.attname))
        JOIN pg_type t ON t.oid = a.atttypid
        WHERE c.oid = rel AND c.relkind IN ('r', 'p') AND 'int8'::regtype IN (t.oid, t.typbasetype)
    ) THEN
        RAISE EXCEPTION '% cannot be an outbox: it is no table with a bigint column that an index begins with', rel
            USING ERRCODE = 'wrong_object_type', HINT = 'Nothing was changed. Name a table whose id is a bigint and its primary key.';
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

    -- A writer without a library for traces sets `SET LOCAL doorbell.traceparent = '00-...'`, and
    -- doorbell.tracestate where there is one. Rows that it inserts without headers of their own get
    -- them as headers. A value that has not the form of one is left out, as is the empty text that
    -- the setting has after such a transaction. It is an expression instead of a function, which
    -- would need a privilege and cost a look-up for each row; a regular expression would cost
    -- several times as much. A default that the operator has set is kept.
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
COMMENT ON FUNCTION doorbell.create_outbox(text, text) IS 'Makes a table an outbox: creates it where there is none, sets what a queue needs, registers it, puts the trigger on';

DO $$ BEGIN PERFORM pg_catalog.set_config('search_path', pg_catalog.current_setting('doorbell.search_path'), true); END $$;
DO $$ BEGIN PERFORM doorbell.create_outbox('outbox'); END $$;

COMMIT;
