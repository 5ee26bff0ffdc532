package main

import (
	"context"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	watermillsql "github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	wmessage "github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
)

// watermill drains messages of a table with Watermill's SQL subscriber, which
// handles one after the other, in the local transaction in which it reads them.
func (b *backlog) watermill(ctx context.Context) (float64, error) {
	pool, err := b.DB.DB()
	if err != nil {
		return 0, err
	}
	beginner := watermillsql.BeginnerFromStdSQL(pool)
	publisher, err := watermillsql.NewPublisher(beginner, watermillsql.PublisherConfig{
		SchemaAdapter: watermillsql.DefaultMySQLSchema{}, AutoInitializeSchema: true}, watermill.NopLogger{})
	if err != nil {
		return 0, err
	}
	for i := 0; i < b.messages; i += 500 {
		var some []*wmessage.Message
		for k := i; k < min(i+500, b.messages); k++ {
			some = append(some, wmessage.NewMessage(fmt.Sprintf("m-%d", k), []byte(`"a phone"`)))
		}
		if err := publisher.Publish("placed", some...); err != nil {
			return 0, err
		}
	}
	subscriber, err := watermillsql.NewSubscriber(beginner, watermillsql.SubscriberConfig{ConsumerGroup: "bench",
		SchemaAdapter: watermillsql.DefaultMySQLSchema{}, OffsetsAdapter: watermillsql.DefaultMySQLOffsetsAdapter{}, InitializeSchema: true}, watermill.NopLogger{})
	if err != nil {
		return 0, err
	}
	defer subscriber.Close()
	return b.timed(ctx, func(ctx context.Context) error {
		messages, err := subscriber.Subscribe(ctx, "placed")
		if err != nil {
			return err
		}
		for range b.messages {
			m := <-messages
			tx, ok := watermillsql.TxFromContext(m.Context())
			if !ok {
				return fmt.Errorf("there is no transaction")
			}
			if _, err := tx.ExecContext(m.Context(), effect, m.UUID); err != nil {
				return err
			}
			m.Ack()
		}
		return subscriber.Close()
	})
}

// placed is a job of River.
type placed struct {
	ID string `json:"id"`
}

func (placed) Kind() string { return "placed" }

type placedWorker struct {
	river.WorkerDefaults[placed]
	pool *pgxpool.Pool
}

// Work does the insert and completes the job in one local transaction.
func (w *placedWorker) Work(ctx context.Context, job *river.Job[placed]) error {
	tx, err := w.pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx)
	if _, err := tx.Exec(ctx, "INSERT INTO bench_effects (id) VALUES ($1)", job.Args.ID); err != nil {
		return err
	}
	if _, err := river.JobCompleteTx[*riverpgxv5.Driver](ctx, tx, job); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

// river drains jobs with River's workers.
func (b *backlog) river(ctx context.Context, workers int) (float64, error) {
	pool, err := openPgx(ctx, b.Database)
	if err != nil {
		return 0, err
	}
	defer pool.Close()
	all := river.NewWorkers()
	river.AddWorker(all, &placedWorker{pool: pool})
	client, err := newRiverClient(ctx, pool, all, workers)
	if err != nil {
		return 0, err
	}
	var jobs []river.InsertManyParams
	for i := range b.messages {
		jobs = append(jobs, river.InsertManyParams{Args: placed{fmt.Sprintf("m-%d", i)}})
	}
	if _, err := client.InsertMany(ctx, jobs); err != nil {
		return 0, err
	}
	return b.timed(ctx, func(ctx context.Context) error {
		if err := client.Start(ctx); err != nil {
			return err
		}
		for {
			n, err := b.effects()
			if err != nil || n == b.messages {
				return client.Stop(ctx)
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
}
