-- The tables of consumer.py, in the consumer's own database. Running it again changes nothing.

-- The events already taken in. The primary key is what makes the consumer idempotent.
-- Rows older than the topic's retention can no longer come again and may be deleted.
CREATE TABLE IF NOT EXISTS inbox (
    event_id     uuid PRIMARY KEY,
    received_at  timestamptz NOT NULL DEFAULT now()
);

-- The effect.
CREATE TABLE IF NOT EXISTS order_totals (
    customer      text PRIMARY KEY,
    orders        bigint NOT NULL,
    amount_cents  bigint NOT NULL
);

-- Records that no code here could read: kept for a person to look at, so that they neither stop the rest nor get lost.
CREATE TABLE IF NOT EXISTS set_aside (
    topic      text NOT NULL,
    partition  integer NOT NULL,
    position   bigint NOT NULL,
    reason     text NOT NULL,
    key        bytea,
    value      bytea,
    PRIMARY KEY (topic, partition, position)
);
