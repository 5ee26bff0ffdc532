package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/nats-io/nats.go"
	"gorm.io/driver/mysql"
	"gorm.io/gorm"
	gormlogger "gorm.io/gorm/logger"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/branches/message/natsjs"
	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/action"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/internal/test/chaos"
	"github.com/tccsaga/tccsaga/saga/nested"
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/saga/xa"
	"github.com/tccsaga/tccsaga/tcc"
)

// service is what a user of the library would write: an engine with its
// branches, a consumer, and HTTP in front.
type service struct {
	setup     chaos.Setup
	engineDB  *gorm.DB
	orch      *embedded.Engine
	publisher *message.Publisher
	consumer  *message.Consumer
	ran       chan error // the error of Run
	closers   []func()   // called in reverse order
}

// open opens everything. If something fails, it closes the rest.
func open(ctx context.Context, setup chaos.Setup, logger *slog.Logger) (_ *service, err error) {
	s := &service{setup: setup, ran: make(chan error, 1)}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	engineDB, err := s.database(setup.EngineDB)
	if err != nil {
		return nil, err
	}
	s.engineDB = engineDB
	serviceDB, err := s.database(setup.ServiceDB)
	if err != nil {
		return nil, err
	}
	conn, err := nats.Connect(setup.NATS, nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond), nats.Timeout(2*time.Second))
	if err != nil {
		return nil, fmt.Errorf("connecting to NATS: %w", err)
	}
	s.closers = append(s.closers, conn.Close)
	broker, err := natsjs.New(conn, natsjs.Config{})
	if err != nil {
		return nil, err
	}
	s.publisher, err = message.NewPublisher(ctx, engineDB, broker, message.Config{Stream: setup.Stream, Subjects: []string{setup.Stream + ".>"}, AckTimeout: 2 * time.Second})
	if err != nil {
		return nil, err
	}
	prepared, err := xa.Open(ctx, serviceDB)
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, prepared.Close)
	s.orch, err = embedded.Open(ctx, engineDB, embedded.Config{Lease: setup.Lease, Poll: 100 * time.Millisecond, Timeout: 5 * time.Second,
		CallTimeout: 3 * time.Second, MinBackoff: 20 * time.Millisecond, MaxBackoff: time.Second, Logger: logger})
	if err != nil {
		return nil, err
	}
	host, err := remote.NewService(setup.Host, remote.ServiceConfig{Name: chaos.HostName, Keys: hostKeys(), Timeout: 2 * time.Second})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(
		tcc.Register(s.orch, recorded(stock.New(engineDB))),
		tcc.Register(s.orch, s.publisher),
		tcc.Register(s.orch, recorded[takePoints](points{serviceDB})),
		tcc.RegisterExternal(s.orch, gateway{setup.Gateway}),
		xa.Register(s.orch, prepared, xa.Func[insertRow](writeRow)),
		nested.Register(s.orch, nested.Branch[trip]{Child: s.orch, Plan: planOf, Timeout: 5 * time.Second}),
		tcc.RegisterRemote[takeSeats](s.orch, host),
		tcc.RegisterRemote[takeTickets](s.orch, host),
		action.Register(s.orch, rewards{serviceDB}),
		action.Register(s.orch, receipts{serviceDB}),
		s.orch.Register(saga.NewDatabase(chaos.DecideKind, serviceDB)),
	); err != nil {
		return nil, err
	}
	s.consumer, err = message.Consume(ctx, serviceDB, broker, message.ConsumerConfig{Stream: setup.Stream, Name: "effects",
		// With so many attempts, no fault makes a message a dead letter.
		Attempts: 1 << 20, MinBackoff: 20 * time.Millisecond, MaxBackoff: time.Second, Timeout: 5 * time.Second, Logger: logger}, handle)
	if err != nil {
		return nil, err
	}
	go func() { s.ran <- s.orch.Run(context.WithoutCancel(ctx)) }()
	return s, nil
}

func (s *service) database(dsn string) (*gorm.DB, error) {
	db, pool, err := openDatabase(dsn, s.setup.Prepare)
	if err == nil {
		s.closers = append(s.closers, func() { pool.Close() })
	}
	return db, err
}

func openDatabase(dsn string, prepare bool) (*gorm.DB, *sql.DB, error) {
	db, err := gorm.Open(mysql.Open(dsn), &gorm.Config{Logger: gormlogger.Discard, PrepareStmt: prepare})
	if err != nil {
		return nil, nil, fmt.Errorf("opening a database: %w", err)
	}
	pool, err := db.DB()
	if err != nil {
		return nil, nil, err
	}
	pool.SetMaxOpenConns(32)
	pool.SetMaxIdleConns(32)
	return db, pool, nil
}

func (s *service) close() {
	for i := len(s.closers) - 1; i >= 0; i-- {
		s.closers[i]()
	}
}

// stop finishes what is under way, and closes everything.
func (s *service) stop(ctx context.Context) error {
	defer s.close()
	return errors.Join(s.consumer.Stop(ctx), s.orch.Stop(ctx), <-s.ran, s.publisher.Stop(ctx))
}

// handle is the handler of messages.
func handle(_ context.Context, tx *gorm.DB, m message.Received) error {
	return tx.Exec("INSERT INTO handled (message_id) VALUES (?)", m.ID).Error
}

// ServeHTTP answers a chaos.Request.
func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var request chaos.Request
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	result, err := s.do(r.Context(), request)
	answer := chaos.Answer{Result: result}
	if err != nil {
		answer.Text = s.setup.Name + ": " + err.Error()
	}
	json.NewEncoder(w).Encode(answer)
}

func (s *service) do(ctx context.Context, r chaos.Request) (chaos.Result, error) {
	o := r.Order
	switch options := (saga.Options{Timeout: o.Timeout, ReturnDecided: o.ReturnDecided}); r.Command {
	case chaos.Execute:
		if o.Local {
			return s.executeIn(ctx, o)
		}
		err := s.execute(ctx, o, options)
		return resultOf(err, chaos.Confirmed), err
	case chaos.Try:
		tx, err := tcc.BeginWith(ctx, s.orch, o.GID, options)
		if err != nil {
			return resultOf(err, ""), err
		}
		for _, branch := range branches(o)[:r.Branches] {
			if err := tx.Try(ctx, branch); err != nil {
				return chaos.NotTried, err
			}
		}
		return chaos.Tried, nil
	case chaos.Confirm:
		tx, err := tcc.Join(ctx, s.orch, o.GID)
		if err == nil {
			_, err = tx.Confirm(ctx)
		}
		return resultOf(err, chaos.Confirmed), err
	case chaos.Cancel:
		tx, err := tcc.Join(ctx, s.orch, o.GID)
		if err == nil {
			_, err = tx.Cancel(ctx, "the client has changed its mind")
		}
		return resultOf(err, chaos.Cancelled), err
	}
	return chaos.Unexpected, fmt.Errorf("unknown command %q", r.Command)
}

// executeIn executes an order in a local transaction, with a row and a message more. If the order
// was executed before, it changes nothing.
func (s *service) executeIn(ctx context.Context, o chaos.Order) (chaos.Result, error) {
	var failure error
	err := s.engineDB.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		if _, failure = tcc.ExecuteIn(ctx, s.orch, tx, o.GID, branches(o)...); failure != nil {
			return failure
		}
		row := tx.Exec("INSERT IGNORE INTO local_orders (gid) VALUES (?)", o.GID)
		if row.Error != nil || row.RowsAffected == 0 {
			return row.Error
		}
		return s.publisher.PublishIn(ctx, tx, message.Publish{Subject: chaos.LocalSubject, Data: []byte(o.GID)})
	})
	var rejection *saga.Rejection
	if errors.As(failure, &rejection) {
		return chaos.RolledBack, err
	}
	return resultOf(err, chaos.Confirmed), err
}

// resultOf translates the error of a call; without one, the result is success.
func resultOf(err error, success chaos.Result) chaos.Result {
	switch {
	case err == nil:
		return success
	case errors.Is(err, saga.ErrCancelled):
		return chaos.Cancelled
	case errors.Is(err, saga.ErrConfirmed):
		return chaos.Confirmed
	case errors.Is(err, saga.ErrNotFound):
		return chaos.NotFound
	case errors.Is(err, saga.ErrNotTried):
		return chaos.NotTried
	case errors.Is(err, saga.ErrMismatch), errors.Is(err, saga.ErrInvalid), errors.Is(err, saga.ErrNotOpen):
		return chaos.Unexpected
	default:
		// ErrUnknown, ErrNoLease and ErrStopped; and errors of the database, which
		// Begin and Resume return as they are.
		return chaos.Unknown
	}
}

// branches are the branches of an order.
func branches(o chaos.Order) (all []tcc.Payload) {
	if o.Cents > 0 {
		all = append(all, pay{Cents: o.Cents})
	}
	if o.Points > 0 {
		all = append(all, takePoints{Account: o.Account, Points: o.Points})
	}
	if o.Pieces > 0 {
		all = append(all, stock.Lock{Items: []stock.Item{{SKU: o.SKU, Quantity: o.Pieces}}})
	}
	if o.Notify {
		all = append(all, message.Publish{Subject: "chaos.orders", Data: []byte(o.GID)})
	}
	if o.XA {
		all = append(all, insertRow{})
	}
	if o.Nested {
		all = append(all, trip{})
	}
	if o.Seats > 0 {
		all = append(all, takeSeats{Hall: o.Hall, Seats: o.Seats})
	}
	if o.Tickets > 0 {
		all = append(all, takeTickets{Show: o.Show, Tickets: o.Tickets})
	}
	return all
}
