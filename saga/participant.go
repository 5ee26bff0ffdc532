package saga

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	sagasql "github.com/tccsaga/tccsaga/sql"
)

// Participant has branches that an orchestrator in another process calls, and
// keeps their barrier. Package remote puts one behind HTTP. It is safe for
// concurrent use.
type Participant struct {
	caller
	kinds
}

var _ Registrar = (*Participant)(nil)

// ParticipantConfig configures a [Participant]. The zero value works.
type ParticipantConfig struct {
	// CallTimeout bounds one call of a branch. Defaults to 10 seconds.
	CallTimeout time.Duration

	// Logger takes what goes wrong. Defaults to [slog.Default].
	Logger *slog.Logger
}

// NewParticipant returns a participant whose barrier is in db, unless a branch
// has another database, where the barrier is then. It checks the schema.
func NewParticipant(ctx context.Context, db *gorm.DB, config ParticipantConfig) (*Participant, error) {
	switch {
	case db == nil:
		return nil, invalid("participant: the database is nil")
	case config.CallTimeout < 0:
		return nil, invalid("participant: the CallTimeout is negative: %s", config.CallTimeout)
	case config.CallTimeout == 0:
		config.CallTimeout = 10 * time.Second
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	if err := sagasql.Check(ctx, db); err != nil {
		return nil, fmt.Errorf("saga: participant: %w", err)
	}
	pool, err := db.DB()
	if err != nil {
		return nil, fmt.Errorf("saga: participant: %w", err)
	}
	return &Participant{
		caller: caller{timeout: config.CallTimeout, logger: config.Logger},
		kinds:  kinds{db: db, pool: pool},
	}, nil
}

// Register makes a kind of branch known; see [Registrar].
func (p *Participant) Register(b Branch) error {
	if b.Remote != nil {
		return invalid("register %s: it lives in another service, whose orchestrator can call it there", b.Kind)
	}
	return p.add(context.Background(), &branch{Branch: b})
}

// Call makes one call of a branch, with the barrier, in a local transaction. A
// call that was made before succeeds and does nothing.
//
// The error of a Try wraps a [Rejection] if the branch said no, and
// [barrier.ErrSuspended] if the branch was cancelled before: both are final. A
// Confirm or Cancel that contradicts what the branch has done wraps
// [barrier.ErrConflict]. A call that is under way, or has an unknown outcome,
// wraps [ErrOngoing]. [ErrUnknownKind] and [ErrInvalid] are of calls that cannot
// be made here. After any other error the call may be repeated.
func (p *Participant) Call(ctx context.Context, call Call) error {
	if err := call.Key().Validate(); err != nil {
		return invalid("%w", err)
	}
	switch call.Op {
	case barrier.Try, barrier.Confirm, barrier.Cancel:
	default:
		return invalid("unknown operation %q", string(call.Op))
	}
	b, err := p.branch(call.Kind)
	if err != nil {
		return err
	}
	return p.callApart(ctx, b, call)
}

// Barrier returns the barrier rows of a transaction in the participant's
// database, for people who want to know what happened.
func (p *Participant) Barrier(ctx context.Context, gid string) ([]barrier.Row, error) {
	return barrier.Look(ctx, p.db, gid)
}
