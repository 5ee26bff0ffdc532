package embedded

import (
	"context"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
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
func (e *Engine) Within(pattern string) saga.Engine {
	return within{e, scope{only: true, pattern: pattern, returnDecided: true}}
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
		return saga.Outcome{}, txn.Wrap("execute", p.GID, txn.Invalid("the pattern is %q, only %q is known here", p.Pattern, w.scope.pattern))
	}
	p.Pattern = w.scope.pattern
	return w.engine.Execute(ctx, p)
}

func (w within) Begin(ctx context.Context, opening saga.Opening) error {
	if opening.Pattern != "" && opening.Pattern != w.scope.pattern {
		return txn.Wrap("begin", opening.GID, txn.Invalid("the pattern is %q, only %q is known here", opening.Pattern, w.scope.pattern))
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
