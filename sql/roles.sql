-- Three roles with no more than they need, for the table `outbox`. Run by the table's owner after the migration:
--
--     psql "$DATABASE_URL" -f sql/roles.sql
--
-- and then, for example:  CREATE ROLE shop LOGIN PASSWORD '...' IN ROLE doorbell_writer;

BEGIN;

-- Whoever writes events: no more than INSERT, so not RETURNING either. Ids come from the table's identity, which takes no right of its own; a `serial`
-- column of an outbox of your own takes one besides: GRANT USAGE ON SEQUENCE events_id_seq.
CREATE ROLE doorbell_writer NOLOGIN;
GRANT INSERT ON outbox TO doorbell_writer;

-- `doorbell run`, `doorbell check`, `doorbell status` and `doorbell verify`. All relays log in as one role: a standby can end a frozen leader of its own role only.
CREATE ROLE doorbell_relay NOLOGIN;
GRANT USAGE ON SCHEMA doorbell TO doorbell_relay;
GRANT SELECT ON doorbell.outbox TO doorbell_relay;
GRANT SELECT, DELETE ON outbox TO doorbell_relay;
-- To step around rows that others have locked (FOR UPDATE SKIP LOCKED) PostgreSQL asks for UPDATE; nothing is updated.
GRANT UPDATE ON outbox TO doorbell_relay;
-- It adds dead letters and counts attempts; it reads no contents, and takes nothing away.
GRANT INSERT, SELECT (outbox, row_id, created_at, attempts) ON doorbell.dead TO doorbell_relay;
-- It counts its starts, to find a row that ends it.
GRANT SELECT, INSERT, UPDATE ON doorbell.starts TO doorbell_relay;
-- `doorbell verify` does not miss what is parked.
GRANT SELECT (retried_at) ON doorbell.dead TO doorbell_relay;

-- The delivery mode exactly-once: what is known of the receipts in Kafka; `doorbell receipts accept` as well.
GRANT SELECT, INSERT, UPDATE ON doorbell.receipt TO doorbell_relay;

-- `doorbell dead`: to list and show, to retry, to drop; it sees what was parked, and nothing of the rows that wait.
CREATE ROLE doorbell_operator NOLOGIN;
GRANT USAGE ON SCHEMA doorbell TO doorbell_operator;
GRANT SELECT ON doorbell.dead TO doorbell_operator;
GRANT UPDATE ON doorbell.dead TO doorbell_operator;
GRANT INSERT ON outbox TO doorbell_operator;
GRANT DELETE ON doorbell.dead TO doorbell_operator;
-- `doorbell status` counts the rows that wait, and says how old the oldest is.
GRANT SELECT (id, created_at) ON outbox TO doorbell_operator;
-- `doorbell pause` and `doorbell resume`, and what `status` says of them.
GRANT SELECT, UPDATE (paused_at, paused_by, paused_reason) ON doorbell.outbox TO doorbell_operator;

COMMIT;
