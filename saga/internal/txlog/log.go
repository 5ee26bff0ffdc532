// Package txlog is the durable log of global transactions: the tables
// saga_transactions, saga_branches, saga_attempts and saga_instances.
//
// It has no policy. Every write of a driver names the epoch under which it drives, and has
// no effect if another driver has raised the epoch. All times are the database's.
package txlog

import (
	"context"
	"errors"
	"slices"
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

// Values of DecidedBy.
const (
	ByCaller   = "caller"
	ByDeadline = "deadline"
	ByRecovery = "recovery"
	ByOperator = "operator"
)

// Roles of a branch. An empty role is that of a branch with Try, Confirm and Cancel.
const (
	RoleAction  = "action"  // its Try is final; Cancels of actions are called in reverse order
	RoleAfter   = "after"   // it is called after the decision to confirm, in order
	RoleDecides = "decides" // the COMMIT of its Try is the decision
)

// Errors of the log.
var (
	ErrExists   = errors.New("the gid is in use")
	ErrNotFound = errors.New("no such transaction")
	// ErrStale says that the transaction is no longer in the state or epoch that the
	// writer expects: somebody else has decided it or taken it over.
	ErrStale = errors.New("the transaction was decided or taken over by somebody else")
)

// Record is a row of saga_transactions.
type Record struct {
	GID, Pattern, State, Digest  string
	Reason, Code, BranchID       string // why it was cancelled, for people and for programs, and the branch that failed
	DecidedBy, Attention         string
	Owner                        string
	Epoch                        int64
	Failures                     int
	TryAttempts                  int    // how often a Try may be called; see [Record.Forward]
	Parent                       string // of a nested transaction: the branch that it is, as LOG/gid/branch; else empty
	Trace                        string // trace context of the caller that began it
	CreatedAt, DeadlineAt        time.Time
	DueAt, DecidedAt, FinishedAt time.Time // zero where the column is NULL
	PausedAt                     time.Time
	PreparedAt                   time.Time     // of a nested transaction
	Expired                      bool          // the deadline had passed when the row was read, and it was not prepared
	Left                         time.Duration // until the deadline, when the row was read, if it is Forward
	SinceDecision                time.Duration // when the row was read; 0 if it is undecided
	SinceBegin                   time.Duration // when the row was read
}

// Paused reports whether an operator has paused the transaction.
func (r Record) Paused() bool { return !r.PausedAt.IsZero() }

// Forward reports whether an undecided transaction is continued by another instance, and not
// cancelled, if its process is gone.
func (r Record) Forward() bool { return r.TryAttempts != 0 && r.State == Trying }

// Waits reports whether the transaction is prepared and undecided: only its parent or an
// operator decides it.
func (r Record) Waits() bool { return r.State == Trying && !r.PreparedAt.IsZero() }

// Branch is a row of saga_branches.
type Branch struct {
	GID, ID, Kind, Payload string
	Stage                  int       // place in the order of the calls; 0 in a transaction without an order
	Role                   string    // empty, RoleAction, RoleAfter or RoleDecides
	Done                   bool      // confirmed in the first commit of its transaction
	Tried                  bool      // set by a read: the log method Tried has marked it
	DoneAt                 time.Time // set by a read; zero where the column is NULL
}

// Ordered reports whether the branches of a transaction have an order. Only such a transaction
// has actions, and so results.
func Ordered(branches []Branch) bool {
	return slices.ContainsFunc(branches, func(b Branch) bool { return b.Stage != 0 })
}

// Attempt is a row of saga_attempts.
type Attempt struct {
	GID, BranchID, Operation string
	Number                   int
	Error, Code, Instance    string
	FailedAt, NextAt         time.Time
	Wait                     time.Duration // until NextAt, when the row was read
}

// Log is the log in one database. A method with a tx runs in that local transaction, the
// others in one of their own. It is safe for concurrent use.
type Log struct {
	starter
	finisher
	reader
	finder
	overviewer
	claimer
	instances
	cleaner
	operations
	nester
	labels
	bulks

	heartbeat *local.Reserved
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
	heartbeat, err := local.NewReserved(db)
	if err != nil {
		return nil, err
	}
	s := &store{db: direct, sql: statements[d]}
	return &Log{
		starter: starter{s}, finisher: finisher{s}, reader: reader{s}, finder: finder{s}, overviewer: overviewer{s}, claimer: claimer{reader{s}},
		instances: instances{s, heartbeat}, cleaner: cleaner{s}, operations: operations{s}, nester: nester{s}, labels: labels{s}, bulks: bulks{s}, heartbeat: heartbeat,
	}, nil
}

// Close closes the connection of the heartbeat.
func (l *Log) Close() { l.heartbeat.Close() }

// ID returns the id of the log, which the schema's installation has made.
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
