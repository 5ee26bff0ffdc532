package saga

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/tccsaga/tccsaga/saga/barrier"
)

// Attention says that a person should look at a transaction, and why.
type Attention struct {
	GID   string
	State State  // Confirming or Cancelling; empty if this instance does not drive it
	Why   string // the same as Summary.Attention
}

// attention returns why a round raises its transaction to attention; empty if
// it does not, or if that was done before. A conflict counts more than what was
// there.
func (r *round) attention() string {
	o, t := r.o, r.txn
	for _, s := range t.steps {
		if cause := r.failures[s]; errors.Is(cause, barrier.ErrConflict) {
			why := clip(fmt.Sprintf("conflict: branch %s, %s: %v", s.id, s.kind, cause), maxReason)
			if why == t.attention {
				return ""
			}
			return why
		}
	}
	if t.attention != "" {
		return ""
	}
	for _, s := range t.steps {
		if cause := r.failures[s]; cause != nil && s.failed >= o.config.AttentionAttempts {
			return clip(fmt.Sprintf("attempts: branch %s, %s, has failed %d times, the last time with: %v", s.id, s.kind, s.failed, cause), maxReason)
		}
	}
	if age := time.Since(t.decided); age >= o.config.AttentionAge {
		for _, s := range t.steps {
			if !s.done {
				return clip(fmt.Sprintf("age: decided %s ago, and branch %s, %s, is not done: %s", age.Round(time.Second), s.id, s.kind, r.whyNotDone(s)), maxReason)
			}
		}
	}
	return ""
}

func (r *round) whyNotDone(s *step) string {
	switch cause := r.failures[s]; {
	case cause != nil:
		return cause.Error()
	case s.held != "":
		return s.held
	default:
		return "it waits for its next attempt"
	}
}

// alarm tells the user that a transaction was raised to attention.
func (o *Orchestrator) alarm(t *txn) {
	o.config.Logger.Error("saga: a transaction needs attention", slog.String("gid", t.gid),
		slog.String("state", string(t.state)), slog.String("why", t.attention))
	if o.config.OnAttention == nil || !o.inFlight.Enter() {
		return
	}
	raised := Attention{GID: t.gid, State: t.state, Why: t.attention}
	go func() {
		defer o.inFlight.Leave()
		defer func() {
			if p := recover(); p != nil {
				o.config.Logger.Error("saga: OnAttention panicked", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			}
		}()
		ctx, cancel := context.WithTimeout(o.work, o.config.CallTimeout)
		defer cancel()
		o.config.OnAttention(ctx, raised)
	}()
}
