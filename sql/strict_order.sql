-- Optional: makes the order of ids the order of commits, for rows of one key.
--
--     psql "$DATABASE_URL" -f sql/strict_order.sql
--     psql "$DATABASE_URL" -c "SELECT doorbell.keep_order('outbox')"
--     psql "$DATABASE_URL" -c "SELECT doorbell.release_order('outbox')"   -- the way back
--
-- Without it a row draws its id when it is inserted and becomes visible when it commits. If two
-- transactions write the same key at the same time, the one with the higher id may commit first,
-- and its row is then rightly sent first. Applications whose transactions of one key follow each
-- other (they lock a business row, or compare a version) do not need this.
--
-- How: before a row with a key is inserted, its transaction takes a lock for that key, and only
-- then the row draws its id. The lock is held until the commit is visible, so the next writer of
-- the key gets a higher id and commits later. Rows without a key are not affected.
--
-- Cost: transactions of one key wait for each other, from their first row of the key to their
-- commit. Keys share 2,048 locks, so now and then two different keys, even of two outboxes, wait
-- for each other as well. Two transactions that insert several keys in opposite orders deadlock,
-- and PostgreSQL ends one of them with an error: insert in the order of the keys. An id that an
-- INSERT specifies is replaced, except where `doorbell dead retry` puts a row back under its own.
-- For figures see `doorbell bench writers`.
--
-- Any role that may connect can take these locks, and writers then wait for it: set lock_timeout
-- for them. docs/security.md has the query that names the holder.

BEGIN;

SET LOCAL client_min_messages = warning;
-- The table is a regclass: its name is found by the search_path of the caller, and nothing else is.
DROP FUNCTION IF EXISTS doorbell.keep_order(pg_catalog.text, pg_catalog.text, pg_catalog.text), doorbell.release_order(pg_catalog.text);

-- Each outbox gets a function of its own that names the columns and the sequence: looking them up
-- would cost time in each row. It draws the id with the privileges of its owner, so writers need
-- none on the sequence. The oid in it is that of the outbox, not of a partition.
CREATE OR REPLACE FUNCTION doorbell.keep_order(outbox pg_catalog.regclass, key_column pg_catalog.text DEFAULT 'key', id_column pg_catalog.text DEFAULT 'id')
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $$
DECLARE
    rel regclass := outbox;
    ids text := pg_catalog.pg_get_serial_sequence(rel::text, id_column);
    function_name text;
BEGIN
    IF ids IS NULL THEN
        RAISE EXCEPTION 'column % of % draws its values from no sequence of its own', id_column, rel
            USING ERRCODE = 'invalid_table_definition',
                  HINT = 'The order can be kept where the id is an identity or serial column.';
    END IF;
    SELECT pg_catalog.format('doorbell.%I', 'order_' || d.id) INTO function_name
    FROM doorbell.outbox d JOIN pg_catalog.pg_class c ON c.oid = rel JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE d.name = pg_catalog.format('%I.%I', n.nspname, c.relname);
    IF function_name IS NULL THEN
        RAISE EXCEPTION '% is no outbox', rel
            USING ERRCODE = 'invalid_table_definition', HINT = 'Run `doorbell migrate` for it first.';
    END IF;
    -- 1869767794 is "ordr". However many keys one transaction inserts, it takes at most 2,048
    -- locks: the server's lock table is small.
    EXECUTE pg_catalog.format($ddl$
        CREATE OR REPLACE FUNCTION %1$s() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
        BEGIN
            IF NEW.%2$I IS NOT NULL THEN
                PERFORM pg_catalog.pg_advisory_xact_lock(1869767794,
                    (pg_catalog.hashtextextended(NEW.%2$I::pg_catalog.text, %5$s) OPERATOR(pg_catalog.&) 2047)::pg_catalog.int4);
                IF (pg_catalog.current_setting('doorbell.keep_ids', true) OPERATOR(pg_catalog.=) 'on') IS NOT TRUE THEN
                    NEW.%3$I := pg_catalog.nextval(%4$L::pg_catalog.regclass);
                END IF;
            END IF;
            RETURN NEW;
        END
        $body$
        $ddl$, function_name, key_column, id_column, ids, rel::oid::int8);
    PERFORM doorbell.patient_ddl(pg_catalog.format(
        'CREATE OR REPLACE TRIGGER doorbell_order BEFORE INSERT ON %s FOR EACH ROW EXECUTE FUNCTION %s()', rel, function_name));
END
$$;
COMMENT ON FUNCTION doorbell.keep_order(pg_catalog.regclass, pg_catalog.text, pg_catalog.text) IS 'From now on the ids of each key are in the order of commits; optional';

CREATE OR REPLACE FUNCTION doorbell.release_order(outbox pg_catalog.regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $$
DECLARE
    rel regclass := outbox;
    function_name regproc;
BEGIN
    SELECT t.tgfoid INTO function_name FROM pg_catalog.pg_trigger t WHERE t.tgrelid = rel AND t.tgname = 'doorbell_order';
    IF function_name IS NOT NULL THEN
        PERFORM doorbell.patient_ddl(pg_catalog.format('DROP TRIGGER doorbell_order ON %s', rel));
        EXECUTE pg_catalog.format('DROP FUNCTION %s()', function_name);
    END IF;
END
$$;
COMMENT ON FUNCTION doorbell.release_order(pg_catalog.regclass) IS 'Takes back what doorbell.keep_order did';

COMMIT;
