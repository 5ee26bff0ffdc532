package saga

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
)

// Operator says who does something to a transaction by hand, and why. Both are
// needed, at most 128 and 1,024 characters, and recorded with the act, in the
// same local transaction; Lookup shows them.
type Operator struct {
	Who string `json:"who"`
	Why string `json:"why"`
}

// ErrRefused is wrapped when an operator's act would do nothing or break a
// promise. The error says why. Nothing was written.
var ErrRefused = errors.New("saga: refused")

// byOperator is who decided, as the log names it.
const byOperator = "operator"

// Names of acts in the log.
const (
	actRetry   = "retry"
	actPause   = "pause"
	actResume  = "resume"
	actConfirm = "confirm"
	actCancel  = "cancel"
	actResolve = "resolve"
)

// Retry makes every unfinished branch of a decided transaction due now, instead
// of at its next attempt, and takes back its attention. Limits still hold.
func (o *Orchestrator) Retry(ctx context.Context, gid string, by Operator) error {
	return o.actOn(ctx, gid, actRetry, by, func(tx *gorm.DB, r txlog.Record) error {
		switch state := State(r.State); {
		case !state.Decided():
			return fmt.Errorf("it is undecided, and there is nothing to retry before the decision: %w", ErrRefused)
		case state.Finished():
			return fmt.Errorf("it is %s already: %w", state, ErrRefused)
		case r.Paused():
			return fmt.Errorf("it is paused; resume it: %w", ErrRefused)
		}
		return o.log.Retry(ctx, tx, gid)
	})
}

// Pause keeps a transaction's branches from being called, by any instance,
// until Resume; calls under way come to their end. Its decision is not held up:
// an undecided transaction is still cancelled at its deadline, and the Cancels
// then wait.
func (o *Orchestrator) Pause(ctx context.Context, gid string, by Operator) error {
	return o.actOn(ctx, gid, actPause, by, func(tx *gorm.DB, r txlog.Record) error {
		switch {
		case State(r.State).Finished():
			return fmt.Errorf("it is %s already: %w", r.State, ErrRefused)
		case r.Paused():
			return fmt.Errorf("it is paused already: %w", ErrRefused)
		}
		return o.log.Pause(ctx, tx, gid)
	})
}

// Resume undoes Pause. What is due goes on at once.
func (o *Orchestrator) Resume(ctx context.Context, gid string, by Operator) error {
	return o.actOn(ctx, gid, actResume, by, func(tx *gorm.DB, r txlog.Record) error {
		if !r.Paused() {
			return fmt.Errorf("it is not paused: %w", ErrRefused)
		}
		return o.log.Resume(ctx, tx, gid)
	})
}

// Decide makes the decision of a transaction that is stuck without one: state
// is Confirming or Cancelling. It goes the same way as every decision, so it
// is refused if there is one already, with [ErrCancelled], [ErrConfirmed] or, if it
// is the same, [ErrRefused];
// confirming also if a branch has not been tried with success, after the
// deadline, and while the transaction is executed with a plan, which decides by
// itself.
func (o *Orchestrator) Decide(ctx context.Context, gid string, state State, by Operator) (Outcome, error) {
	if err := by.check(); err != nil {
		return Outcome{}, invalid("decide %s: %w", gid, err)
	}
	switch act := (&txlog.Act{GID: gid, Who: by.Who, Why: by.Why}); state {
	case Confirming:
		act.Name = actConfirm
		return o.confirmOpen(ctx, gid, byOperator, act, false)
	case Cancelling:
		act.Name = actCancel
		return o.cancelOpen(ctx, gid, byOperator, reason{text: "cancelled by " + by.Who + ": " + by.Why, code: CodeOperator}, act)
	default:
		return Outcome{}, invalid("decide %s: the decision is %q, it must be Confirming or Cancelling", gid, string(state))
	}
}

// PauseKind keeps all branches of a kind from being called, in every instance,
// until ResumeKind: Confirms and Cancels wait, and new transactions and Trys
// with the kind are refused with [ErrPaused]. Instances learn of it within
// [Config.Poll]; calls under way come to their end. The kind need not be
// registered here.
func (o *Orchestrator) PauseKind(ctx context.Context, kind string, by Operator) error {
	return o.actOnKind(ctx, kind, actPause, by, func(tx *gorm.DB) error { return o.log.PauseKind(ctx, tx, kind) })
}

// ResumeKind undoes PauseKind. What waits goes on within [Config.MaxRetry].
func (o *Orchestrator) ResumeKind(ctx context.Context, kind string, by Operator) error {
	return o.actOnKind(ctx, kind, actResume, by, func(tx *gorm.DB) error {
		paused, err := o.log.ResumeKind(ctx, tx, kind)
		if err == nil && !paused {
			err = fmt.Errorf("it is not paused: %w", ErrRefused)
		}
		return err
	})
}

// PausedKinds returns the kinds of branch that are paused, in order.
func (o *Orchestrator) PausedKinds(ctx context.Context) ([]string, error) {
	if err := o.readPausedKinds(ctx); err != nil {
		return nil, fmt.Errorf("saga: paused kinds: %w", err)
	}
	return o.paused.list(), nil
}

// actOn does something to a transaction that it has locked, and records it.
func (o *Orchestrator) actOn(ctx context.Context, gid, act string, by Operator, do func(tx *gorm.DB, r txlog.Record) error) error {
	if err := barrier.ValidateGID(gid); err != nil {
		return invalid("%s: %w", act, err)
	}
	if err := by.check(); err != nil {
		return invalid("%s %s: %w", act, gid, err)
	}
	return o.record(ctx, txlog.Act{GID: gid, Name: act, Who: by.Who, Why: by.Why}, do)
}

// record does an act on a transaction that it has locked, and writes it down.
func (o *Orchestrator) record(ctx context.Context, act txlog.Act, do func(tx *gorm.DB, r txlog.Record) error) error {
	gid := act.GID
	err := local.Run(ctx, o.db, func(tx *gorm.DB) error {
		record, err := o.log.GetLocked(ctx, tx, gid)
		if errors.Is(err, txlog.ErrNotFound) {
			return ErrNotFound
		}
		if err != nil {
			return err
		}
		if err := do(tx, record); err != nil {
			return err
		}
		return o.log.Record(ctx, tx, act)
	})
	if err != nil {
		return fmt.Errorf("%s %s: %w", act.Name, gid, err)
	}
	o.wakeAfter(0)
	return nil
}

func (o *Orchestrator) actOnKind(ctx context.Context, kind, act string, by Operator, do func(tx *gorm.DB) error) error {
	if !validKind.MatchString(kind) {
		return invalid("%s: the kind of branch %.80q cannot be one", act, kind)
	}
	if err := by.check(); err != nil {
		return invalid("%s %s: %w", act, kind, err)
	}
	err := local.Run(ctx, o.db, func(tx *gorm.DB) error {
		if err := do(tx); err != nil {
			return err
		}
		return o.log.Record(ctx, tx, txlog.Act{Kind: kind, Name: act, Who: by.Who, Why: by.Why})
	})
	if err == nil {
		err = o.readPausedKinds(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", act, kind, err)
	}
	return nil
}

func (by Operator) check() error {
	for _, text := range []struct {
		name, value string
		most        int
	}{{"Who", by.Who, 128}, {"Why", by.Why, 1024}} {
		switch n := utf8.RuneCountInString(text.value); {
		case n == 0:
			return fmt.Errorf("the Operator.%s is empty: acts are recorded with who and why", text.name)
		case n > text.most:
			return fmt.Errorf("the Operator.%s has %d characters, %d are allowed", text.name, n, text.most)
		case clip(text.value, text.most) != text.value:
			return fmt.Errorf("the Operator.%s is not UTF-8 text", text.name)
		}
	}
	return nil
}

// pausedKinds are the kinds of branch that are known here to be paused.
type pausedKinds struct {
	reading sync.Mutex // so that what was read earlier is not set later

	mu    sync.RWMutex
	kinds map[string]struct{}
}

func (p *pausedKinds) has(kind string) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	_, paused := p.kinds[kind]
	return paused
}

func (p *pausedKinds) list() []string {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return slices.Sorted(maps.Keys(p.kinds))
}

func (p *pausedKinds) set(kinds []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kinds = make(map[string]struct{}, len(kinds))
	for _, kind := range kinds {
		p.kinds[kind] = struct{}{}
	}
}

func (o *Orchestrator) readPausedKinds(ctx context.Context) error {
	o.paused.reading.Lock()
	defer o.paused.reading.Unlock()
	kinds, err := o.log.PausedKinds(ctx)
	if err == nil {
		o.paused.set(kinds)
	}
	return err
}

// watchPausedKinds asks the log, every [Config.Poll], which kinds of branch are
// paused, until ctx ends.
func (o *Orchestrator) watchPausedKinds(ctx context.Context) {
	ticker := time.NewTicker(o.config.Poll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-o.stopping:
			return
		case <-ticker.C:
		}
		reading, cancel := context.WithTimeout(ctx, o.config.Lease)
		if err := o.readPausedKinds(reading); err != nil {
			o.warn(ctx, "saga: asking which kinds of branch are paused", err)
		}
		cancel()
	}
}
