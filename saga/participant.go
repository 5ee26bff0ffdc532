package saga

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
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
	case checkHandle(db) != nil:
		return nil, invalid("participant: the database: %w", checkHandle(db))
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
	pool, err := local.Pool(db)
	if err != nil {
		return nil, fmt.Errorf("saga: participant: %w", err)
	}
	return &Participant{
		caller: caller{timeout: config.CallTimeout, logger: config.Logger, instance: uuid.NewString(), underWay: &underWay{}},
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
	// A row of an engine in the same database is never one of a call from
	// elsewhere, whoever makes it.
	call.Caller = fromElsewhere + call.Caller
	return p.callApart(ctx, b, call)
}

// fromElsewhere precedes the names of callers in the barrier rows of a participant.
const fromElsewhere = "@"

// Barrier returns the barrier rows of a transaction in the participant's
// database, for people who want to know what happened.
func (p *Participant) Barrier(ctx context.Context, gid string) ([]barrier.Row, error) {
	return barrier.Look(ctx, p.db, gid)
}

// Clean removes, in every database of the participant, the barrier rows of
// transactions all of whose branches there are final for longer than age, and what
// the branches keep of them, in small batches, and returns how many transactions
// that were. Call it now and then: nobody else knows what is old here.
//
// A call that comes after Clean finds no row: a Try would run, and nobody would
// cancel it; a Confirm would be a conflict. So choose age longer than any call can
// take to arrive or be repeated, such as the time for which an orchestrator might
// be down. Rows that an orchestrator's log in the same database still names are
// left to it.
func (p *Participant) Clean(ctx context.Context, age time.Duration) (removed int, err error) {
	if age < 2*p.timeout {
		return 0, invalid("clean: the age is %s, it must be at least twice the CallTimeout, %s, so that no late Try comes after it", age, p.timeout)
	}
	for _, place := range p.places() {
		n, err := place.clean(ctx, age)
		removed += n
		if err != nil {
			return removed, fmt.Errorf("saga: clean: %w", err)
		}
	}
	return removed, nil
}

// place is a database with the kinds of branches that live there.
type place struct {
	db    *gorm.DB
	kinds []*branch
}

func (p *Participant) places() []place {
	p.mu.RLock()
	defer p.mu.RUnlock()
	places := []place{{db: p.db}}
	for _, b := range p.branches {
		i := slices.IndexFunc(places, func(at place) bool { return at.db == b.Database })
		if i < 0 {
			i = len(places)
			places = append(places, place{db: b.Database})
		}
		places[i].kinds = append(places[i].kinds, b)
	}
	return places
}

func (p place) clean(ctx context.Context, age time.Duration) (removed int, err error) {
	log, err := txlog.New(p.db)
	if err != nil {
		return 0, err
	}
	for after := ""; ; {
		gids, last, err := barrier.Old(ctx, p.db, after, age)
		if err != nil {
			return removed, err
		}
		for batch := range slices.Chunk(gids, cleanPage) {
			var inUse map[string]bool
			err := local.Run(ctx, p.db, func(tx *gorm.DB) (err error) {
				inUse, err = log.InUse(ctx, tx, batch)
				return err
			})
			if err != nil {
				return removed, err
			}
			batch = slices.DeleteFunc(batch, func(gid string) bool { return inUse[gid] })
			if err := local.Run(ctx, p.db, func(tx *gorm.DB) error { return p.remove(ctx, tx, batch) }); err != nil {
				return removed, err
			}
			removed += len(batch)
		}
		if last == "" {
			return removed, nil
		}
		after = last
	}
}

func (p place) remove(ctx context.Context, tx *gorm.DB, gids []string) error {
	for _, b := range p.kinds {
		if b.Clean == nil || len(gids) == 0 {
			continue
		}
		if err := b.Clean(ctx, tx.WithContext(ctx), gids); err != nil {
			return fmt.Errorf("%s: %w", b.Kind, err)
		}
	}
	return barrier.Remove(ctx, tx, gids...)
}
