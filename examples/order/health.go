package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"golang.org/x/sync/singleflight"

	"github.com/tccsaga/tccsaga/saga/embedded"
)

// health answers the probes of an orchestrator of containers. Its pages are served to
// everybody, so they show no error text.
type health struct {
	backend  *backend
	engine   *embedded.Engine
	stopping atomic.Bool
	probes   singleflight.Group // probes at the same time share the work
	mu       sync.Mutex
	logged   Readiness // to log changes only
}

// Readiness is the answer of GET /readyz. Each part is "ok", or says what is wrong.
type Readiness struct {
	Status   string `json:"status"` // ready, not ready, or stopping
	Lease    string `json:"lease"`
	Database string `json:"database"`
	Broker   string `json:"broker"`
}

// probeTimeout bounds the work on one probe. Kubernetes waits one second by default.
const probeTimeout = 900 * time.Millisecond

// getHealth is GET /healthz: the process answers. It looks at nothing else, because an
// orchestrator restarts a process that does not pass, and no restart mends a database.
func (*health) getHealth(c *gin.Context) { c.JSON(http.StatusOK, gin.H{"status": "ok"}) }

// getReady is GET /readyz: the service can take orders, and is not about to stop.
func (h *health) getReady(c *gin.Context) {
	now := h.readiness(c.Request.Context())
	status := http.StatusOK
	if now.Status != "ready" {
		status = http.StatusServiceUnavailable
	}
	c.JSON(status, now)
}

func (h *health) readiness(ctx context.Context) Readiness {
	// The probe that does the work may go away: the others get the answer all the same.
	ctx = context.WithoutCancel(ctx)
	found, _, _ := h.probes.Do("", func() (any, error) { return h.probe(ctx), nil })
	now := found.(Readiness)
	if h.stopping.Load() {
		now.Status = "stopping"
	}
	return now
}

func (h *health) probe(ctx context.Context) Readiness {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var lease, database, broker error
	var all sync.WaitGroup
	all.Go(func() { lease = h.holdsLease(ctx) })
	all.Go(func() { database = h.backend.db.WithContext(ctx).Exec("SELECT 1").Error })
	all.Go(func() { broker = h.backend.askBroker(ctx) })
	all.Wait()
	now := Readiness{Status: "ready", Lease: "ok", Database: "ok", Broker: "ok"}
	for _, part := range []struct {
		err   error
		text  *string
		wrong string
	}{
		{lease, &now.Lease, "this instance holds no lease"},
		{database, &now.Database, "the database does not answer"},
		{broker, &now.Broker, "the broker does not answer"},
	} {
		if part.err != nil {
			now.Status, *part.text = "not ready", part.wrong
		}
	}
	h.log(now, errors.Join(lease, database, broker))
	return now
}

// holdsLease returns an error if this instance does not hold its lease.
func (h *health) holdsLease(ctx context.Context) error {
	instances, err := h.engine.Operations().Instances(ctx)
	if err != nil {
		return err
	}
	for _, instance := range instances {
		if instance.This && instance.Alive {
			return nil
		}
	}
	return errors.New("this instance holds no lease")
}

// log logs why the service is not ready, once, and when it is ready again.
func (h *health) log(now Readiness, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now == h.logged {
		return
	}
	first := h.logged == Readiness{}
	h.logged = now
	switch {
	case err != nil:
		slog.Warn("not ready", slog.Any("error", err))
	case !first:
		slog.Info("ready again")
	}
}
