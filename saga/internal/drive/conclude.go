package drive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/reason"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// conclude writes what the round came to: the end, or the failures.
func (r *round) conclude(ctx context.Context) error {
	d, t := r.d, r.txn
	due, waiting := r.pending()
	if len(t.Steps) == 0 && t.Planned {
		return errors.New("the log names no branch of a transaction that was begun with some: it is not finished without them")
	}
	if len(due)+len(waiting) == 0 {
		err := local.Run(ctx, d.DB, func(tx *gorm.DB) error { return d.Log.Finish(ctx, tx, t.GID, t.Epoch) })
		r.finished = err == nil
		return err
	}
	var failures []txlog.Failure
	next := d.MaxBackoff
	for _, s := range due {
		cause := r.failures[s]
		if cause == nil {
			// The commit that it shared has failed for a reason of the log's.
			continue
		}
		s.Failed++
		pause := d.backoff(ctx, s.Failed)
		next = min(next, pause)
		code := ""
		if errors.Is(cause, barrier.ErrConflict) {
			code = saga.CodeConflict
		}
		failures = append(failures, txlog.Failure{BranchID: s.ID, Operation: string(r.op), Attempt: s.Failed,
			Error: reason.ClipError(cause.Error()), Code: code, Instance: d.Instance, Next: pause})
		d.Logger.Warn("saga: a branch call failed and will be repeated", slog.String("gid", t.GID),
			slog.String("branch", s.ID), slog.String("kind", s.Kind), slog.String("operation", string(r.op)),
			slog.Int("attempt", s.Failed), slog.Duration("next", pause), slog.Any("error", cause))
	}
	if len(failures) == 0 && len(waiting) == 0 {
		return nil // due again when the lease is
	}
	for _, s := range waiting {
		next = min(next, s.Wait)
	}
	var unmarked []string
	for _, s := range t.Steps {
		if marked, done := r.marked[s]; done && !marked {
			unmarked = append(unmarked, s.ID)
		}
	}
	attention := r.attention()
	err := local.Run(ctx, d.DB, func(tx *gorm.DB) error {
		if err := d.Log.Done(ctx, tx, t.GID, unmarked...); err != nil {
			return err
		}
		return d.Log.Fail(ctx, tx, txlog.Retry{GID: t.GID, Epoch: t.Epoch, Due: next, Attention: attention, Release: r.release}, failures)
	})
	if err != nil {
		return err
	}
	t.Next = next
	for _, s := range slices.Concat(due, waiting) {
		if s.Branch != nil && !d.Paused.Has(s.Kind) {
			s.Branch.Breaker.Postpone(t.GID)
		}
	}
	if attention != "" {
		t.Attention = attention
		d.Alarm(t)
	}
	return nil
}

// attention returns why a round raises its transaction to attention; empty if
// it does not, or if that was done before. A conflict counts more than what was
// there.
func (r *round) attention() string {
	d, t := r.d, r.txn
	for _, s := range t.Steps {
		if cause := r.failures[s]; errors.Is(cause, barrier.ErrConflict) {
			why := reason.Clip(fmt.Sprintf("conflict: branch %s, %s: %v", s.ID, s.Kind, cause))
			if why == t.Attention {
				return ""
			}
			return why
		}
	}
	if t.Attention != "" {
		return ""
	}
	for _, s := range t.Steps {
		if cause := r.failures[s]; cause != nil && s.Failed >= d.AttentionAttempts {
			return reason.Clip(fmt.Sprintf("attempts: branch %s, %s, has failed %d times, the last time with: %v", s.ID, s.Kind, s.Failed, cause))
		}
	}
	if age := time.Since(t.Decided); age >= d.AttentionAge {
		for _, s := range t.Steps {
			if !s.Done {
				return reason.Clip(fmt.Sprintf("age: decided %s ago, and branch %s, %s, is not done: %s", age.Round(time.Second), s.ID, s.Kind, r.whyNotDone(s)))
			}
		}
	}
	return ""
}

func (r *round) whyNotDone(s *txn.Step) string {
	switch cause := r.failures[s]; {
	case cause != nil:
		return cause.Error()
	case s.Held != "":
		return s.Held
	default:
		return "it waits for its next attempt"
	}
}
