package xa

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
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

// Log is the log of an engine: an Engine of package embedded, or its Operations.
type Log interface {
	LogID() string
	States(ctx context.Context, gids ...string) (map[string]saga.State, error)
	Find(ctx context.Context, query saga.Query) (saga.Page, error)
}

// InDoubt is a prepared transaction, and what the log says of it.
type InDoubt struct {
	Prepared
	State saga.State // of the transaction in the log; empty if the log does not have it, or if Foreign
	// Foreign is true if the transaction belongs to the log of another engine.
	Foreign bool
	// Ended says what Sweep has done: "COMMIT" or "ROLLBACK"; empty for nothing.
	Ended string
	Err   error // why Sweep could not end it, or why its State is not known
}

// InDoubt lists the prepared transactions of this package, and what the log of an engine says
// of each. Usually they wait for a decision, or the engine is about to end them. On MariaDB and
// MySQL, the list is of the whole server, also of its other databases. On PostgreSQL it is of
// the database. It takes as long as it needs; [Database.InDoubtPage] is for pages.
func (d *Database) InDoubt(ctx context.Context, log Log) ([]InDoubt, error) {
	// The log is read afterwards: it names a transaction before its Try, and until every
	// branch has ended.
	all, err := recovered(ctx, d.db)
	if err != nil {
		return nil, fmt.Errorf("xa: list the prepared transactions: %w", err)
	}
	found, err := statesOf(ctx, log, all, noLimit)
	if err != nil {
		return nil, fmt.Errorf("xa: list the prepared transactions: %w", err)
	}
	return found, nil
}

// InDoubtPage is a part of the list of prepared transactions.
type InDoubtPage struct {
	InDoubt []InDoubt
	Next    string // for the next call of InDoubtPage; empty at the end
	Total   int    // prepared transactions of this package, of all pages
}

// InDoubtPage is InDoubt for people: it lists at most limit transactions, by XID, which begin
// behind after. It asks the log in a bounded number of statements, also if the server has many
// prepared transactions. If that is not enough for one whose gid is shortened in its XID, its Err
// says so. The limit defaults to 50, and is at most 1,000; the error wraps [saga.ErrInvalid] if it is
// not valid.
func (d *Database) InDoubtPage(ctx context.Context, log Log, after string, limit int) (InDoubtPage, error) {
	if limit < 0 || limit > mostStates {
		return InDoubtPage{}, fmt.Errorf("xa: list the prepared transactions: %w: the limit is %d, it must be between 0 and 1,000", saga.ErrInvalid, limit)
	}
	if limit == 0 {
		limit = 50
	}
	all, err := recovered(ctx, d.db)
	if err != nil {
		return InDoubtPage{}, fmt.Errorf("xa: list the prepared transactions: %w", err)
	}
	page := InDoubtPage{Total: len(all)}
	slices.SortFunc(all, func(a, b Prepared) int { return cmp.Compare(a.XID, b.XID) })
	all = slices.DeleteFunc(all, func(p Prepared) bool { return p.XID <= after })
	if len(all) > limit {
		all = all[:limit]
		page.Next = all[limit-1].XID
	}
	if page.InDoubt, err = statesOf(ctx, log, all, mostSearches); err != nil {
		return InDoubtPage{}, fmt.Errorf("xa: list the prepared transactions: %w", err)
	}
	return page, nil
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
		case p.Err != nil: // nobody knows its state
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
