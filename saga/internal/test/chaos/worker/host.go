package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/test/chaos"
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/tcc"
)

// hostKeys are the keys of the host and of its callers.
func hostKeys() []remote.Key {
	key, err := remote.NewKey("chaos", []byte(chaos.HostSecret))
	if err != nil {
		panic(err)
	}
	return []remote.Key{key}
}

// openHost returns the handler of a service without an engine: seats are taken by each order for
// itself, and tickets by many orders at once. If something fails, it closes the rest.
func openHost(ctx context.Context, setup chaos.Setup, logger *slog.Logger) (_ http.Handler, err error) {
	db, pool, err := openDatabase(setup.HostDB, false)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			pool.Close()
		}
	}()
	host, err := remote.NewHost(ctx, db, remote.HostConfig{Name: chaos.HostName, Keys: hostKeys(), Window: chaos.HostWindow, CallTimeout: 3 * time.Second, Logger: logger})
	if err != nil {
		return nil, err
	}
	if err = errors.Join(tcc.Register(host, seats{points{db}}), tcc.Register(host, tickets{points{db}})); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/branches/", host)
	return mux, nil
}

// takeSeats and takeTickets are the payloads of the branches of the host.
type takeSeats struct {
	Hall  string
	Seats int64
}

type takeTickets struct {
	Show    string
	Tickets int64
}

func (takeSeats) Branch() string   { return chaos.SeatsKind }
func (takeTickets) Branch() string { return chaos.TicketsKind }

func (in takeSeats) points() takePoints   { return takePoints{in.Hall, in.Seats} }
func (in takeTickets) points() takePoints { return takePoints{in.Show, in.Tickets} }

// seats is the branch of takeSeats. It records its calls.
type seats struct{ accounts points }

func (s seats) Try(ctx context.Context, tx *gorm.DB, in takeSeats) error {
	return errors.Join(recordCall(ctx, tx), s.accounts.Try(ctx, tx, in.points()))
}

func (s seats) Confirm(ctx context.Context, tx *gorm.DB, in takeSeats) error {
	return errors.Join(recordCall(ctx, tx), s.accounts.Confirm(ctx, tx, in.points()))
}

func (s seats) Cancel(ctx context.Context, tx *gorm.DB, in takeSeats) error {
	return errors.Join(recordCall(ctx, tx), s.accounts.Cancel(ctx, tx, in.points()))
}

// tickets is the branch of takeTickets: one update for all orders of a show.
type tickets struct{ accounts points }

func (t tickets) Try(ctx context.Context, tx *gorm.DB, in takeTickets) error {
	return errors.Join(recordCall(ctx, tx), t.accounts.Try(ctx, tx, in.points()))
}

func (t tickets) Confirm(ctx context.Context, tx *gorm.DB, in takeTickets) error {
	return errors.Join(recordCall(ctx, tx), t.accounts.Confirm(ctx, tx, in.points()))
}

func (t tickets) Cancel(ctx context.Context, tx *gorm.DB, in takeTickets) error {
	return errors.Join(recordCall(ctx, tx), t.accounts.Cancel(ctx, tx, in.points()))
}

func (t tickets) TryAll(ctx context.Context, tx *gorm.DB, items []tcc.Item[takeTickets]) (failures []error, err error) {
	failures = make([]error, len(items))
	sums := map[string]int64{}
	for i, item := range items {
		if item.In.Tickets > 1000 {
			failures[i] = tcc.Reject(fmt.Errorf("%d tickets are too many", item.In.Tickets))
			continue
		}
		sums[item.In.Show] += item.In.Tickets
		if err := recordEffect(tx, item.GID, item.BranchID, item.Op); err != nil {
			return nil, err
		}
	}
	return failures, eachShow(sums, func(all takePoints) error { return t.accounts.Try(ctx, tx, all) })
}

func (t tickets) ConfirmAll(ctx context.Context, tx *gorm.DB, items []tcc.Item[takeTickets]) error {
	sums := map[string]int64{}
	for _, item := range items {
		sums[item.In.Show] += item.In.Tickets
		if err := recordEffect(tx, item.GID, item.BranchID, item.Op); err != nil {
			return err
		}
	}
	return eachShow(sums, func(all takePoints) error { return t.accounts.Confirm(ctx, tx, all) })
}

// eachShow calls f for each show, in the same order always, so that two batches wait for each
// other instead of deadlocking.
func eachShow(sums map[string]int64, f func(takePoints) error) error {
	var shows []string
	for show := range sums {
		shows = append(shows, show)
	}
	slices.Sort(shows)
	for _, show := range shows {
		if err := f(takePoints{show, sums[show]}); err != nil {
			return err
		}
	}
	return nil
}
