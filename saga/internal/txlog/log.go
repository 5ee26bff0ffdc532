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
	starter
	finisher
	reader
	claimer
	instances
	cleaner
	operations

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
	s := &store{db: direct, sql: statements[d]}
	return &Log{
		starter: starter{s}, finisher: finisher{s}, reader: reader{s}, claimer: claimer{reader{s}},
		instances: instances{s, heart}, cleaner: cleaner{s}, operations: operations{s}, heart: heart,
	}, nil
}

// Close gives back what the log keeps: the connection of the heartbeat.
func (l *Log) Close() { l.heart.Close() }

// ID returns the id that the log has got when it was installed.
func (l *Log) ID(ctx context.Context) (string, error) {
	ids, err := scan(ctx, l.reader.db, l.reader.sql.logID, nil, func(row scanner) (id string, err error) {
		err = row.Scan(&id)
		return id, err
	})
	if err != nil || len(ids) == 0 {
		return "", errors.Join(errors.New("log: reading its id"), err)
	}
	return ids[0], nil
}
