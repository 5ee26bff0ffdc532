package xa

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/barrierrows"
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

	sessions sessions
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
	opened := &Database{db: db, dialect: dialect.Dialect(db.Dialector.Name()), kept: kept, limited: limited}
	if attached {
		kept.SetMark(mark)
	}
	opened.gate = newGate(size, attached, limited.Size() != 1, opened.detach)
	return opened, nil
}

// detach closes the connection of a prepared transaction, and looks in the background until it
// is gone.
func (d *Database) detach(conn *local.Prepared) {
	conn.Close()
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), checkTimeout)
		defer cancel()
		_, _ = d.seenGone(ctx, conn.Mark()) // otherwise, the end of the transaction looks again
	}()
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

// Limits of the wait for something that the server may still be doing.
const (
	maxLooks  = 8
	firstLook = time.Millisecond
)

// end ends the prepared transaction id of a branch, on the connection that has prepared it, if
// this process holds that. It returns errUnknown if the server has no such transaction.
func (d *Database) end(ctx context.Context, id string, key barrier.Key, how ending) error {
	if held := d.gate.take(id); held != nil {
		err := held.Exec(ctx, how.statement(d.dialect, id, held.Mark()))
		held.Release()
		d.gate.leave()
		if err == nil || ctx.Err() != nil {
			return err
		}
		// Perhaps the connection was lost. Another one finds out what has happened.
	}
	if d.gate.attached {
		return d.endElsewhere(ctx, id, key, how)
	}
	_, err := local.Exec(ctx, d.db, how.statement(d.dialect, id, noMark))
	if unknownXID(err) {
		return errUnknown
	}
	return err
}

// endElsewhere ends a prepared transaction on another connection than the one that has prepared
// it; see session.go.
func (d *Database) endElsewhere(ctx context.Context, id string, key barrier.Key, how ending) error {
	p, err := d.listed(ctx, id)
	switch {
	case err != nil:
		return err
	case p == nil:
		return errUnknown
	}
	if p.format != noMark {
		if err = d.awaitEnd(ctx, p.format); err != nil {
			return fmt.Errorf("%s of the prepared transaction %s: %w", how, id, err)
		}
	}
	if _, err = local.Exec(ctx, d.db, how.statement(d.dialect, id, p.format)); err != nil {
		if unknownXID(err) {
			return errUnknown
		}
		return err
	}
	if key.BranchID == "" {
		return nil
	}
	// The server has answered with success. The row says whether that is true.
	err = d.inBarrier(ctx, func(tx *gorm.DB) error {
		row, lookErr := barrierrows.LookLocked(ctx, tx, key)
		if lookErr == nil && row == nil && how == commit {
			return local.ErrLockWait
		}
		return lookErr
	})
	if errors.Is(err, local.ErrLockWait) {
		return fmt.Errorf("%s of the prepared transaction %s: the server has answered with success, but has not done it: restart the server, which lists the transaction again: %w", how, id, err)
	}
	return err
}

// inBarrier runs calls of the barrier in a local transaction, whose lock waits are short.
func (d *Database) inBarrier(ctx context.Context, work func(tx *gorm.DB) error) error {
	err := d.limited.Run(ctx, work)
	if errors.Is(err, local.ErrLockWait) {
		return fmt.Errorf("a Try of the branch, or the end of its local transaction, is under way: %w: %w", saga.ErrOngoing, err)
	}
	return err
}

// look pauses before the server is asked again. It returns false if ctx ends.
func look(ctx context.Context, run int) bool {
	timer := time.NewTimer(jitter.UpTo(ctx, firstLook<<run))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// listed returns a prepared transaction; nil if the server does not list it.
func (d *Database) listed(ctx context.Context, id string) (*Prepared, error) {
	all, err := recovered(ctx, d.db)
	if err != nil {
		return nil, fmt.Errorf("list the prepared transactions: %w", err)
	}
	for _, p := range all {
		if p.XID == id {
			return &p, nil
		}
	}
	return nil, nil
}
