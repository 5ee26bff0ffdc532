package main

import (
	"context"
	"net/url"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/tccsaga/tccsaga/examples/internal/redact"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/dtm"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/remote"
)

// openEngine opens the engine: the embedded one, or one on a DTM server. The rest of the
// service is the same for both. Call run when all branches are registered.
func openEngine(ctx context.Context, config Config, s *service) (engine saga.Engine, run func(context.Context) error, err error) {
	if config.Engine == "dtm" {
		// The server calls the branches of this process as it calls the others.
		engine, err = dtm.Open(ctx, config.DTM, dtm.Config{Host: s.host, HostURL: config.OrderURL + "/branches", RetryInterval: time.Second})
		if at, wrong := url.Parse(config.DTM); wrong == nil {
			err = redact.Error(err, at)
		}
		return engine, func(ctx context.Context) error { <-ctx.Done(); return nil }, err
	}
	embeddedEngine, err := embedded.Open(ctx, s.db, embedded.Config{MaxBackoff: 5 * time.Second})
	if err != nil {
		return nil, nil, err
	}
	// The other services ask here for the outcome of an order, if they are not told.
	keys, err := signingKeys(config)
	if err != nil {
		return nil, nil, err
	}
	outcomes, err := remote.NewOutcomes(embeddedEngine, remote.OutcomesConfig{Name: "order", Keys: keys})
	if err != nil {
		return nil, nil, err
	}
	s.routes.GET("/outcomes", gin.WrapH(outcomes))
	return embeddedEngine, embeddedEngine.Run, nil
}

// driver is a running engine. It is nil in a service without an engine.
type driver struct {
	halt   context.CancelFunc
	done   chan struct{}
	failed error // readable after done
}

// drive starts an engine. The engine runs until stop is called. It does not stop when ctx
// ends, because the requests under way still use it.
func drive(ctx context.Context, run func(context.Context) error) *driver {
	running, halt := context.WithCancel(context.WithoutCancel(ctx))
	d := &driver{halt: halt, done: make(chan struct{})}
	go func() {
		defer close(d.done)
		d.failed = run(running)
	}()
	return d
}

// ended returns a channel that is closed when the engine has ended.
func (d *driver) ended() <-chan struct{} {
	if d == nil {
		return nil
	}
	return d.done
}

// stop stops the engine. It waits for the calls under way, for at most
// embedded.Config.StopTimeout.
func (d *driver) stop() error {
	if d == nil {
		return nil
	}
	d.halt()
	<-d.done
	return d.failed
}
