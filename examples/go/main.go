// Places orders with their events, and adds them up per customer from Kafka.
//
//	go run . place CUSTOMER CENTS
//	go run . consume
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"
)

func variable(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func newConsumer() (*kgo.Client, error) {
	options := []kgo.Opt{
		kgo.SeedBrokers(strings.Split(os.Getenv("KAFKA_BROKERS"), ",")...),
		kgo.ConsumerGroup(variable("GROUP", "order-totals")),
		kgo.ConsumeTopics(variable("TOPIC", "outbox")),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		// The offset follows the effect. Committed by a timer, it could run ahead of it, and an event would be lost.
		kgo.DisableAutoCommit(),
		// A partition does not move while records of it are taken in.
		kgo.BlockRebalanceOnPoll(),
	}
	if name := os.Getenv("INSTANCE"); name != "" {
		options = append(options, kgo.InstanceID(name))
	}
	return kgo.NewClient(options...)
}

func run(ctx context.Context, arguments []string) error {
	database, err := pgx.Connect(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer database.Close(context.WithoutCancel(ctx))
	switch {
	case len(arguments) == 3 && arguments[0] == "place":
		cents, err := strconv.ParseInt(arguments[2], 10, 64)
		if err != nil {
			return err
		}
		order, err := placeOrder(ctx, database, arguments[1], cents)
		if err == nil {
			fmt.Println(order)
		}
		return err
	case len(arguments) == 1 && arguments[0] == "consume":
		kafka, err := newConsumer()
		if err != nil {
			return err
		}
		defer kafka.CloseAllowingRebalance()
		return consume(ctx, database, kafka)
	}
	return fmt.Errorf("usage: place CUSTOMER CENTS | consume")
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
