package xa

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
)

// Prepared is a transaction of a branch of this package that is prepared in a database, and
// waits for its COMMIT or ROLLBACK.
type Prepared struct {
	XID      string    // as XA RECOVER and pg_prepared_xacts show it
	Log      string    // digest of the id of the engine's log
	GID      string    // the transaction; only its begin if Digest is not empty
	Digest   string    // digest of the gid, if the gid was too long for MySQL; empty otherwise
	BranchID string    // the branch
	At       time.Time // when it was prepared; zero on MariaDB and MySQL, which do not say

	format uint32 // on MySQL
}

// Log is the log of an engine, such as the Engine of package embedded.
type Log interface {
	LogID() string
	Lookup(ctx context.Context, gid string) (*saga.Transaction, error)
	List(ctx context.Context, filter saga.Filter) ([]saga.Summary, error)
}

// InDoubt is a prepared transaction, and what the log says of it.
type InDoubt struct {
	Prepared
	State saga.State // of the transaction in the log; empty if the log does not have it, or if Foreign
	// Foreign is true if the transaction belongs to the log of another engine.
	Foreign bool
	// Ended says what Sweep has done: "COMMIT" or "ROLLBACK"; empty for nothing.
	Ended string
	Err   error // why Sweep could not end it
}

// InDoubt lists the prepared transactions of this package, and what the log of an engine says
// of each. Usually they wait for a decision, or the engine is about to end them. On MariaDB and
// MySQL, the list is of the whole server, also of its other databases. On PostgreSQL it is of
// the database.
func (d *Database) InDoubt(ctx context.Context, log Log) ([]InDoubt, error) {
	// The log is read afterwards: it names a transaction before its Try, and until every
	// branch has ended.
	all, err := recovered(ctx, d.db)
	if err != nil {
		return nil, fmt.Errorf("xa: list the prepared transactions: %w", err)
	}
	found := make([]InDoubt, len(all))
	for i, p := range all {
		found[i] = InDoubt{Prepared: p, Foreign: p.Log != digest(log.LogID())}
		if found[i].Foreign {
			continue
		}
		if found[i].State, err = stateOf(ctx, log, p); err != nil {
			return nil, fmt.Errorf("xa: list the prepared transactions: %w", err)
		}
	}
	return found, nil
}

// stateOf returns the state of a transaction in the log; empty if the log does not have it.
func stateOf(ctx context.Context, log Log, p Prepared) (saga.State, error) {
	if p.Digest == "" {
		found, err := log.Lookup(ctx, p.GID)
		if errors.Is(err, saga.ErrNotFound) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		return found.State, nil
	}
	filter := saga.Filter{Prefix: p.GID, Limit: 1000}
	for {
		page, err := log.List(ctx, filter)
		if err != nil {
			return "", err
		}
		for _, t := range page {
			if digest(t.GID) == p.Digest {
				return t.State, nil
			}
		}
		if len(page) < filter.Limit {
			return "", nil
		}
		filter.After = page[len(page)-1].GID
	}
}

// Sweep ends the prepared transactions of an engine's log that are decided: it commits what the
// log has decided to confirm, and rolls back what the log has decided to cancel. It also rolls
// back what the log does not have any more, such as the work of a Try that arrived after the
// retention. It leaves those that are undecided, and those of other logs and programs.
//
// An engine ends its transactions by itself. Sweep is for an operator, for example before a
// database is moved, and for what is left after an operator has resolved a conflict. It does
// not tell the engine: a call of the engine that follows finds out. Sweep returns what InDoubt
// does, with what was done.
func (d *Database) Sweep(ctx context.Context, log Log) ([]InDoubt, error) {
	found, err := d.InDoubt(ctx, log)
	for i := range found {
		p := &found[i]
		how := rollback
		switch {
		case p.Foreign || p.State == saga.Trying:
			continue
		case p.State == saga.Confirming || p.State == saga.Confirmed:
			how = commit
		}
		var key barrier.Key
		if p.Digest == "" {
			key = barrier.Key{GID: p.GID, BranchID: p.BranchID}
		}
		switch p.Err = d.end(ctx, p.XID, key, how); {
		case p.Err == nil:
			p.Ended = string(how)
		case errors.Is(p.Err, errUnknown):
			p.Err = nil // somebody else has ended it
		}
	}
	return found, err
}
