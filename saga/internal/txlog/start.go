package txlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/local"
)

// starter begins transactions and adds branches to them.
type starter struct{ *store }

// Start is a new transaction.
type Start struct {
	GID, Pattern, Digest string
	State                string // Trying, or Confirming, Confirmed or Cancelled if it is decided in its first commit
	Reason               string // if it is Cancelled
	Code, BranchID       string // likewise
	DecidedBy            string
	Owner                string
	TryAttempts          int           // of a transaction with forward recovery; 0 otherwise
	Deadline             time.Duration // from now
	Due                  time.Duration // from now; not used if it is finished
	Trace                string        // trace context of the caller; empty for none
	Branches             []Branch
	Labels               []Label // by name
}

// ErrUnseen says that a gid may be in use by a transaction that the snapshot of the local
// transaction does not show.
var ErrUnseen = errors.New("the gid may be in use")

// statement returns the key of the statement that inserts the transaction, without its trace.
func (s Start) statement() string {
	if s.State == Trying && s.TryAttempts != 0 {
		return forward
	}
	return s.State
}

// traced reports whether one of several transactions has a trace.
func traced(starts []Start) bool {
	return slices.ContainsFunc(starts, func(s Start) bool { return s.Trace != "" })
}

// Insert writes new transactions of the same state, with their branches and labels, at epoch 1. Of
// several, none has forward recovery. If a gid is in use, also by a local transaction that
// commits meanwhile, it returns ErrExists, and the caller rolls back, or reads the transaction
// that has the gid. If tx has a snapshot, it may return ErrUnseen instead.
func (l starter) Insert(ctx context.Context, tx *gorm.DB, starts ...Start) error {
	pool := tx.Statement.ConnPool
	arguments := make([]any, 0, 10*len(starts))
	insert, withTrace := l.sql.insert, traced(starts)
	if withTrace {
		insert = l.sql.insertTraced
	}
	var open, done []Branch
	for _, s := range starts {
		arguments = append(arguments, s.GID, s.Pattern, s.State, s.Digest, s.DecidedBy, s.Owner, s.Deadline.Microseconds())
		switch s.statement() {
		case Trying, Confirming:
			arguments = append(arguments, s.Due.Microseconds())
		case forward:
			arguments = append(arguments, s.Due.Microseconds(), s.TryAttempts)
		case Cancelled:
			arguments = append(arguments, s.Reason, s.Code, s.BranchID)
		}
		if withTrace {
			arguments = append(arguments, s.Trace)
		}
		for _, b := range s.Branches {
			b.GID = s.GID
			if b.Done {
				done = append(done, b)
			} else {
				open = append(open, b)
			}
		}
	}
	result, err := pool.ExecContext(ctx, insert[starts[0].statement()](len(starts)), arguments...)
	if err != nil {
		if local.Duplicate(err) {
			return ErrExists
		}
		if local.Unseen(err) {
			return fmt.Errorf("%w: %w", ErrUnseen, err)
		}
		return fmt.Errorf("log: writing transaction %s: %w", starts[0].GID, err)
	}
	if n, err := result.RowsAffected(); err != nil || n != int64(len(starts)) {
		return errors.Join(ErrExists, err)
	}
	if err := l.insertBranches(ctx, pool, open, done); err != nil {
		return err
	}
	return labels(l).insert(ctx, pool, starts)
}

func (l starter) insertBranches(ctx context.Context, pool gorm.ConnPool, open, done []Branch) error {
	all := slices.Concat(open, done)
	if len(all) == 0 {
		return nil
	}
	size := branchRows{open: len(open), done: len(done), ordered: Ordered(all)}
	arguments := make([]any, 0, 6*len(all))
	for _, b := range all {
		arguments = append(arguments, b.GID, b.ID, b.Kind, b.Payload)
		if size.ordered {
			arguments = append(arguments, b.Stage, b.Role)
		}
	}
	if _, err := pool.ExecContext(ctx, l.sql.insertBranches(size), arguments...); err != nil {
		return fmt.Errorf("log: naming %d branches: %w", len(all), err)
	}
	return nil
}

// Joined is the result of Join.
type Joined struct {
	Left  time.Duration // until the deadline
	Tried bool          // the branch was in the log before, and marked by Tried
}

// ErrFull says that a transaction has no room for a further branch.
var ErrFull = errors.New("the transaction is full")

// Room is how many branches, and bytes of inputs, a transaction may have.
type Room struct{ Branches, Bytes int }

// Join locks an undecided transaction, so that no decision can be made before tx ends, and
// adds a branch to it. It succeeds if the branch is there already with the same kind and
// payload, and returns ErrExists if they differ. It returns ErrFull if there is no room.
func (l starter) Join(ctx context.Context, tx *gorm.DB, branch Branch, room Room) (Joined, error) {
	held, err := scan(ctx, tx, l.sql.lockOpen, []any{branch.GID}, func(row scanner) (left int64, err error) {
		err = row.Scan(&left)
		return left, err
	})
	if err != nil {
		return Joined{}, err
	}
	if len(held) == 0 {
		return Joined{}, ErrStale
	}
	joined := Joined{Left: time.Duration(held[0]) * time.Microsecond}
	named, err := scan(ctx, tx, l.sql.branch, []any{branch.GID, branch.ID}, func(row scanner) (b Branch, err error) {
		err = row.Scan(&b.Kind, &b.Payload, &joined.Tried)
		return b, err
	})
	switch {
	case err != nil:
		return Joined{}, err
	case len(named) == 0:
		if err := l.fits(ctx, tx, branch, room); err != nil {
			return Joined{}, err
		}
		return joined, l.insertBranches(ctx, tx.Statement.ConnPool, []Branch{branch}, nil)
	case named[0].Kind != branch.Kind || named[0].Payload != branch.Payload:
		return Joined{}, ErrExists
	default:
		return joined, nil
	}
}

// fits returns ErrFull if a transaction has no room for a further branch.
func (l starter) fits(ctx context.Context, tx *gorm.DB, branch Branch, room Room) error {
	held, err := scan(ctx, tx, l.sql.size, []any{branch.GID}, func(row scanner) (r Room, err error) {
		err = row.Scan(&r.Branches, &r.Bytes)
		return r, err
	})
	switch {
	case err != nil:
		return err
	case held[0].Branches >= room.Branches:
		return fmt.Errorf("%w: it has %d branches, %d are allowed", ErrFull, held[0].Branches, room.Branches)
	case held[0].Bytes+len(branch.Payload) > room.Bytes:
		return fmt.Errorf("%w: with this branch its payloads have %d bytes, %d are allowed", ErrFull, held[0].Bytes+len(branch.Payload), room.Bytes)
	}
	return nil
}

// Tried marks branches as tried with success: of an open transaction, or of one with forward
// recovery.
func (l starter) Tried(ctx context.Context, tx *gorm.DB, gid string, branchIDs ...string) error {
	for _, id := range branchIDs {
		if _, err := tx.Statement.ConnPool.ExecContext(ctx, l.sql.tried, gid, id); err != nil {
			return fmt.Errorf("log: marking %s/%s tried: %w", gid, id, err)
		}
	}
	return nil
}

// TriedStage is Tried for a driver of a transaction with forward recovery. It locks the
// transaction, and reports whether an operator has paused it. If the transaction is decided,
// or driven under another epoch, it returns ErrStale.
func (l starter) TriedStage(ctx context.Context, tx *gorm.DB, gid string, epoch int64, branchIDs ...string) (paused bool, err error) {
	held, err := scan(ctx, tx, l.sql.holdForward, []any{gid, epoch}, func(row scanner) (paused bool, err error) {
		err = row.Scan(&paused)
		return paused, err
	})
	if err != nil {
		return false, err
	}
	if len(held) == 0 {
		return false, ErrStale
	}
	return held[0], l.Tried(ctx, tx, gid, branchIDs...)
}

// Withdraw deletes transactions that tx has inserted.
func (l starter) Withdraw(ctx context.Context, tx *gorm.DB, starts ...Start) error {
	gids := make([]string, len(starts))
	var labelled []string
	for i, s := range starts {
		if gids[i] = s.GID; len(s.Labels) > 0 {
			labelled = append(labelled, s.GID)
		}
	}
	if err := l.removeFrom(ctx, tx, l.sql.clean.remove[:2], gids); err != nil {
		return err
	}
	return l.removeFrom(ctx, tx, []func(int) string{l.sql.labels.remove}, labelled)
}
