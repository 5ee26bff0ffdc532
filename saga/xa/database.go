package xa

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/dialect"
	"github.com/tccsaga/tccsaga/saga/internal/jitter"
	"github.com/tccsaga/tccsaga/saga/internal/local"
)

// Database is a database whose server can prepare transactions. Open it once for each pool of
// connections. It is safe for concurrent use.
type Database struct {
	db      *gorm.DB
	dialect dialect.Dialect
	kept    *local.Shared // of the local transactions with the work
	limited *local.Shared // of calls of the barrier alone: their lock waits are short
	gate    *gate
}

// checkTimeout limits the check of the server in Open.
const checkTimeout = 30 * time.Second

// Open returns the Database of db, a handle on MariaDB 10.5.2 or newer, MySQL 8.0 or newer, or
// PostgreSQL with max_prepared_transactions above 0. It asks the server for its version and its
// settings. If the server cannot prepare a transaction that survives, the error wraps
// [saga.ErrInvalid] and says what to change. Install the schema there with package schema: the
// barrier needs it.
//
// A Database uses at most half of the connections that the engine uses of the pool, or 32 of
// a pool without a limit; see package embedded for the engine's share.
func Open(ctx context.Context, db *gorm.DB) (*Database, error) {
	d, err := open(ctx, db)
	if err != nil {
		return nil, fmt.Errorf("xa: open: %w", err)
	}
	return d, nil
}

func open(ctx context.Context, db *gorm.DB) (*Database, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	attached, err := check(ctx, db)
	if err != nil {
		return nil, err
	}
	limited, err := local.NewShared(db)
	if err != nil {
		return nil, err
	}
	size := unlimited
	if s := limited.Size(); s > 0 {
		size = max(1, s/2)
	}
	kept, err := local.NewKept(db, size)
	if err != nil {
		return nil, err
	}
	return &Database{db: db, dialect: dialect.Dialect(db.Dialector.Name()), kept: kept, limited: limited,
		gate: newGate(size, attached, limited.Size() != 1)}, nil
}

// unlimited is the size of the gate for a pool without a limit.
const unlimited = 32

// Close closes the connections that the Database keeps. Prepared transactions stay prepared:
// the engine, in this process or in another one, ends them. Close it after the engine has
// stopped. Calls are still possible; they keep no connection of a prepared transaction.
func (d *Database) Close() {
	d.gate.close()
	d.kept.Close()
	d.limited.Close()
}

// errUnknown says that the server has no prepared transaction with the xid.
var errUnknown = errors.New("no transaction with this xid is prepared")

// Limits of the wait for the end of another connection, which the server may still be closing.
const (
	maxLooks  = 8
	firstLook = time.Millisecond
)

// end ends the prepared transaction id with a statement, on the connection that has prepared
// it, if this process holds that. It returns errUnknown if the server has no such transaction.
func (d *Database) end(ctx context.Context, id, statement string) error {
	if held := d.gate.take(id); held != nil {
		err := held.Exec(ctx, statement)
		held.Release()
		d.gate.leave()
		if err == nil || ctx.Err() != nil {
			return err
		}
		// Perhaps the connection was lost. Another one finds out what has happened.
	}
	for look := range maxLooks {
		_, err := local.Exec(ctx, d.db, statement)
		if !unknownXID(err) {
			return err
		}
		listed, err := d.prepared(ctx, id)
		switch {
		case err != nil:
			return err
		case !listed:
			return errUnknown
		}
		timer := time.NewTimer(jitter.UpTo(ctx, firstLook<<look))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
	return fmt.Errorf("the transaction %s is prepared, but only the connection that has prepared it can end it, and that is still open, in this process or in another one: %w", id, saga.ErrOngoing)
}

// prepared reports whether the server lists a prepared transaction.
func (d *Database) prepared(ctx context.Context, id string) (bool, error) {
	all, err := recovered(ctx, d.db)
	if err != nil {
		return false, fmt.Errorf("list the prepared transactions: %w", err)
	}
	return slices.ContainsFunc(all, func(p Prepared) bool { return p.XID == id }), nil
}
