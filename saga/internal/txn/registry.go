package txn

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/schema"
)

// checkTimeout bounds the schema check of a branch's database in Register.
const checkTimeout = 30 * time.Second

// Registry holds the kinds of branches that are registered in a process. It is safe for
// concurrent use.
type Registry struct {
	db   *gorm.DB
	pool *sql.DB // of db; a branch with the same pool is resident

	mu       sync.RWMutex
	branches map[string]*Branch
}

// NewRegistry returns a registry. A branch that names no database has db.
func NewRegistry(db *gorm.DB) (*Registry, error) {
	pool, err := local.Pool(db)
	if err != nil {
		return nil, err
	}
	return &Registry{db: db, pool: pool, branches: make(map[string]*Branch)}, nil
}

// Add registers a kind of branch. It checks the schema of its database, if that is not the
// registry's own.
func (k *Registry) Add(ctx context.Context, b *Branch) error {
	if b.Remote == nil || b.Database != nil {
		if err := k.setDatabase(ctx, b); err != nil {
			return err
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.branches[b.Kind] != nil {
		return Invalid("the kind is registered already")
	}
	k.branches[b.Kind] = b
	return nil
}

// setDatabase sets the database of a branch, and whether the branch is resident. A remote
// branch is not resident: no call of it shares a commit with the log.
func (k *Registry) setDatabase(ctx context.Context, b *Branch) error {
	if b.Database == nil {
		b.Database = k.db
	}
	if err := CheckHandle(b.Database); err != nil {
		return Invalid("its database: %w", err)
	}
	pool, err := local.Pool(b.Database)
	if err != nil {
		return Invalid("its database: %w", err)
	}
	if pool == k.pool {
		b.Resident = b.Remote == nil
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	if err := schema.Check(ctx, b.Database); err != nil {
		return fmt.Errorf("its database: %w", err)
	}
	return nil
}

// CheckHandle refuses a handle on which an engine cannot commit.
func CheckHandle(db *gorm.DB) error {
	switch {
	case db == nil || db.Config == nil || db.Statement == nil:
		return errors.New("it is nil: open it with gorm.Open first")
	case local.InTransaction(db):
		return errors.New("the handle is in a local transaction: use the one that gorm.Open returned. The engine commits by itself, and would wait for the locks of that transaction")
	case db.DryRun:
		return errors.New("the handle is of a DryRun, which sends nothing")
	}
	return nil
}

// Knows reports whether a kind is registered.
func (k *Registry) Knows(kind string) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.branches[kind] != nil
}

// Branch returns a kind of branch, or an error that wraps [saga.ErrUnknownKind].
func (k *Registry) Branch(kind string) (*Branch, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if b := k.branches[kind]; b != nil {
		return b, nil
	}
	return nil, fmt.Errorf("%w: %q is not registered in this process", saga.ErrUnknownKind, kind)
}

// Branches returns all kinds, in the order of their names.
func (k *Registry) Branches() []*Branch {
	k.mu.RLock()
	defer k.mu.RUnlock()
	all := make([]*Branch, 0, len(k.branches))
	for _, kind := range slices.Sorted(maps.Keys(k.branches)) {
		all = append(all, k.branches[kind])
	}
	return all
}

// Database is a database with the kinds of branches in it.
type Database struct {
	DB    *gorm.DB
	Kinds []*Branch
	pool  *sql.DB
}

// Databases returns every database of the registered branches, the registry's own first.
func (k *Registry) Databases() []Database {
	databases := []Database{{DB: k.db, pool: k.pool}}
	for _, b := range k.Branches() {
		if b.Database == nil {
			continue // it has none here
		}
		pool, err := local.Pool(b.Database) // it had one when it was registered
		i := slices.IndexFunc(databases, func(other Database) bool { return other.pool == pool })
		if i < 0 || err != nil {
			i = len(databases)
			databases = append(databases, Database{DB: b.Database, pool: pool})
		}
		databases[i].Kinds = append(databases[i].Kinds, b)
	}
	return databases
}

// Pool returns the pool of the registry's own database.
func (k *Registry) Pool() *sql.DB { return k.pool }
