-- The tables of consumer.py, in the consumer's own database, beside that of sql/inbox.sql. Running
-- it again changes nothing.

-- The effect.
CREATE TABLE IF NOT EXISTS order_totals (
    customer      text PRIMARY KEY,
    orders        bigint NOT NULL,
    amount_cents  bigint NOT NULL
);

-- Records that this program cannot read: kept for a person to examine, so that they neither stop
-- the rest nor get lost.
CREATE TABLE IF NOT EXISTS set_aside (
    topic      text NOT NULL,
    partition  integer NOT NULL,
    position   bigint NOT NULL,
    reason     text NOT NULL,
    key        bytea,
    value      bytea,
    PRIMARY KEY (topic, partition, position)
);
