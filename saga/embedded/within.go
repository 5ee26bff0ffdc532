package embedded

import (
	"context"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// Within returns a [saga.Engine] on the same log that acts only on the transactions of one
// pattern. Use it for callers that must not act on others, such as the clients of an API. For
// a gid of another pattern, Begin and Execute return an error that matches
// [saga.ErrMismatch], and the other methods one that matches [saga.ErrNotFound]. The pattern
// is read in the local transaction that makes the change. So the check holds even if a gid is
// removed and begun again.
//
// Begin and Execute accept an Opening or a Plan with that pattern, or with none. Confirm and
// Cancel return when the decision is durable, and the calls of the branches continue in the
// background; Lookup shows their progress. Register registers a kind for the whole engine.
func (e *Engine) Within(pattern string) saga.Engine {
	return within{e, scope{only: true, pattern: pattern, returnDecided: true}}
}

// scope restricts a caller to the transactions of one pattern. The zero value is no
// restriction. It is a value of the context, and the local transaction that makes a change
// checks it.
type scope struct {
	only          bool
	pattern       string
	returnDecided bool // Confirm and Cancel do not wait for the first call of each branch
}

type scopeKey struct{}

func scopeOf(ctx context.Context) scope {
	s, _ := ctx.Value(scopeKey{}).(scope)
	return s
}

// unscoped returns ctx without a scope, for the calls of branches: a branch may be a nested
// transaction of another pattern.
func unscoped(ctx context.Context) context.Context {
	if !scopeOf(ctx).only {
		return ctx
	}
	return context.WithValue(ctx, scopeKey{}, scope{})
}

func (s scope) has(pattern string) bool { return !s.only || s.pattern == pattern }

type within struct {
	engine *Engine
	scope  scope
}

func (w within) in(ctx context.Context) context.Context {
	return context.WithValue(ctx, scopeKey{}, w.scope)
}

func (w within) Register(b saga.Branch) error { return w.engine.Register(b) }

func (w within) Execute(ctx context.Context, p saga.Plan) (saga.Outcome, error) {
	if p.Pattern != "" && p.Pattern != w.scope.pattern {
		return saga.Outcome{}, txn.Wrap("execute", p.GID, txn.Invalid("the pattern is %q, and this engine accepts only %q", p.Pattern, w.scope.pattern))
	}
	p.Pattern = w.scope.pattern
	return w.engine.Execute(ctx, p)
}

func (w within) Begin(ctx context.Context, opening saga.Opening) error {
	if opening.Pattern != "" && opening.Pattern != w.scope.pattern {
		return txn.Wrap("begin", opening.GID, txn.Invalid("the pattern is %q, and this engine accepts only %q", opening.Pattern, w.scope.pattern))
	}
	opening.Pattern = w.scope.pattern
	return w.engine.Begin(ctx, opening)
}

func (w within) Try(ctx context.Context, gid, branchID string, step saga.Step) error {
	return w.engine.Try(w.in(ctx), gid, branchID, step)
}

func (w within) Confirm(ctx context.Context, gid string, options saga.Options) (saga.Outcome, error) {
	return w.engine.Confirm(w.in(ctx), gid, options)
}

func (w within) Cancel(ctx context.Context, gid, reason string) (saga.Outcome, error) {
	return w.engine.Cancel(w.in(ctx), gid, reason)
}

func (w within) Lookup(ctx context.Context, gid string) (*saga.Transaction, error) {
	found, err := w.engine.Lookup(ctx, gid)
	if err == nil && !w.scope.has(found.Pattern) {
		return nil, txn.Wrap("lookup", gid, saga.ErrNotFound)
	}
	return found, err
}
