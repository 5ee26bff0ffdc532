package embedded

import (
	"context"
	"fmt"
	"log/slog"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// Operations is for people who watch transactions and act on them, and for the tools that they
// use. It has all of the log, and the acts of operators. [Engine.Operations] returns that of an
// engine, and [OpenOperations] opens one without an engine. It is safe for concurrent use.
type Operations struct {
	*viewer
	*operators
	*bulks

	register func(saga.Branch) error
	waiter   *opened
	close    func()
}

// OperationsConfig configures an [Operations] without an engine. The zero value works.
type OperationsConfig struct {
	// Logger receives warnings and errors. Defaults to [slog.Default].
	Logger *slog.Logger
}

// OpenOperations opens the Operations of the log in db without an engine. It has no lease and
// drives no transaction. It writes an act into the log, and a running engine does the rest. It
// checks that the schema is complete.
//
// It knows no kinds of branches, unless they are registered with it. So the barrier rows of
// other databases and services are missing in [Operations.Lookup], and it cannot ask a branch
// that decides; see [saga.Step.Decides].
func OpenOperations(ctx context.Context, db *gorm.DB, config OperationsConfig) (*Operations, error) {
	e, err := openEngine(ctx, db, Config{Logger: config.Logger})
	if err != nil {
		return nil, txn.Wrap("open operations", "", err)
	}
	e.opened.passive = true
	o := e.Operations()
	o.viewer.running = false
	o.close = func() {
		e.life.End()
		e.calls.Close()
		e.shared.Close()
		e.log.Close()
	}
	return o, nil
}

// Operations returns the Operations of the engine.
func (e *Engine) Operations() *Operations {
	return &Operations{viewer: &e.viewer, operators: &e.operators, bulks: &bulks{log: e.log, operators: &e.operators}, waiter: &e.opened, register: e.Register, close: func() {}}
}

// Register registers a kind of branch, as [Engine.Register] does. Operations without an engine
// only read the barrier rows of its branches, and ask a branch that decides.
func (o *Operations) Register(b saga.Branch) error { return o.register(b) }

// Wait waits until a transaction is Confirmed or Cancelled; see [Engine.Wait].
func (o *Operations) Wait(ctx context.Context, gid string) (saga.Outcome, error) {
	return o.waiter.Wait(ctx, gid)
}

// Close frees the connections of Operations without an engine. It does nothing to the
// Operations of an engine.
func (o *Operations) Close() { o.close() }

// Refusal returns why an act of an operator on a transaction would be refused; empty if it would
// not be. It reads nothing: it says what t shows. The act is retry, pause, resume, confirm,
// cancel or resolve. The branchID is that of a resolve.
func (*Operations) Refusal(t *saga.Transaction, act, branchID string) string {
	switch act {
	case actRetry:
		return refusalOfRetry(t.State, !t.PausedAt.IsZero())
	case actPause:
		return refusalOfPause(t.State, !t.PausedAt.IsZero())
	case actResume:
		return refusalOfResume(!t.PausedAt.IsZero())
	case actConfirm, actCancel:
		return refusalOfDecision(t, act)
	case actResolve:
		return refusalOfResolve(t, branchID)
	}
	return fmt.Sprintf("there is no act %q", act)
}

func refusalOfRetry(state saga.State, paused bool) string {
	switch {
	case !state.Decided():
		return "it is undecided, and a retry is only possible after the decision"
	case state.Finished():
		return fmt.Sprintf("it is %s already", state)
	case paused:
		return "it is paused; resume it"
	}
	return ""
}

func refusalOfPause(state saga.State, paused bool) string {
	switch {
	case state.Finished():
		return fmt.Sprintf("it is %s already", state)
	case paused:
		return "it is paused already"
	}
	return ""
}

func refusalOfResume(paused bool) string {
	if !paused {
		return "it is not paused"
	}
	return ""
}

// refusalOfDecision returns why a decision would be refused.
func refusalOfDecision(t *saga.Transaction, act string) string {
	switch {
	case t.State.Decided():
		return fmt.Sprintf("it is %s already", t.State)
	case act == actCancel:
		return ""
	case t.Planned:
		return "it is being executed with a plan, which decides by itself"
	case t.Parent != "" && t.PreparedAt.IsZero():
		return "it is not prepared, so its parent " + t.Parent + " cannot be confirmed"
	}
	for _, b := range t.Branches {
		if !b.Tried {
			return fmt.Sprintf("branch %s, %s, has not been tried with success", b.ID, b.Kind)
		}
	}
	return ""
}

// refusalOfResolve returns why a resolve of a branch would be refused.
func refusalOfResolve(t *saga.Transaction, branchID string) string {
	switch {
	case !t.State.Decided():
		return "it is undecided"
	case t.State.Finished():
		return fmt.Sprintf("it is %s already", t.State)
	}
	for _, b := range t.Branches {
		op, err := endOf(t.State, b.Role)
		switch {
		case b.ID != branchID || err != nil:
			continue
		case !b.DoneAt.IsZero():
			return fmt.Sprintf("branch %s is done already", b.ID)
		case !conflicts(b, t.State):
			return fmt.Sprintf("the last %s of branch %s did not fail with a conflict, and is repeated until it succeeds", op, b.ID)
		}
		return ""
	}
	return "it has no branch " + branchID
}
