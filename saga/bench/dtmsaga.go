package main

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"net/http/httptest"

	"github.com/dtm-labs/client/dtmcli"
)

// services are two services, each with a database of its own: one of the stock and one of
// the orders.
type services struct{ stock, orders *Database }

// openServices uses db as the database of the stock.
func openServices(ctx context.Context, db *Database) (services, error) {
	orders, err := openDatabase(ctx, db.dialect)
	if err != nil {
		return services{}, err
	}
	return services{db, orders}, orders.Exec("CREATE TABLE bench_orders (id VARCHAR(64) NOT NULL PRIMARY KEY, sku VARCHAR(64) NOT NULL, quantity INT NOT NULL)").Error
}

func (s services) close() {
	s.orders.close()
	s.stock.close()
}

const deleteOrder = "DELETE FROM bench_orders WHERE id = ?"

// dtmSaga is DTM's pattern saga: an action in each of two services, each with DTM's barrier
// in its own database. The client waits for the result.
type dtmSaga struct {
	*dtmServer
	services
	busi *httptest.Server
}

func newDTMSaga(ctx context.Context, db *Database) (Contender, error) {
	both, err := openServices(ctx, db)
	if err != nil {
		return nil, err
	}
	server, err := startDTM(ctx, "barrier")
	if err != nil {
		return nil, err
	}
	stock, stockErr := both.stock.DB.DB()
	orders, ordersErr := both.orders.DB.DB()
	if err := errors.Join(stockErr, ordersErr, both.stock.ownBarrier(), both.orders.ownBarrier()); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	handleBranch(mux, "/stock/take", stock, func(tx *sql.Tx, o Order) (sql.Result, error) { return tx.Exec(takeStock, o.SKU) })
	handleBranch(mux, "/stock/return", stock, func(tx *sql.Tx, o Order) (sql.Result, error) { return tx.Exec(returnStock, o.SKU) })
	handleBranch(mux, "/order/create", orders, func(tx *sql.Tx, o Order) (sql.Result, error) { return tx.Exec(insertOrder, o.ID, o.SKU) })
	handleBranch(mux, "/order/delete", orders, func(tx *sql.Tx, o Order) (sql.Result, error) { return tx.Exec(deleteOrder, o.ID) })
	return &dtmSaga{server, both, httptest.NewServer(mux)}, nil
}

const (
	takeStock   = "UPDATE saga_stock SET available = available - 1, sold = sold + 1 WHERE sku = ? AND available >= 1"
	returnStock = "UPDATE saga_stock SET available = available + 1, sold = sold - 1 WHERE sku = ?"
)

func (d *dtmSaga) Name() string { return "dtm saga" }

// Place tolerates that the server gives up an order.
func (d *dtmSaga) Place(_ context.Context, o Order) error {
	saga := dtmcli.NewSaga(d.url, o.ID).
		Add(d.busi.URL+"/stock/take", d.busi.URL+"/stock/return", o).
		Add(d.busi.URL+"/order/create", d.busi.URL+"/order/delete", o)
	saga.WaitResult = true
	if err := saga.Submit(); err != nil {
		return failed{err}
	}
	return nil
}

func (d *dtmSaga) Close() error {
	err := d.stop()
	d.busi.Close()
	d.services.close()
	return err
}
