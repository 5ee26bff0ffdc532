package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"net/http"
	"net/http/httptest"

	"github.com/dtm-labs/client/dtmcli"
	"github.com/nats-io/nats.go/jetstream"
)

// dtmMsg is DTM's pattern msg: a local transaction of the service, with DTM's barrier, and
// a branch that publishes the message and waits for the acknowledgement.
type dtmMsg struct {
	*dtmServer
	db     *Database
	pool   *sql.DB
	busi   *httptest.Server
	stream *ownStream
	seen   func(id string)
}

func newDTMMsg(ctx context.Context, db *Database, seen func(id string)) (poster, error) {
	d := &dtmMsg{db: db, seen: seen}
	var err error
	if d.pool, err = db.DB.DB(); err != nil {
		return nil, err
	}
	if d.stream, err = openStream(ctx); err != nil {
		return nil, err
	}
	if d.dtmServer, err = startDTM(ctx, "barrier"); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /publish", d.publish)
	mux.HandleFunc("GET /query", d.query)
	d.busi = httptest.NewServer(mux)
	return d, db.ownBarrier()
}

// Place tolerates that the server gives up an order.
func (d *dtmMsg) Place(_ context.Context, o Order) error {
	msg := dtmcli.NewMsg(d.url, o.ID).Add(d.busi.URL+"/publish", o)
	err := msg.DoAndSubmitDB(d.busi.URL+"/query", d.pool, func(tx *sql.Tx) error { return oneRow(tx.Exec(insertOrder, o.ID, o.SKU)) })
	if err != nil {
		return failed{err}
	}
	return nil
}

// publish is the branch. A repeated message has the same id.
func (d *dtmMsg) publish(w http.ResponseWriter, r *http.Request) {
	var o Order
	err := json.NewDecoder(r.Body).Decode(&o)
	if err == nil {
		_, err = d.stream.js.Publish(r.Context(), d.stream.subject, []byte(o.ID), jetstream.WithMsgID(o.ID))
	}
	if err == nil {
		d.seen(o.ID)
	}
	answer(w, err)
}

// query tells the server whether the local transaction was committed.
func (d *dtmMsg) query(w http.ResponseWriter, r *http.Request) {
	barrier, err := dtmcli.BarrierFromQuery(r.URL.Query())
	if err == nil {
		err = barrier.QueryPrepared(d.pool)
	}
	answer(w, err)
}

func (d *dtmMsg) Close() error {
	err := d.stop()
	d.busi.Close()
	d.stream.close()
	d.db.close()
	return err
}
