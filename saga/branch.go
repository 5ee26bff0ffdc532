package saga

import (
	"context"
	"fmt"
	"regexp"
	"runtime/debug"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	sagasql "github.com/tccsaga/tccsaga/sql"
)

// branch is a registered kind of branch.
type branch struct {
	Branch
	resident bool // its database is the orchestrator's own
	valve    *valve
	pace     pace
}

// confirmsInside reports whether its Confirm acts on nothing but the
// orchestrator's own database.
func (b *branch) confirmsInside() bool {
	return b.resident && b.Inside != nil && b.Outside[barrier.Confirm] == nil
}

// tryFused reports whether its Try can share a commit with the log.
func (b *branch) tryFused() bool { return b.resident && b.Outside[barrier.Try] == nil }

// endFused reports whether its Confirm or Cancel can share a commit with the
// log, after its Outside part, if it has one. A branch without a database has
// only an outside, which may be slow: it does not hold up the others' commit.
func (b *branch) endFused() bool { return b.resident && b.Inside != nil }

var validKind = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$`)

// checkTimeout bounds the schema check of a branch's database in Register.
const checkTimeout = 30 * time.Second

// Register makes a kind of branch known; see [Engine]. It checks the schema of
// the branch's database, if that is another one.
func (o *Orchestrator) Register(b Branch) error {
	switch {
	case !validKind.MatchString(b.Kind):
		return invalid("register: the kind of branch %q must be 1 to 64 letters, digits, dots, dashes and underscores, and begin with a letter or digit", b.Kind)
	case b.Encode == nil:
		return invalid("register %s: Encode is nil", b.Kind)
	case b.Inside == nil && len(b.Outside) < 3:
		return invalid("register %s: without Inside, Outside must hold Try, Confirm and Cancel", b.Kind)
	case b.Inside != nil && b.Outside[barrier.Try] != nil:
		return invalid("register %s: a Try acts either Inside or Outside", b.Kind)
	}
	registered := &branch{Branch: b, valve: newValve(b.Kind, o.config)}
	if b.Database == nil {
		registered.Database = o.db
	}
	pool, err := registered.Database.DB()
	if err != nil {
		return invalid("register %s: its database: %w", b.Kind, err)
	}
	if registered.resident = pool == o.pool; !registered.resident {
		ctx, cancel := context.WithTimeout(o.work, checkTimeout)
		defer cancel()
		if err := sagasql.Check(ctx, registered.Database); err != nil {
			return fmt.Errorf("saga: register %s: its database: %w", b.Kind, err)
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.branches[b.Kind] != nil {
		return invalid("register %s: the kind is registered already", b.Kind)
	}
	o.branches[b.Kind] = registered
	return nil
}

func (o *Orchestrator) branch(kind string) (*branch, error) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	if b := o.branches[kind]; b != nil {
		return b, nil
	}
	return nil, fmt.Errorf("the kind of branch %q is not registered in this process", kind)
}

// inside calls the Inside part of a branch, bounded in time.
func (o *Orchestrator) inside(ctx context.Context, tx *gorm.DB, b *branch, call Call) error {
	if b.Inside == nil {
		return nil
	}
	return o.bounded(ctx, call, func(ctx context.Context) error { return b.Inside(ctx, tx.WithContext(ctx), call) })
}

// outside calls an Outside part of a branch, bounded in time.
func (o *Orchestrator) outside(ctx context.Context, b *branch, call Call) (receipt any, err error) {
	err = o.bounded(ctx, call, func(ctx context.Context) (err error) {
		receipt, err = b.Outside[call.Op](ctx, call)
		return err
	})
	return receipt, err
}

// bounded calls f with a timeout and turns a panic into an error.
func (o *Orchestrator) bounded(ctx context.Context, call Call, f func(context.Context) error) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, o.config.CallTimeout,
		fmt.Errorf("%s of %s did not return within %s", call.Op, call.Kind, o.config.CallTimeout))
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
			o.config.Logger.Error("saga: a branch panicked", "gid", call.GID, "branch", call.BranchID,
				"kind", call.Kind, "operation", string(call.Op), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	err = f(ctx)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%w (%w)", err, context.Cause(ctx))
	}
	return err
}
