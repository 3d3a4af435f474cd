-- Optional: the order of ids is the order of commits, for rows of one key.
--
--     psql "$DATABASE_URL" -f sql/strict_order.sql
--     psql "$DATABASE_URL" -c "SELECT doorbell.keep_order('outbox')"        -- and doorbell.release_order('outbox')
--
-- Without it a row draws its id when it is inserted and becomes visible when it commits: of two transactions that write the same key at
-- the same time, the one with the higher id may commit first, and is then rightly sent first. Applications whose transactions of one key
-- follow each other (a row of the business that is locked, a version that is compared) need nothing of this.
--
-- How: before a row with a key is inserted, its transaction takes a lock for that key, and only then the row draws its id. The lock is held
-- until the commit is visible, so whoever comes next has a higher id and commits later. Rows without a key are left alone.
--
-- What it costs: transactions of one key wait for each other, from their first row of the key to their commit; keys share 2,048 locks, so once in
-- a while two different keys, also of two outboxes, wait for each other as well. Two transactions that insert several keys in opposite orders are a deadlock, which PostgreSQL
-- ends by an error for one of them: insert in the order of the keys. An id that an INSERT gives itself is replaced. The figures are those
-- of `doorbell bench writers`.

BEGIN;

-- The function is made for each outbox, because it names the columns and the sequence: to look them up would cost time in each row. It draws the id with the
-- rights of whoever makes it, so that writers need no right on the sequence. Every name in it is qualified, so it cannot be led astray by a search_path.
CREATE OR REPLACE FUNCTION doorbell.keep_order(outbox text, key_column text DEFAULT 'key', id_column text DEFAULT 'id') RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    rel regclass := outbox::regclass;
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
    -- 1869767794 is "ordr". However many keys one transaction inserts, it takes no more locks than there are: the server's lock table is small.
    EXECUTE pg_catalog.format($ddl$
        CREATE OR REPLACE FUNCTION %1$s() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $body$
        BEGIN
            IF NEW.%2$I IS NOT NULL THEN
                PERFORM pg_catalog.pg_advisory_xact_lock(1869767794,
                    (pg_catalog.hashtextextended(NEW.%2$I::pg_catalog.text, TG_RELID::pg_catalog.int8) OPERATOR(pg_catalog.&) 2047)::pg_catalog.int4);
                NEW.%3$I := pg_catalog.nextval(%4$L::pg_catalog.regclass);
            END IF;
            RETURN NEW;
        END
        $body$
        $ddl$, function_name, key_column, id_column, ids);
    PERFORM doorbell.patient_ddl(pg_catalog.format(
        'CREATE OR REPLACE TRIGGER doorbell_order BEFORE INSERT ON %s FOR EACH ROW EXECUTE FUNCTION %s()', rel, function_name));
END
$$;
COMMENT ON FUNCTION doorbell.keep_order(text, text, text) IS 'From now on the ids of each key are in the order of commits; optional';

CREATE OR REPLACE FUNCTION doorbell.release_order(outbox text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    rel regclass := outbox::regclass;
    function_name regproc;
BEGIN
    SELECT t.tgfoid INTO function_name FROM pg_catalog.pg_trigger t WHERE t.tgrelid = rel AND t.tgname = 'doorbell_order';
    IF function_name IS NOT NULL THEN
        PERFORM doorbell.patient_ddl(pg_catalog.format('DROP TRIGGER doorbell_order ON %s', rel));
        EXECUTE pg_catalog.format('DROP FUNCTION %s()', function_name);
    END IF;
END
$$;
COMMENT ON FUNCTION doorbell.release_order(text) IS 'Takes back what doorbell.keep_order did';

COMMIT;
