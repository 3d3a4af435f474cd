-- Three roles with the privileges that they need and no more, for the table `outbox`. The table's
-- owner runs this after the migration:
--
--     psql "$DATABASE_URL" -f sql/roles.sql
--
-- and then, for example:  CREATE ROLE shop LOGIN PASSWORD '...' IN ROLE doorbell_writer;
--
-- Roles belong to the whole server: if another database has made them already, they get the
-- privileges in this one as well. An owner who may not create roles asks an administrator for them
-- first; the error says what to run.

BEGIN;

DO $$
DECLARE
    missing pg_catalog.text := (
        SELECT pg_catalog.string_agg(pg_catalog.format('CREATE ROLE %s NOLOGIN;', w.name), ' ')
        FROM pg_catalog.unnest(ARRAY['doorbell_writer', 'doorbell_relay', 'doorbell_operator']) w (name)
        WHERE pg_catalog.to_regrole(w.name) IS NULL);
BEGIN
    IF missing IS NOT NULL THEN
        EXECUTE missing;
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE EXCEPTION 'role % may not create roles', pg_catalog.quote_ident(current_user)
        USING ERRCODE = 'insufficient_privilege',
              HINT = pg_catalog.format('An administrator runs, once for the server: %s Then run this file again.', missing);
END
$$;

-- Writers of events need INSERT into the columns of an event alone, so RETURNING is not allowed
-- either, nor ids and times of their own: an id that is ahead of the sequence makes other writers
-- wait. Ids come from the table's identity, which needs no privilege. A `serial` column of your own
-- outbox needs one more: GRANT USAGE ON SEQUENCE events_id_seq.
--
-- Only where writers choose the topic:   GRANT INSERT (topic) ON outbox TO doorbell_writer;
-- After an earlier version of this file: REVOKE INSERT ON outbox FROM doorbell_writer;
-- and then this file again.
GRANT INSERT (type, payload, key, headers) ON outbox TO doorbell_writer;

-- `doorbell run`, `doorbell check`, `doorbell status` and `doorbell verify`. All relays log in as
-- one role: a standby can terminate an unresponsive leader only of its own role.
GRANT USAGE ON SCHEMA doorbell TO doorbell_relay;
GRANT SELECT ON doorbell.outbox TO doorbell_relay;
GRANT SELECT, DELETE ON outbox TO doorbell_relay;
-- FOR UPDATE SKIP LOCKED, which skips rows that others have locked, requires UPDATE. Nothing is
-- updated.
GRANT UPDATE ON outbox TO doorbell_relay;
-- The relay adds dead letters and counts attempts. It does not read contents or delete letters.
GRANT INSERT, SELECT (outbox, row_id, created_at, attempts) ON doorbell.dead TO doorbell_relay;
-- The relay records which of the rows that stay in the outbox keep others waiting.
GRANT SELECT, INSERT, UPDATE, DELETE ON doorbell.held TO doorbell_relay;
-- The relay counts its starts, to find a row that ends its process.
GRANT SELECT, INSERT, UPDATE ON doorbell.starts TO doorbell_relay;
-- `doorbell verify` takes dead letters into account.
GRANT SELECT (retried_at, own_id) ON doorbell.dead TO doorbell_relay;

-- The delivery mode exactly-once records its position in the receipts. `doorbell receipts accept`
-- too.
GRANT SELECT, INSERT, UPDATE ON doorbell.receipt TO doorbell_relay;

-- `doorbell dead` lists, shows, retries and drops. It reads dead letters, but no rows that wait.
GRANT USAGE ON SCHEMA doorbell TO doorbell_operator;
GRANT SELECT ON doorbell.dead TO doorbell_operator;
GRANT UPDATE ON doorbell.dead TO doorbell_operator;
GRANT INSERT ON outbox TO doorbell_operator;
GRANT DELETE ON doorbell.dead TO doorbell_operator;
-- `doorbell status` counts the rows that wait, and reports the age of the oldest.
GRANT SELECT (id, created_at) ON outbox TO doorbell_operator;
-- `doorbell pause` and `doorbell resume`, and what `doorbell status` reports about them.
GRANT SELECT, UPDATE (paused_at, paused_by, paused_reason) ON doorbell.outbox TO doorbell_operator;

COMMIT;
