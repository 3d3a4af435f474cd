-- Optional: where an event is. For tests of writers, and for pages that show what was just written.
-- Apply it after the migration:
--
--     psql "$DATABASE_URL" -f sql/pending.sql
--
-- A writer learns the id of its event, which is that of the record's header `id`, when it inserts:
--
--     INSERT INTO outbox (type, payload) VALUES ('OrderPlaced', '{}')
--     RETURNING doorbell.event_id('outbox', id, created_at);
--
--     SELECT doorbell.pending('01890a5d-ac96-874b-bcce-b302099a8057');
--
-- 'waiting': the event is in its outbox, also before its time not_before; 'held': the same, and
-- Kafka refused it, or a row of its key that it waits for; 'dead': it is among the dead letters;
-- 'gone': in neither, so it was sent, or there was never such an event. What is held, the leading
-- relay records in doorbell.held within about a second, and a relay that stopped leaves it there
-- until the next one starts. GET /delivered of the relay's HTTP port can wait for the delivery.
-- Running this again changes nothing. PostgreSQL 14 or newer.

BEGIN;

SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL client_min_messages = warning;

-- One expression of functions that are as stable as this one, and every name with its schema:
-- PostgreSQL inlines no others.
CREATE OR REPLACE FUNCTION doorbell.event_hash(outbox uuid, id bigint, created_at timestamptz) RETURNS bytea
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT pg_catalog.substr(pg_catalog.sha256(pg_catalog.uuid_send(outbox) OPERATOR(pg_catalog.||) pg_catalog.int8send(id)
        OPERATOR(pg_catalog.||) pg_catalog.int8send(CASE
            WHEN pg_catalog.isfinite(created_at) THEN (EXTRACT(epoch FROM created_at) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8
            WHEN created_at OPERATOR(pg_catalog.>) 'epoch' THEN 9223372036854775807 ELSE -9222425352054775808 END)), 1, 16)
$$;
COMMENT ON FUNCTION doorbell.event_hash(uuid, bigint, timestamptz) IS 'The first 128 bits of SHA-256(identity of the outbox, id, created_at)';

CREATE OR REPLACE FUNCTION doorbell.event_uuid(outbox uuid, id bigint, created_at timestamptz) RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT encode(set_byte(set_byte(h, 6, (get_byte(h, 6) & 15) | 128), 8, (get_byte(h, 8) & 63) | 128), 'hex')::uuid
    FROM doorbell.event_hash(outbox, id, created_at) h
$$;
COMMENT ON FUNCTION doorbell.event_uuid(uuid, bigint, timestamptz) IS 'The same as a UUID of version 8: the id of the event';

-- With the privileges of its owner: a writer may insert and read nothing, and the identity of an
-- outbox is no secret.
CREATE OR REPLACE FUNCTION doorbell.event_id(outbox regclass, id bigint, created_at timestamptz) RETURNS uuid
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $$
#variable_conflict use_column
DECLARE
    identity uuid := (
        SELECT o.id FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            JOIN doorbell.outbox o ON o.name = format('%I.%I', n.nspname, c.relname)
        WHERE c.oid = event_id.outbox);
BEGIN
    IF identity IS NULL OR event_id.id IS NULL OR event_id.created_at IS NULL THEN
        RAISE EXCEPTION 'event_id needs an outbox, and the id and created_at of a row; % is no outbox, or a NULL stands in their place', outbox
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Run `doorbell migrate` for it first.';
    END IF;
    RETURN doorbell.event_uuid(identity, event_id.id, event_id.created_at);
END
$$;
COMMENT ON FUNCTION doorbell.event_id(regclass, bigint, timestamptz) IS 'The id that the event of a row has in Kafka, in the header `id`';

-- With the privileges of its owner: all it tells is about an id that the caller knows. It reads the
-- outboxes whose columns are named `id` and `created_at`.
CREATE OR REPLACE FUNCTION doorbell.pending(event_id uuid) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $$
DECLARE
    outbox record;
    event record;
    key text;
    found_it boolean;
BEGIN
    IF event_id IS NULL THEN
        RAISE EXCEPTION 'pending needs the id of an event, and it is NULL'
            USING ERRCODE = 'null_value_not_allowed', HINT = 'doorbell.event_id returns it.';
    END IF;
    FOR outbox IN
        SELECT o.id, c.oid::regclass AS name FROM doorbell.outbox o
            JOIN pg_namespace n ON true
            JOIN pg_class c ON c.relnamespace = n.oid AND o.name = format('%I.%I', n.nspname, c.relname)
        WHERE 2 = (SELECT count(*) FROM pg_attribute a
            WHERE a.attrelid = c.oid AND NOT a.attisdropped AND (a.attname, a.atttypid) IN (('id', 'int8'::regtype), ('created_at', 'timestamptz'::regtype)))
    LOOP
        -- The first bytes are cheap to compare.
        EXECUTE format('SELECT r.id, r.created_at FROM %s r WHERE substr(doorbell.event_hash($1, r.id, r.created_at), 1, 6) = $3
            AND doorbell.event_uuid($1, r.id, r.created_at) = $2 LIMIT 1', outbox.name)
            INTO event USING outbox.id, event_id, substr(uuid_send(event_id), 1, 6);
        CONTINUE WHEN event.id IS NULL;
        -- A migration of an earlier version did not make the table.
        IF to_regclass('doorbell.held') IS NOT NULL THEN
            IF EXISTS (SELECT FROM doorbell.held h WHERE h.outbox = outbox.id AND h.row_id = event.id AND h.created_at = event.created_at) THEN
                RETURN 'held';
            END IF;
            FOR key IN
                SELECT DISTINCT a.attname FROM doorbell.held h
                    JOIN pg_attribute a ON a.attrelid = outbox.name AND a.attname = h.key_column AND a.attnum > 0 AND NOT a.attisdropped
                WHERE h.outbox = outbox.id
            LOOP
                -- A row that a user deleted holds nothing, although the relay may not know yet.
                EXECUTE format('SELECT EXISTS (SELECT FROM doorbell.held h JOIN %1$s first ON first.id = h.row_id AND first.created_at = h.created_at
                        JOIN %1$s r ON r.%2$I::text = first.%2$I::text
                    WHERE h.outbox = $1 AND h.key_column = $2 AND r.id = $3 AND r.created_at = $4)', outbox.name, key)
                    INTO found_it USING outbox.id, key, event.id, event.created_at;
                IF found_it THEN
                    RETURN 'held';
                END IF;
            END LOOP;
        END IF;
        RETURN 'waiting';
    END LOOP;
    IF EXISTS (SELECT FROM doorbell.dead d JOIN doorbell.outbox o ON o.name = d.outbox
               WHERE d.retried_at IS NULL AND doorbell.event_uuid(o.id, d.row_id, d.created_at) = event_id) THEN
        RETURN 'dead';
    END IF;
    RETURN 'gone';
END
$$;
COMMENT ON FUNCTION doorbell.pending(uuid) IS 'Where an event is: waiting in its outbox, held there (Kafka refused it, or a row of its key), dead (a dead letter), or gone (sent, or never written)';

COMMIT;
