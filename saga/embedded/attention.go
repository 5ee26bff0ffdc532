package embedded

import (
	"context"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/inflight"
	"github.com/tccsaga/tccsaga/saga/internal/lifetime"
	"github.com/tccsaga/tccsaga/saga/internal/observe"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// Attention says that a person should look at a transaction, and why.
type Attention struct {
	GID   string
	State saga.State // Confirming or Cancelling; empty if this instance does not drive it
	Why   string     // as in Summary.Attention
}

// alarm reports the transactions that were raised to attention: to the Logger and to
// OnAttention.
type alarm struct {
	logger   *slog.Logger
	hook     func(context.Context, Attention) // nil for none
	inFlight *inflight.Registry
	life     *lifetime.Lifetime
	timeout  time.Duration
	observe  *observe.Notifier
}

// raise reports a transaction. It calls the hook in a goroutine of its own.
func (a *alarm) raise(t *txn.Txn) {
	a.logger.Error("saga: a transaction needs attention", slog.String("gid", t.GID),
		slog.String("state", string(t.State)), slog.String("why", t.Attention))
	a.observe.Attention(a.life.Context(), t.Subject(), t.Attention)
	if a.hook == nil || !a.inFlight.Enter() {
		return
	}
	raised := Attention{GID: t.GID, State: t.State, Why: t.Attention}
	go func() {
		defer a.inFlight.Leave()
		defer func() {
			if p := recover(); p != nil {
				a.logger.Error("saga: OnAttention panicked", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			}
		}()
		ctx, cancel := context.WithTimeout(a.life.Context(), a.timeout)
		defer cancel()
		a.hook(ctx, raised)
	}()
}
