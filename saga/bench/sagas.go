package main

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/action"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/remote"
)

// TakeStock and CreateOrder are the actions of two services.
type (
	TakeStock   struct{ SKU string }
	CreateOrder struct{ ID, SKU string }
)

func (TakeStock) Branch() string   { return "bench.take" }
func (CreateOrder) Branch() string { return "bench.create" }

type taking struct{}

func (taking) Do(_ context.Context, tx *gorm.DB, in TakeStock) (action.None, error) {
	return action.None{}, one(tx.Exec(takeStock, in.SKU))
}

func (taking) Compensate(_ context.Context, tx *gorm.DB, in TakeStock, _ action.None) error {
	return one(tx.Exec(returnStock, in.SKU))
}

type creating struct{}

func (creating) Do(_ context.Context, tx *gorm.DB, in CreateOrder) (action.None, error) {
	return action.None{}, one(tx.Exec(insertOrder, in.ID, in.SKU))
}

func (creating) Compensate(_ context.Context, tx *gorm.DB, in CreateOrder, _ action.None) error {
	return one(tx.Exec(deleteOrder, in.ID))
}

// Sagas is tccsaga with the actions of [dtmSaga]: each in a service with a database of its own,
// over signed HTTP. The log has a third database, as the DTM server has.
type Sagas struct {
	services
	log     *Database
	orch    *embedded.Engine
	ended   chan error
	servers []*httptest.Server
}

func newSagas(ctx context.Context, db *Database) (Contender, error) {
	both, err := openServices(ctx, db)
	if err != nil {
		return nil, err
	}
	log, err := openDatabase(ctx, db.dialect)
	if err != nil {
		return nil, err
	}
	orch, err := embedded.Open(ctx, log.DB, embedded.Config{})
	if err != nil {
		return nil, err
	}
	s := &Sagas{services: both, log: log, orch: orch, ended: make(chan error, 1)}
	key, err := remote.NewKey("bench", []byte("a secret of the benchmark, 32 bytes long"))
	if err != nil {
		return nil, err
	}
	stock, stockErr := s.host(ctx, both.stock, key, func(to saga.Registrar) error { return action.Register(to, taking{}) })
	orders, ordersErr := s.host(ctx, both.orders, key, func(to saga.Registrar) error { return action.Register(to, creating{}) })
	if err := errors.Join(stockErr, ordersErr); err != nil {
		return nil, err
	}
	err = errors.Join(action.RegisterRemote[TakeStock](orch, stock), action.RegisterRemote[CreateOrder](orch, orders))
	go func() { s.ended <- orch.Run(context.WithoutCancel(ctx)) }()
	return s, err
}

// host starts a service with its branches in db.
func (s *Sagas) host(ctx context.Context, db *Database, key remote.Key, register func(saga.Registrar) error) (*remote.Service, error) {
	host, err := remote.NewHost(ctx, db.DB, remote.HostConfig{Name: "bench", Keys: []remote.Key{key}})
	if err != nil {
		return nil, err
	}
	server := httptest.NewServer(host)
	s.servers = append(s.servers, server)
	service, err := remote.NewService(server.URL+"/branches", remote.ServiceConfig{Name: "bench", Keys: []remote.Key{key}})
	return service, errors.Join(err, register(host))
}

func (s *Sagas) Name() string { return "saga" }

func (s *Sagas) Place(ctx context.Context, o Order) error {
	outcome, err := action.NewSaga(o.ID).Step(TakeStock{o.SKU}).Step(CreateOrder{o.ID, o.SKU}).Execute(ctx, s.orch)
	if err == nil && outcome.State != saga.Confirmed {
		return fmt.Errorf("%s is %s", o.ID, outcome.State)
	}
	return err
}

func (s *Sagas) Close() error {
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
