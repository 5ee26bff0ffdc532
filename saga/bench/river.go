package main

import (
	"context"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// posted is a job of River that publishes a message.
type posted struct {
	ID string `json:"id"`
}

func (posted) Kind() string { return "posted" }

type postedWorker struct {
	river.WorkerDefaults[posted]
	stream *ownStream
	seen   func(id string)
}

// Work publishes the message and waits for the acknowledgement.
func (w *postedWorker) Work(ctx context.Context, job *river.Job[posted]) error {
	_, err := w.stream.js.Publish(ctx, w.stream.subject, []byte(job.Args.ID), jetstream.WithMsgID(job.Args.ID))
	if err == nil {
		w.seen(job.Args.ID)
	}
	return err
}

// riverIn is River with its job in the local transaction of the order.
type riverIn struct {
	db     *Database
	pool   *pgxpool.Pool
	client *river.Client[pgx.Tx]
	stream *ownStream
}

// riverWorkers is how many jobs River works on at once.
const riverWorkers = 100

func newRiver(ctx context.Context, db *Database, seen func(id string)) (poster, error) {
	stream, err := openStream(ctx)
	if err != nil {
		return nil, err
	}
	pool, err := openPgx(ctx, db)
	if err != nil {
		return nil, err
	}
	all := river.NewWorkers()
	river.AddWorker(all, &postedWorker{stream: stream, seen: seen})
	client, err := newRiverClient(ctx, pool, all, riverWorkers)
	if err != nil {
		return nil, err
	}
	return &riverIn{db, pool, client, stream}, client.Start(context.WithoutCancel(ctx))
}

func (r *riverIn) Place(ctx context.Context, o Order) error {
	return pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "INSERT INTO bench_orders (id, sku, quantity) VALUES ($1, $2, 1)", o.ID, o.SKU); err != nil {
			return err
		}
		_, err := r.client.InsertTx(ctx, tx, posted{o.ID}, nil)
		return err
	})
}

func (r *riverIn) Close() error {
	err := r.client.Stop(context.Background())
	r.pool.Close()
	r.stream.close()
	r.db.close()
	return err
}

// openPgx returns a pool of River's own driver on a database.
func openPgx(ctx context.Context, db *Database) (*pgxpool.Pool, error) {
	var name string
	if err := db.Raw("SELECT current_database()").Scan(&name).Error; err != nil {
		return nil, err
	}
	config, err := pgxpool.ParseConfig(postgresDSN(name))
	if err != nil {
		return nil, err
	}
	config.MaxConns = maxConnections
	return pgxpool.NewWithConfig(ctx, config)
}

// newRiverClient creates River's tables and returns a client.
func newRiverClient(ctx context.Context, pool *pgxpool.Pool, all *river.Workers, workers int) (*river.Client[pgx.Tx], error) {
	quiet := slog.New(slog.DiscardHandler)
	migrator, err := rivermigrate.New[pgx.Tx](riverpgxv5.New(pool), &rivermigrate.Config{Logger: quiet})
	if err != nil {
		return nil, err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return nil, err
	}
	// By default, River waits 100 ms between two fetches, and a worker would mostly wait.
	return river.NewClient(riverpgxv5.New(pool), &river.Config{Workers: all, Logger: quiet,
		FetchCooldown: river.FetchCooldownMin, FetchPollInterval: river.FetchPollIntervalMin,
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: workers}}})
}
