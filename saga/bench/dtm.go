package main

import (
	"context"
	"database/sql"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/dtm-labs/client/dtmcli"
	"github.com/go-resty/resty/v2"
)

// DTM is the DTM server with HTTP branches and DTM's own barrier, driven through DTM's own
// client, which waits for the result.
type DTM struct {
	*dtmServer
	db   *Database
	busi *httptest.Server
}

func newDTM(ctx context.Context, db *Database) (*DTM, error) {
	pool, err := db.DB.DB()
	if err != nil {
		return nil, err
	}
	server, err := startDTM(ctx, "dtm_barrier.barrier")
	if err != nil {
		return nil, err
	}
	return &DTM{server, db, httptest.NewServer(dtmBranches(pool, pool))}, nil
}

// dtmBranches are the services whose branches DTM calls: of the stock, and of the messages.
func dtmBranches(stock, messages *sql.DB) http.Handler {
	mux := http.NewServeMux()
	handle := func(path string, work func(tx *sql.Tx, o Order) (sql.Result, error)) {
		pool := stock
		if strings.HasPrefix(path, "/message") {
			pool = messages
		}
		handleBranch(mux, path, pool, work)
	}
	handle("/stock/try", func(tx *sql.Tx, o Order) (sql.Result, error) { return tx.Exec(tryStock, o.SKU) })
	handle("/stock/confirm", func(tx *sql.Tx, o Order) (sql.Result, error) { return tx.Exec(confirmStock, o.SKU) })
	handle("/stock/cancel", func(tx *sql.Tx, o Order) (sql.Result, error) { return tx.Exec(cancelStock, o.SKU) })
	handle("/message/try", func(tx *sql.Tx, o Order) (sql.Result, error) { return tx.Exec(prepare, o.ID, "02", []byte(o.ID)) })
	handle("/message/confirm", func(tx *sql.Tx, o Order) (sql.Result, error) { return tx.Exec(send, o.ID, "02") })
	handle("/message/cancel", func(tx *sql.Tx, o Order) (sql.Result, error) { return tx.Exec(discard, o.ID, "02") })
	return mux
}

func (d *DTM) Name() string { return "dtm" }

func (d *DTM) Place(_ context.Context, o Order) error { return placeTCC(d.dtmServer, d.busi, o) }

// placeTCC tolerates that the server gives up an order, because of a deadlock in its own
// tables, say.
func placeTCC(d *dtmServer, busi *httptest.Server, o Order) error {
	err := dtmcli.TccGlobalTransaction2(d.url, o.ID, func(t *dtmcli.Tcc) { t.WaitResult = true }, func(t *dtmcli.Tcc) (*resty.Response, error) {
		for _, branch := range []string{"/stock", "/message"} {
			url := busi.URL + branch
			if reply, err := t.CallBranch(o, url+"/try", url+"/confirm", url+"/cancel"); err != nil {
				return reply, err
			}
		}
		return nil, nil
	})
	if err != nil {
		return failed{err}
	}
	return nil
}

func (d *DTM) Close() error {
	err := d.stop()
	d.busi.Close()
	d.db.close()
	return err
}
