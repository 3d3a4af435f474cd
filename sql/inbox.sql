-- Optional: each event takes effect once, although its record may come twice. For the database of
-- a consumer, which needs neither the outbox nor the relay's tables.
--
--     psql "$DATABASE_URL" -f sql/inbox.sql
--
-- In one transaction, claim the event and apply its effect:
--
--     SELECT doorbell.first_time('order-totals', '01890a5d-ac96-774b-bcce-b302099a8057');
--
-- It is true the first time. The claim is part of the caller's transaction, so it is rolled back
-- with the effect. Of two transactions that claim one event at the same time the second waits for
-- the first. Afterwards commit the offset to Kafka.
--
-- How long rows are kept: as long as their records can come again, which is the retention of the
-- topic. Running it again changes nothing. PostgreSQL 14 or newer.

BEGIN;

SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL client_min_messages = warning;

CREATE SCHEMA IF NOT EXISTS doorbell;

-- The table is not partitioned by time: a unique key would have to contain the time, and an event
-- that comes again later would be new.
CREATE TABLE IF NOT EXISTS doorbell.inbox (
    event_id   uuid NOT NULL,
    consumer   text NOT NULL,
    claimed_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    PRIMARY KEY (event_id, consumer)
);
CREATE INDEX IF NOT EXISTS inbox_claimed_at ON doorbell.inbox (claimed_at);
COMMENT ON TABLE doorbell.inbox IS 'The events that took effect, for each consumer';

CREATE OR REPLACE FUNCTION doorbell.first_time(consumer text, event_id uuid) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    IF first_time.consumer IS NULL OR first_time.event_id IS NULL THEN
        RAISE EXCEPTION 'first_time needs a consumer and the id of an event, and one of them is NULL'
            USING ERRCODE = 'null_value_not_allowed', HINT = 'The id is in the record''s header `id`.';
    END IF;
    INSERT INTO doorbell.inbox (event_id, consumer) VALUES (first_time.event_id, first_time.consumer)
        ON CONFLICT (event_id, consumer) DO NOTHING;
    RETURN FOUND;
END
$$;
COMMENT ON FUNCTION doorbell.first_time(text, uuid) IS 'Claims an event in the caller''s transaction; true if no transaction did so before';

-- Ids are claimed in their order, so that two batches with the same ids cannot deadlock.
CREATE OR REPLACE FUNCTION doorbell.first_times(consumer text, event_ids uuid[]) RETURNS SETOF uuid
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    IF first_times.consumer IS NULL OR first_times.event_ids IS NULL OR array_position(first_times.event_ids, NULL) IS NOT NULL THEN
        RAISE EXCEPTION 'first_times needs a consumer and the ids of events, and one of them is NULL'
            USING ERRCODE = 'null_value_not_allowed', HINT = 'The ids are in the records'' headers `id`.';
    END IF;
    RETURN QUERY
        INSERT INTO doorbell.inbox (event_id, consumer)
        SELECT DISTINCT id, first_times.consumer FROM unnest(first_times.event_ids) AS ids (id) ORDER BY id
        ON CONFLICT (event_id, consumer) DO NOTHING RETURNING event_id;
END
$$;
COMMENT ON FUNCTION doorbell.first_times(text, uuid[]) IS 'Claims several events in the caller''s transaction; returns those that no transaction claimed before, each once';

-- One call deletes one batch, so that no transaction is long: call it until it returns 0.
CREATE OR REPLACE FUNCTION doorbell.forget_claims(older_than interval, batch integer DEFAULT 10000) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    forgotten bigint;
BEGIN
    -- A negative age would forget the claims of now.
    IF older_than IS NULL OR older_than < '0' OR batch IS NULL OR batch < 1 THEN
        RAISE EXCEPTION 'forget_claims needs an age that is not negative, and a batch of at least one row'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    WITH oldest AS (
        SELECT event_id, consumer FROM doorbell.inbox WHERE claimed_at < now() - older_than
        ORDER BY claimed_at LIMIT batch FOR UPDATE SKIP LOCKED
    )
    DELETE FROM doorbell.inbox i USING oldest o WHERE i.event_id = o.event_id AND i.consumer = o.consumer;
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    RETURN forgotten;
END
$$;
COMMENT ON FUNCTION doorbell.forget_claims(interval, integer) IS 'Deletes up to a batch of claims that are older; returns how many';

COMMIT;
