-- Places one order and its event in one transaction: both are there after the COMMIT, or neither.
--
--   psql "$DATABASE_URL" -f place_order.sql
--   psql "$DATABASE_URL" -v customer=grace -v amount_cents=4200 -f place_order.sql

-- A failed statement ends psql, and with it the transaction: nothing is written.
\set ON_ERROR_STOP on
\if :{?customer}
\else
    \set customer ada
\endif
\if :{?amount_cents}
\else
    \set amount_cents 1250
\endif

BEGIN;

INSERT INTO orders (customer, amount_cents)
VALUES (:'customer', :'amount_cents')
RETURNING id AS order_id
\gset

-- The key is the order's id: Kafka keeps the events of one order in order.
INSERT INTO outbox (type, key, payload, headers)
VALUES (
    'OrderPlaced',
    :'order_id',
    json_build_object(
        'order_id', :'order_id'::bigint,
        'customer', :'customer'::text,
        'amount_cents', :'amount_cents'::bigint
    )::text,
    '{"source": "psql"}'
);

-- The event is already in the table; if the credit does not suffice, it goes with the rest.
UPDATE customers SET credit_cents = credit_cents - :'amount_cents' WHERE name = :'customer';

COMMIT;

\echo order :order_id placed
