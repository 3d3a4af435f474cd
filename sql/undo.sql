-- Takes off again what the migration made for the table `outbox`: triggers, storage parameters, the
-- default of `headers`, and its entries in the schema doorbell; with the last outbox the schema.
-- The table and its rows stay, and so do the roles of sql/roles.sql.
--
--     psql "$DATABASE_URL" -f sql/undo.sql      or      doorbell migrate --undo
--
-- It refuses while a relay serves the table, and while dead letters, an event store or an inbox
-- would be lost. A storage parameter that the migration changed goes back to PostgreSQL's default.

BEGIN;

-- Only the name of the table is found by the search_path of the role.
DO $$ BEGIN PERFORM pg_catalog.set_config('doorbell.undo', pg_catalog.to_regclass('outbox')::pg_catalog.oid::pg_catalog.text, true); END $$;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL quote_all_identifiers = off;
SET LOCAL client_min_messages = warning;
-- DROP TRIGGER locks the table: writers wait for as long as it does.
SET LOCAL lock_timeout = '5s';

DO $$
DECLARE
    rel regclass := nullif(current_setting('doorbell.undo'), '')::oid;
    registered text := (SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = rel);
    parameters text[] := ARRAY['fillfactor=100', 'autovacuum_vacuum_scale_factor=0', 'autovacuum_vacuum_threshold=20000',
        'autovacuum_vacuum_insert_threshold=-1', 'autovacuum_analyze_scale_factor=0', 'autovacuum_analyze_threshold=1000000',
        'autovacuum_vacuum_cost_limit=2000', 'vacuum_truncate=off'];
    relay text;
    letters bigint;
    kept text;
    change text;
BEGIN
    IF rel IS NULL THEN
        RAISE EXCEPTION 'the table does not exist' USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Check its name; nothing was changed.';
    END IF;
    SELECT format('server process %s, role %I', a.pid, a.usename) INTO relay
    FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted AND l.classid = 1685024626 AND l.objid = rel AND l.database = a.datid
      AND a.datname = current_database() AND has_table_privilege(a.usesysid, rel, 'DELETE');
    IF FOUND THEN
        RAISE EXCEPTION 'a relay serves %: %', rel, relay USING ERRCODE = 'object_in_use', HINT = 'Stop all of its relays first; nothing was changed.';
    END IF;
    IF to_regclass('doorbell.dead') IS NOT NULL THEN
        SELECT count(*) INTO letters FROM doorbell.dead d WHERE d.outbox = registered AND d.retried_at IS NULL;
        IF letters > 0 THEN
            RAISE EXCEPTION '% dead letters of % would be lost', letters, rel
                USING ERRCODE = 'object_in_use', HINT = 'Run `doorbell dead retry --all` or `doorbell dead drop --all` first; nothing was changed.';
        END IF;
    END IF;

    FOR change IN
        SELECT format('DROP TRIGGER %I ON %s', t.tgname, rel) FROM pg_trigger t WHERE t.tgrelid = rel AND t.tgname IN ('doorbell_ring', 'doorbell_order')
        UNION ALL
        SELECT format('ALTER TABLE %s ALTER COLUMN %I DROP DEFAULT', rel, a.attname)
        FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
        WHERE d.adrelid = rel AND a.attname = 'headers' AND pg_get_expr(d.adbin, d.adrelid) LIKE '%doorbell.traceparent%'
        UNION ALL
        SELECT format('ALTER TABLE %s RESET (%s)', c.oid::regclass, ours.list)
        FROM (SELECT t.relid FROM pg_partition_tree(rel) t UNION SELECT rel) p
        JOIN pg_class c ON c.oid = p.relid
        LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
        CROSS JOIN LATERAL (SELECT string_agg(s.name, ', ') AS list FROM (
            SELECT split_part(o, '=', 1) AS name FROM unnest(c.reloptions) o WHERE o = ANY (parameters)
            UNION ALL SELECT 'toast.' || split_part(o, '=', 1) FROM unnest(t.reloptions) o WHERE o = ANY (parameters)) s) ours
        WHERE ours.list IS NOT NULL
    LOOP
        EXECUTE change;
    END LOOP;

    IF to_regclass('doorbell.outbox') IS NOT NULL THEN
        FOR change IN SELECT format('DROP FUNCTION IF EXISTS doorbell.%I()', 'order_' || o.id) FROM doorbell.outbox o WHERE o.name = registered LOOP
            EXECUTE change;
        END LOOP;
        IF to_regclass('doorbell.receipt') IS NOT NULL THEN
            DELETE FROM doorbell.receipt r USING doorbell.outbox o WHERE o.name = registered AND r.outbox = o.id;
        END IF;
        IF to_regclass('doorbell.held') IS NOT NULL THEN
            DELETE FROM doorbell.held h USING doorbell.outbox o WHERE o.name = registered AND h.outbox = o.id;
        END IF;
        DELETE FROM doorbell.dead d WHERE d.outbox = registered;
        DELETE FROM doorbell.outbox o WHERE o.name = registered;
        IF NOT EXISTS (SELECT FROM doorbell.outbox) THEN
            SELECT string_agg(c.oid::regclass::text, ', ' ORDER BY c.relname) INTO kept
            FROM pg_class c WHERE c.oid IN (to_regclass('doorbell.event'), to_regclass('doorbell.inbox'));
            IF kept IS NOT NULL THEN
                RAISE EXCEPTION '% would be lost with the schema', kept USING ERRCODE = 'object_in_use',
                    HINT = 'Drop what sql/events.sql or sql/inbox.sql made, or move it with ALTER ... SET SCHEMA; nothing was changed.';
            END IF;
            DROP SCHEMA doorbell CASCADE;
        END IF;
    END IF;
END
$$;

COMMIT;
