-- The business tables of the examples. Running it again changes nothing.

CREATE TABLE IF NOT EXISTS customers (
    name          text PRIMARY KEY,
    credit_cents  bigint NOT NULL,
    -- The rule that refuses an order in the middle of its transaction.
    CONSTRAINT credit_is_never_overdrawn CHECK (credit_cents >= 0)
);

CREATE TABLE IF NOT EXISTS orders (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer      text NOT NULL REFERENCES customers,
    amount_cents  bigint NOT NULL,
    placed_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT an_order_costs_something CHECK (amount_cents > 0)
);

INSERT INTO customers (name, credit_cents)
VALUES ('ada', 10000000), ('grace', 10000000), ('linus', 500)
ON CONFLICT DO NOTHING;
