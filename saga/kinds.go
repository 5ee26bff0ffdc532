package saga

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/limit"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/schema"
)

// branch is a registered kind of branch.
type branch struct {
	Branch
	resident bool // its database is the orchestrator's own
	breaker  *limit.Breaker
	backoff  limit.BatchBackoff // of shared commits
	rejected limit.Rejections
	cleaning atomic.Bool // its Clean is at work
}

// work calls the Inside part in the local transaction tx of the framework, with a
// session of the branch's own handle.
func (b *branch) work(ctx context.Context, tx *gorm.DB, call Call) error {
	return b.Inside(ctx, local.Guest(ctx, b.Database, tx), call)
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

// kinds are the kinds of branches that a process knows.
type kinds struct {
	db   *gorm.DB
	pool *sql.DB // of db, to recognise branches that live in the same database

	mu       sync.RWMutex
	branches map[string]*branch
}

// add checks a kind of branch, and the schema of its database, if that is
// another one, and makes it known.
func (k *kinds) add(ctx context.Context, b *branch) error {
	if err := check(b.Branch); err != nil {
		return err
	}
	if b.Remote == nil {
		if err := k.place(ctx, b); err != nil {
			return err
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.branches[b.Kind] != nil {
		return invalid("register %s: the kind is registered already", b.Kind)
	}
	if k.branches == nil {
		k.branches = make(map[string]*branch)
	}
	k.branches[b.Kind] = b
	return nil
}

func check(b Branch) error {
	switch {
	case !validKind.MatchString(b.Kind):
		return invalid("register: the kind of branch %q must be 1 to 64 letters, digits, dots, dashes and underscores, and begin with a letter or digit", b.Kind)
	case b.Encode == nil:
		return invalid("register %s: Encode is nil", b.Kind)
	case b.Remote != nil && (b.Inside != nil || b.Outside != nil || b.Database != nil):
		return invalid("register %s: a Remote branch has no Inside, Outside or Database here", b.Kind)
	case b.Remote != nil:
		return nil
	case b.Inside == nil && len(b.Outside) < 3:
		return invalid("register %s: without Inside, Outside must hold Try, Confirm and Cancel", b.Kind)
	case b.Inside != nil && b.Outside[barrier.Try] != nil:
		return invalid("register %s: a Try acts either Inside or Outside", b.Kind)
	}
	return nil
}

// place finds out where a branch lives.
func (k *kinds) place(ctx context.Context, b *branch) error {
	if b.Database == nil {
		b.Database = k.db
	}
	if err := checkHandle(b.Database); err != nil {
		return invalid("register %s: its database: %w", b.Kind, err)
	}
	pool, err := local.Pool(b.Database)
	if err != nil {
		return invalid("register %s: its database: %w", b.Kind, err)
	}
	if b.resident = pool == k.pool; b.resident {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	if err := schema.Check(ctx, b.Database); err != nil {
		return fmt.Errorf("saga: register %s: its database: %w", b.Kind, err)
	}
	return nil
}

// checkHandle refuses a handle that an engine cannot commit on.
func checkHandle(db *gorm.DB) error {
	switch {
	case db == nil || db.Config == nil || db.Statement == nil:
		return errors.New("it is nil: open it with gorm.Open first")
	case local.InTransaction(db):
		return errors.New("the handle is in a local transaction: give the one that gorm.Open returned. The engine commits by itself, and would not see what that transaction has locked")
	case db.DryRun:
		return errors.New("the handle is of a DryRun, which sends nothing")
	}
	return nil
}

// knows reports whether branches of a kind can be called here.
func (k *kinds) knows(kind string) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.branches[kind] != nil
}

func (k *kinds) branch(kind string) (*branch, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if b := k.branches[kind]; b != nil {
		return b, nil
	}
	return nil, fmt.Errorf("%w: %q is not registered in this process", ErrUnknownKind, kind)
}
