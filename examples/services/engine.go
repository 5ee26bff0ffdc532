package main

import (
	"context"
	"net/url"
	"time"

	"github.com/tccsaga/tccsaga/examples/internal/redact"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/dtm"
	"github.com/tccsaga/tccsaga/saga/embedded"
)

// openEngine opens what drives the transactions: all that differs between the
// embedded orchestrator and a DTM server. Run it once all branches are registered.
func openEngine(ctx context.Context, config Config, s *service) (engine saga.Engine, run func(context.Context) error, err error) {
	if config.Engine == "dtm" {
		// The server calls the branches of this process as it calls the others.
		engine, err = dtm.Open(ctx, config.DTM, dtm.Config{Host: s.host, HostURL: config.OrderURL + "/branches", RetryInterval: time.Second})
		if at, wrong := url.Parse(config.DTM); wrong == nil {
			err = redact.Error(err, at)
		}
		return engine, func(ctx context.Context) error { <-ctx.Done(); return nil }, err
	}
	orch, err := embedded.Open(ctx, s.db, embedded.Config{MaxBackoff: 5 * time.Second})
	if err != nil {
		return nil, nil, err
	}
	return orch, orch.Run, nil
}

// driver is an engine that runs. A nil one is that of a service without an engine.
type driver struct {
	halt   context.CancelFunc
	done   chan struct{}
	failed error // readable after done
}

// drive runs an engine until stop, not only until ctx ends: the requests that are
// under way then still need it.
func drive(ctx context.Context, run func(context.Context) error) *driver {
	running, halt := context.WithCancel(context.WithoutCancel(ctx))
	d := &driver{halt: halt, done: make(chan struct{})}
	go func() {
		defer close(d.done)
		d.failed = run(running)
	}()
	return d
}

// ended is closed when the engine has ended by itself, or by stop.
func (d *driver) ended() <-chan struct{} {
	if d == nil {
		return nil
	}
	return d.done
}

// stop drains the engine: it waits for what is under way, for as long as
// embedded.Config.StopTimeout allows.
func (d *driver) stop() error {
	if d == nil {
		return nil
	}
	d.halt()
	<-d.done
	return d.failed
}
