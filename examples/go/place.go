package main

import (
	"context"
	"encoding/json"
	"strconv"

	"github.com/jackc/pgx/v5"
)

// orderPlaced is the payload of the event.
type orderPlaced struct {
	OrderID     int64  `json:"order_id"`
	Customer    string `json:"customer"`
	AmountCents int64  `json:"amount_cents"`
}

// placeOrder inserts the order and its event: both are there after the commit, or neither.
func placeOrder(ctx context.Context, database *pgx.Conn, customer string, cents int64) (int64, error) {
	var order int64
	err := pgx.BeginFunc(ctx, database, func(tx pgx.Tx) error {
		const insert = "INSERT INTO orders (customer, amount_cents) VALUES ($1, $2) RETURNING id"
		if err := tx.QueryRow(ctx, insert, customer, cents).Scan(&order); err != nil {
			return err
		}
		payload, err := json.Marshal(orderPlaced{order, customer, cents})
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "INSERT INTO outbox (type, key, payload) VALUES ('OrderPlaced', $1, $2)",
			strconv.FormatInt(order, 10), string(payload))
		return err
	})
	return order, err
}
