package saga

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/txlog"
)

// Within returns an [Engine] on the same log that knows only the transactions of
// one pattern, for callers that may not act on any other, such as the clients of
// an API. A gid of another pattern matches [ErrNotFound]; one that Begin or
// Execute asks for matches [ErrMismatch]. The pattern is read in the local
// transaction that makes the change, so that a gid that is removed and begun
// anew in between makes no difference.
//
// Begin and Execute take an Opening or a Plan with that pattern, or with none.
// Confirm and Cancel return when the decision is durable, and the calls of the
// branches go on in the background; Lookup tells how they go. Register makes a
// kind known to the whole orchestrator.
func (o *Orchestrator) Within(pattern string) Engine {
	return within{o, scope{only: true, pattern: pattern, returnDecided: true}}
}

// scope says which transactions a caller may act on, and how. The zero value is
// all, and to wait for the first call of each branch. It is a value of the
// context: the local transaction that makes a change checks it.
type scope struct {
	only          bool
	pattern       string
	returnDecided bool
}

type scopeKey struct{}

func scopeOf(ctx context.Context) scope {
	s, _ := ctx.Value(scopeKey{}).(scope)
	return s
}

func (s scope) has(pattern string) bool { return !s.only || s.pattern == pattern }

// holdWithin locks an open transaction, if the scope has to be checked.
func (o *Orchestrator) holdWithin(ctx context.Context, tx *gorm.DB, gid string) error {
	scope := scopeOf(ctx)
	if !scope.only {
		return nil
	}
	record, err := o.log.GetLocked(ctx, tx, gid)
	if err == nil && !scope.has(record.Pattern) || errors.Is(err, txlog.ErrNotFound) {
		return fmt.Errorf("%s: %w", gid, ErrNotFound)
	}
	return err
}

type within struct {
	o     *Orchestrator
	scope scope
}

func (w within) in(ctx context.Context) context.Context {
	return context.WithValue(ctx, scopeKey{}, w.scope)
}

func (w within) Register(b Branch) error { return w.o.Register(b) }

func (w within) Execute(ctx context.Context, p Plan) (Outcome, error) {
	if p.Pattern != "" && p.Pattern != w.scope.pattern {
		return Outcome{}, invalid("execute %s: the pattern is %q, only %q is known here", p.GID, p.Pattern, w.scope.pattern)
	}
	p.Pattern = w.scope.pattern
	return w.o.Execute(ctx, p)
}

func (w within) Begin(ctx context.Context, opening Opening) error {
	if opening.Pattern != "" && opening.Pattern != w.scope.pattern {
		return invalid("begin %s: the pattern is %q, only %q is known here", opening.GID, opening.Pattern, w.scope.pattern)
	}
	opening.Pattern = w.scope.pattern
	return w.o.Begin(ctx, opening)
}

func (w within) Try(ctx context.Context, gid, branchID string, step Step) error {
	return w.o.Try(w.in(ctx), gid, branchID, step)
}

func (w within) Confirm(ctx context.Context, gid string, options Options) (Outcome, error) {
	return w.o.Confirm(w.in(ctx), gid, options)
}

func (w within) Cancel(ctx context.Context, gid, reason string) (Outcome, error) {
	return w.o.Cancel(w.in(ctx), gid, reason)
}

func (w within) Lookup(ctx context.Context, gid string) (*Transaction, error) {
	found, err := w.o.Lookup(ctx, gid)
	if err == nil && !w.scope.has(found.Pattern) {
		return nil, fmt.Errorf("lookup %s: %w", gid, ErrNotFound)
	}
	return found, err
}
