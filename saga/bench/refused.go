package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/dtm-labs/client/dtmcli"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/tcc"
)

// Refused is a message that its service refuses, so that the order is cancelled.
type Refused struct{ Text string }

func (Refused) Branch() string { return "bench.refused" }

type refusals struct{}

var errRefused = errors.New("no messages today")

func (refusals) Try(context.Context, *gorm.DB, Refused) error     { return tcc.Reject(errRefused) }
func (refusals) Confirm(context.Context, *gorm.DB, Refused) error { return nil }
func (refusals) Cancel(context.Context, *gorm.DB, Refused) error  { return nil }

// newServicesRefused is [newServices] with orders that are cancelled by the second Try.
func newServicesRefused(ctx context.Context, name string, db *Database) (Contender, error) {
	s, to, err := openRemote(ctx, name, db, func(r saga.Registrar) error { return tcc.Register(r, locks{}) },
		func(r saga.Registrar) error { return tcc.Register(r, refusals{}) })
	if err != nil {
		return nil, err
	}
	s.want = saga.Cancelled
	s.place = func(ctx context.Context, o Order) (saga.Outcome, error) {
		return tcc.Execute(ctx, s.orch, o.ID, Lock{o.SKU}, Refused{o.ID})
	}
	return refusedBy{s}, errors.Join(err, tcc.RegisterRemote[Lock](s.orch, to[0]), tcc.RegisterRemote[Refused](s.orch, to[1]))
}

// refusedBy checks that every cancelled order has given its stock back.
type refusedBy struct{ *Services }

func (s refusedBy) Close() error { return errors.Join(s.stock.nothingLocked(), s.Services.Close()) }

// nothingLocked returns an error if the stock is not as it was at the begin.
func (d *Database) nothingLocked() error {
	var locked, sold int64
	if err := d.Raw("SELECT SUM(locked), SUM(sold) FROM saga_stock").Row().Scan(&locked, &sold); err != nil {
		return err
	}
	if locked != 0 || sold != 0 {
		return fmt.Errorf("after cancelled orders, %d pieces are locked and %d are sold", locked, sold)
	}
	return nil
}

// dtmRefused is [dtmServices] with the same.
type dtmRefused struct{ *dtmServices }

func newDTMRefused(ctx context.Context, db *Database) (Contender, error) {
	both, err := newDTMServices(ctx, db)
	if err != nil {
		return nil, err
	}
	d := both.(*dtmServices)
	stock, stockErr := d.stock.DB.DB()
	orders, ordersErr := d.orders.DB.DB()
	d.busi.Close()
	mux := http.NewServeMux()
	handleBranch(mux, "/stock/try", stock, func(tx *sql.Tx, o Order) (sql.Result, error) { return tx.Exec(tryStock, o.SKU) })
	handleBranch(mux, "/stock/cancel", stock, func(tx *sql.Tx, o Order) (sql.Result, error) { return tx.Exec(cancelStock, o.SKU) })
	handleBranch(mux, "/message/try", orders, func(*sql.Tx, Order) (sql.Result, error) {
		return nil, fmt.Errorf("%w: %w", errRefused, dtmcli.ErrFailure)
	})
	handleBranch(mux, "/message/cancel", orders, func(*sql.Tx, Order) (sql.Result, error) { return nil, errors.New("there is nothing to cancel") })
	d.busi = httptest.NewServer(mux)
	return dtmRefused{d}, errors.Join(stockErr, ordersErr)
}

// Place tolerates that the server gives up an order.
func (d dtmRefused) Place(ctx context.Context, o Order) error {
	switch err := d.dtmServices.Place(ctx, o); {
	case err == nil:
		return fmt.Errorf("%s is confirmed", o.ID)
	case errors.Is(err, dtmcli.ErrFailure):
		return nil
	default:
		return err
	}
}

// Close says if orders are left that the server did not cancel before it answered.
func (d dtmRefused) Close() error {
	if err := d.stock.nothingLocked(); err != nil {
		fmt.Fprintln(os.Stderr, "dtm:", err)
	}
	return d.dtmServices.Close()
}
