package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"
)

// header returns the first header of that name. Doorbell's own come first.
func header(record *kgo.Record, name string) string {
	for _, header := range record.Headers {
		if header.Key == name {
			return string(header.Value)
		}
	}
	return ""
}

// takeIn claims the event and applies its effect in one transaction. It tells whether the event was new.
func takeIn(ctx context.Context, database *pgx.Conn, record *kgo.Record) (isNew bool, err error) {
	id := header(record, "id")
	if id == "" {
		return false, errors.New("a record without the header `id` is not an event of an outbox")
	}
	err = pgx.BeginFunc(ctx, database, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, "SELECT doorbell.first_time('order-totals', $1)", id).Scan(&isNew)
		if err != nil || !isNew || header(record, "type") != "OrderPlaced" || record.Value == nil {
			return err
		}
		var order orderPlaced
		if err := json.Unmarshal(record.Value, &order); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO order_totals AS totals (customer, orders, amount_cents) VALUES ($1, 1, $2)
			ON CONFLICT (customer) DO UPDATE
			SET orders = totals.orders + 1, amount_cents = totals.amount_cents + excluded.amount_cents`,
			order.Customer, order.AmountCents)
		return err
	})
	return isNew, err
}

// consume takes in record after record until the context ends. The offset follows the effect, never the reverse.
func consume(ctx context.Context, database *pgx.Conn, kafka *kgo.Client) error {
	for ctx.Err() == nil {
		fetches := kafka.PollRecords(ctx, 100)
		if err := fetches.Err(); err != nil && ctx.Err() == nil {
			return err
		}
		for _, record := range fetches.Records() {
			// The record at hand is finished also when the program is asked to stop.
			isNew, err := takeIn(context.WithoutCancel(ctx), database, record)
			if err != nil {
				return fmt.Errorf("%s[%d]@%d: %w", record.Topic, record.Partition, record.Offset, err)
			}
			if err := kafka.CommitRecords(context.WithoutCancel(ctx), record); err != nil {
				return err
			}
			if isNew {
				fmt.Println("applied")
			} else {
				fmt.Println("seen before")
			}
			if ctx.Err() != nil {
				break
			}
		}
		kafka.AllowRebalance()
	}
	return nil
}
