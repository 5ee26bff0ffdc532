// Package txlog is the durable log of global transactions: the tables
// saga_transactions, saga_branches, saga_attempts and saga_instances.
//
// It knows no policy. Every write that belongs to a driver names the epoch
// under which it drives, and has no effect if another driver has raised it.
// All times are the database's.
package txlog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/dialect"
	"github.com/tccsaga/tccsaga/saga/internal/local"
)

// States of a transaction, as the table holds them.
const (
	Trying     = "trying"
	Confirming = "confirming"
	Confirmed  = "confirmed"
	Cancelling = "cancelling"
	Cancelled  = "cancelled"
)

// Who decided, as the log names them.
const (
	ByCaller   = "caller"
	ByDeadline = "deadline"
	ByRecovery = "recovery"
	ByOperator = "operator"
)

// Errors of the log.
var (
	ErrExists   = errors.New("the gid is in use")
	ErrNotFound = errors.New("no such transaction")
	// ErrStale says that the transaction is no longer in the state and epoch
	// that the writer believed: somebody else has decided or taken over.
	ErrStale = errors.New("the transaction was decided or taken over by somebody else")
)

// Record is a row of saga_transactions.
type Record struct {
	GID, Pattern, State, Digest  string
	Reason, Code, BranchID       string // why it was cancelled, for people and for programs, and by which branch
	DecidedBy, Attention         string
	Owner                        string
	Epoch                        int64
	Failures                     int
	CreatedAt, DeadlineAt        time.Time
	DueAt, DecidedAt, FinishedAt time.Time // zero where the column is NULL
	PausedAt                     time.Time
	Expired                      bool          // the deadline had passed when the row was read
	SinceDecision                time.Duration // when the row was read; 0 if it is undecided
}

// Paused says whether an operator has paused the transaction.
func (r Record) Paused() bool { return !r.PausedAt.IsZero() }

// Branch is a row of saga_branches.
type Branch struct {
	GID, ID, Kind, Payload string
	Done                   bool      // confirmed with its first commit
	Tried                  bool      // when read: marked by Tried
	DoneAt                 time.Time // when read; zero where the column is NULL
}

// Attempt is a row of saga_attempts.
type Attempt struct {
	GID, BranchID, Operation string
	Number                   int
	Error, Code, Instance    string
	FailedAt, NextAt         time.Time
	Wait                     time.Duration // until NextAt, when the row was read
}

// Log is the log in one database. It is safe for concurrent use; a method that
// takes a tx runs in that local transaction, the others in their own.
type Log struct {
	db    *gorm.DB // below gorm's prepared statements and plugins
	sql   queries
	heart *local.Reserved
}

// New returns the log in db.
func New(db *gorm.DB) (*Log, error) {
	d, err := dialect.Of(db)
	if err != nil {
		return nil, err
	}
	direct, err := local.Direct(db)
	if err != nil {
		return nil, err
	}
	heart, err := local.NewReserved(db)
	if err != nil {
		return nil, err
	}
	return &Log{db: direct, sql: statements[d], heart: heart}, nil
}

// Close gives back what the log keeps: the connection of the heartbeat.
func (l *Log) Close() { l.heart.Close() }

// ID returns the id that the log has got when it was installed.
func (l *Log) ID(ctx context.Context) (string, error) {
	ids, err := scan(ctx, l.db, l.sql.logID, nil, func(row scanner) (id string, err error) {
		err = row.Scan(&id)
		return id, err
	})
	if err != nil || len(ids) == 0 {
		return "", errors.Join(errors.New("log: reading its id"), err)
	}
	return ids[0], nil
}

// Start is a new transaction.
type Start struct {
	GID, Pattern, Digest string
	State                string // Trying; or another but Cancelling if it is decided with its first commit
	Reason               string // of one that is cancelled; and Code and BranchID
	Code, BranchID       string
	DecidedBy            string
	Owner                string
	Deadline             time.Duration // from now
	Due                  time.Duration // from now; of no use in a finished one
	Branches             []Branch
}

// Insert writes new transactions of the same state with their branches, at
// epoch 1. If a gid is in use, now or by a local transaction that is about to
// commit, it returns ErrExists, and the caller rolls back.
func (l *Log) Insert(ctx context.Context, tx *gorm.DB, starts ...Start) error {
	pool := tx.Statement.ConnPool
	arguments := make([]any, 0, 9*len(starts))
	var open, done []Branch
	for _, s := range starts {
		arguments = append(arguments, s.GID, s.Pattern, s.State, s.Digest, s.DecidedBy, s.Owner, s.Deadline.Microseconds())
		switch s.State {
		case Trying, Confirming:
			arguments = append(arguments, s.Due.Microseconds())
		case Cancelled:
			arguments = append(arguments, s.Reason, s.Code, s.BranchID)
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
	if _, err := pool.ExecContext(ctx, l.sql.insert[starts[0].State](len(starts)), arguments...); err != nil {
		if local.Duplicate(err) {
			return ErrExists
		}
		return fmt.Errorf("log: writing transaction %s: %w", starts[0].GID, err)
	}
	return l.insertBranches(ctx, pool, open, done)
}

func (l *Log) insertBranches(ctx context.Context, pool gorm.ConnPool, open, done []Branch) error {
	size := named{len(open), len(done)}
	if size == (named{}) {
		return nil
	}
	arguments := make([]any, 0, 4*(size.open+size.done))
	for _, branches := range [][]Branch{open, done} {
		for _, b := range branches {
			arguments = append(arguments, b.GID, b.ID, b.Kind, b.Payload)
		}
	}
	if _, err := pool.ExecContext(ctx, l.sql.insertBranches(size), arguments...); err != nil {
		return fmt.Errorf("log: naming %d branches: %w", size.open+size.done, err)
	}
	return nil
}

// Joined is what Join found.
type Joined struct {
	Left  time.Duration // until the deadline
	Tried bool          // the branch was named before, and marked by Tried
}

// ErrFull says that a transaction has as many branches, or bytes of payloads, as
// it may have.
var ErrFull = errors.New("the transaction is full")

// Room is how much a transaction may hold.
type Room struct{ Branches, Bytes int }

// Join locks an undecided transaction, so that no decision can come before tx
// ends, and names a further branch of it. If the branch is named already, with
// the same kind and payload, that is fine; with others, it returns ErrExists. If
// there is no room for it, it returns ErrFull.
func (l *Log) Join(ctx context.Context, tx *gorm.DB, branch Branch, room Room) (Joined, error) {
	held, err := scan(ctx, tx, l.sql.hold, []any{branch.GID}, func(row scanner) (left int64, err error) {
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

// fits says whether a transaction has room for a further branch.
func (l *Log) fits(ctx context.Context, tx *gorm.DB, branch Branch, room Room) error {
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

// Named returns a branch of a transaction, with a locking read; false says that
// there is none.
func (l *Log) Named(ctx context.Context, tx *gorm.DB, gid, branchID string) (Branch, bool, error) {
	branches, err := l.LockedBranches(ctx, tx, gid)
	for _, b := range branches[gid] {
		if b.ID == branchID {
			return b, true, err
		}
	}
	return Branch{}, false, err
}

// Tried marks a branch of an open transaction whose Try had succeeded.
func (l *Log) Tried(ctx context.Context, tx *gorm.DB, gid, branchID string) error {
	if _, err := tx.Statement.ConnPool.ExecContext(ctx, l.sql.tried, gid, branchID); err != nil {
		return fmt.Errorf("log: marking %s/%s tried: %w", gid, branchID, err)
	}
	return nil
}

// Decision moves a transaction out of Trying.
type Decision struct {
	GID        string
	Epoch      int64  // the epoch to decide under; 0 for any, which raises it
	State      string // Confirming or Cancelling
	Reason, By string
	Code       string        // of the reason, for programs
	BranchID   string        // whose Try was the reason; empty if it was none
	Owner      string        // who drives it from now on
	Due        time.Duration // when somebody else looks at it, unless it is finished by then
}

// Decide is the decision: one compare-and-set from Trying to Confirming or
// Cancelling. A Confirming has no effect once the deadline has passed. If the
// set had no effect it returns ErrStale.
func (l *Log) Decide(ctx context.Context, tx *gorm.DB, d Decision) error {
	query := l.sql.decide
	if d.State == Confirming {
		query = l.sql.decideInTime
	}
	raise := 0
	if d.Epoch == 0 {
		raise = 1
	}
	result, err := tx.Statement.ConnPool.ExecContext(ctx, query,
		d.State, d.Reason, d.Code, d.BranchID, d.By, d.Owner, raise, d.Due.Microseconds(), d.GID, d.Epoch, d.Epoch)
	return l.guarded(d.GID, "deciding", result, err)
}

// Finish moves a transaction from Confirming or Cancelling to its end, if it
// is still driven under the epoch; else it returns ErrStale.
func (l *Log) Finish(ctx context.Context, tx *gorm.DB, gid string, epoch int64) error {
	result, err := tx.Statement.ConnPool.ExecContext(ctx, l.sql.finish, gid, epoch)
	return l.guarded(gid, "finishing", result, err)
}

// FinishAll is Finish for many transactions: for all of them, or it returns
// ErrStale, and the caller rolls back. They are driven under the same epoch.
func (l *Log) FinishAll(ctx context.Context, tx *gorm.DB, epoch int64, gids []string) error {
	arguments := make([]any, 0, 1+len(gids))
	arguments = append(arguments, epoch)
	for _, gid := range gids {
		arguments = append(arguments, gid)
	}
	result, err := tx.Statement.ConnPool.ExecContext(ctx, l.sql.finishAll(len(gids)), arguments...)
	if err != nil {
		return fmt.Errorf("log: finishing %d transactions: %w", len(gids), err)
	}
	if n, err := result.RowsAffected(); err != nil || n != int64(len(gids)) {
		return errors.Join(ErrStale, err)
	}
	return nil
}

// Done marks branches that are confirmed or cancelled before their transaction
// is finished as a whole. A mark only saves a call, which the barrier would
// turn away; it needs no guard.
func (l *Log) Done(ctx context.Context, tx *gorm.DB, gid string, branchIDs ...string) error {
	if len(branchIDs) == 0 {
		return nil
	}
	arguments := make([]any, 0, 1+len(branchIDs))
	arguments = append(arguments, gid)
	for _, id := range branchIDs {
		arguments = append(arguments, id)
	}
	if _, err := tx.Statement.ConnPool.ExecContext(ctx, l.sql.done(len(branchIDs)), arguments...); err != nil {
		return fmt.Errorf("log: marking branches of %s done: %w", gid, err)
	}
	return nil
}

// KeptAttempts is the number of failed attempts kept per branch and operation.
const KeptAttempts = 20

// Failure is a failed branch call.
type Failure struct {
	BranchID, Operation string
	Attempt             int // from 1
	Error, Instance     string
	Code                string        // for programs
	Next                time.Duration // from now, when to call again; negative is never
}

// Retry says what becomes of a transaction after failed attempts.
type Retry struct {
	GID       string
	Epoch     int64         // under which it is driven
	Due       time.Duration // from now
	Attention string        // empty leaves what is there
	Release   bool          // any instance may drive it from then on
}

// Fail writes failed attempts, and when the transaction is due again, if it is
// still driven under the epoch; else it returns ErrStale.
func (l *Log) Fail(ctx context.Context, tx *gorm.DB, r Retry, failures []Failure) error {
	pool, gid := tx.Statement.ConnPool, r.GID
	release := 0
	if r.Release {
		release = 1
	}
	result, err := pool.ExecContext(ctx, l.sql.fail, len(failures), r.Attention, r.Attention, release, r.Due.Microseconds(), gid, r.Epoch)
	if err = l.guarded(gid, "recording failures", result, err); err != nil {
		return err
	}
	return l.Attempted(ctx, tx, gid, failures...)
}

func (l *Log) guarded(gid, doing string, result interface{ RowsAffected() (int64, error) }, err error) error {
	ok, err := changed(result, err)
	if err != nil {
		return fmt.Errorf("log: %s %s: %w", doing, gid, err)
	}
	if !ok {
		return ErrStale
	}
	return nil
}

func changed(result interface{ RowsAffected() (int64, error) }, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

// in returns "(?, ?, ...)" with n places.
func in(n int) string { return "(?" + strings.Repeat(", ?", n-1) + ")" }
