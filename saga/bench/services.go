package main

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"time"

	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/tcc"
)

// Services is tccsaga with its branches in two services, each with a database of its own,
// over signed HTTP. The log has a third database, as the DTM server has.
type Services struct {
	name string
	services
	log     *Database
	orch    *embedded.Engine
	ended   chan error
	servers []*httptest.Server
	want    saga.State
	place   func(ctx context.Context, o Order) (saga.Outcome, error)
}

// openRemote starts an engine, and a service for each of two sets of branches.
func openRemote(ctx context.Context, name string, db *Database, stockBranches, orderBranches func(saga.Registrar) error) (*Services, [2]*remote.Service, error) {
	var both [2]*remote.Service
	dbs, err := openServices(ctx, db)
	if err != nil {
		return nil, both, err
	}
	log, err := openDatabase(ctx, db.dialect)
	if err != nil {
		return nil, both, err
	}
	orch, err := embedded.Open(ctx, log.DB, embedded.Config{})
	if err != nil {
		return nil, both, err
	}
	s := &Services{name: name, services: dbs, log: log, orch: orch, ended: make(chan error, 1), want: saga.Confirmed}
	key, err := remote.NewKey("bench", []byte("a secret of the benchmark, 32 bytes long"))
	if err != nil {
		return nil, both, err
	}
	var stockErr, ordersErr error
	both[0], stockErr = s.host(ctx, dbs.stock, key, stockBranches)
	both[1], ordersErr = s.host(ctx, dbs.orders, key, orderBranches)
	go func() { s.ended <- orch.Run(context.WithoutCancel(ctx)) }()
	return s, both, errors.Join(stockErr, ordersErr)
}

// host starts a service with its branches in db.
func (s *Services) host(ctx context.Context, db *Database, key remote.Key, register func(saga.Registrar) error) (*remote.Service, error) {
	host, err := remote.NewHost(ctx, db.DB, remote.HostConfig{Name: "bench", Keys: []remote.Key{key}})
	if err != nil {
		return nil, err
	}
	server := httptest.NewServer(host)
	s.servers = append(s.servers, server)
	service, err := remote.NewService(server.URL+"/branches", remote.ServiceConfig{Name: "bench", Keys: []remote.Key{key}})
	return service, errors.Join(err, register(host))
}

// newServices returns the contenders with TCC branches: those that a user wrote, or ready-made
// ones.
func newServices(ctx context.Context, name string, db *Database) (Contender, error) {
	bulk := name == "services bulk"
	s, to, err := openRemote(ctx, name, db, func(r saga.Registrar) error {
		return errors.Join(tcc.Register(r, locks{}), tcc.Register(r, stock.New(db.DB)))
	}, func(r saga.Registrar) error {
		return errors.Join(tcc.Register(r, messages{}), tcc.Register(r, sent{}))
	})
	if err != nil {
		return nil, err
	}
	err = errors.Join(tcc.RegisterRemote[Lock](s.orch, to[0]), tcc.RegisterRemote[stock.Lock](s.orch, to[0]),
		tcc.RegisterRemote[Message](s.orch, to[1]), tcc.RegisterRemote[Sent](s.orch, to[1]))
	plan := plans["plain"]("")
	if bulk {
		plan = plans["tccsaga"]("")
	}
	s.place = func(ctx context.Context, o Order) (saga.Outcome, error) {
		return tcc.Execute(ctx, s.orch, o.ID, plan(o)...)
	}
	return s, err
}

func (s *Services) Name() string { return s.name }

func (s *Services) Place(ctx context.Context, o Order) error {
	outcome, err := s.place(ctx, o)
	if errors.Is(err, saga.ErrCancelled) && s.want == saga.Cancelled {
		err = nil
	}
	if err == nil && outcome.State != s.want {
		return fmt.Errorf("%s is %s", o.ID, outcome.State)
	}
	return err
}

func (s *Services) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := errors.Join(s.orch.Stop(ctx), <-s.ended)
	for _, server := range s.servers {
		server.Close()
	}
	s.services.close()
	s.log.close()
	return err
}

// dtmServices is a DTM server with its branches in two services, each with DTM's barrier in
// its own database.
type dtmServices struct {
	*dtmServer
	services
	busi *httptest.Server
}

func newDTMServices(ctx context.Context, db *Database) (Contender, error) {
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
	return &dtmServices{server, both, httptest.NewServer(dtmBranches(stock, orders))}, nil
}

func (d *dtmServices) Name() string { return "dtm services" }

func (d *dtmServices) Place(_ context.Context, o Order) error {
	return placeTCC(d.dtmServer, d.busi, o)
}

func (d *dtmServices) Close() error {
	err := d.stop()
	d.busi.Close()
	d.services.close()
	return err
}
