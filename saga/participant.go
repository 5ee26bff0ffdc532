package saga

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
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
	minAge time.Duration // of what Clean removes
}

var _ Registrar = (*Participant)(nil)

// ParticipantConfig configures a [Participant]. The zero value works.
type ParticipantConfig struct {
	// CallTimeout bounds one call of a branch. Defaults to 10 seconds.
	CallTimeout time.Duration

	// MaxDelay is how long after it was made a call may still come, such as one
	// that somebody has recorded and repeats. Clean removes nothing that is
	// younger. Defaults to 0; package remote derives it from its signatures.
	MaxDelay time.Duration

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
	case config.MaxDelay < 0:
		return nil, invalid("participant: the MaxDelay is negative: %s", config.MaxDelay)
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
		minAge: 2*config.CallTimeout + config.MaxDelay,
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
// transactions all of whose branches there are final for longer than age, and the
// rows that the branches keep of them. It works in small batches and returns the
// number of removed transactions. Call it regularly, for example every hour: the
// participant does not know when a transaction ends elsewhere.
//
// A call that comes after Clean finds no row: a Try would run, and nothing would
// cancel it; a Confirm would be a conflict. So choose an age longer than any call
// can take to arrive or be repeated, such as the longest time for which an
// orchestrator might be down. Clean refuses an age below twice the CallTimeout
// plus the MaxDelay. It leaves rows that the log of an orchestrator in the same
// database still names.
//
// A branch whose Clean fails or panics keeps the rows of its batch. Clean goes on
// with the other batches and returns the first such error in the end.
func (p *Participant) Clean(ctx context.Context, age time.Duration) (removed int, err error) {
	if age < p.minAge {
		return 0, invalid("clean: the age is %s, it must be at least %s, so that no late or repeated Try comes after it", age, p.minAge)
	}
	for _, place := range p.places() {
		n, failed := place.clean(ctx, age)
		removed += n
		if failed != nil && err == nil {
			err = fmt.Errorf("saga: clean: %w", failed)
		}
	}
	return removed, err
}

// place is a database with the kinds of branches that live there.
type place struct {
	db    *gorm.DB
	pool  *sql.DB
	kinds []*branch
}

func (p *Participant) places() []place {
	p.mu.RLock()
	defer p.mu.RUnlock()
	places := []place{{db: p.db, pool: p.pool}}
	for _, kind := range slices.Sorted(maps.Keys(p.branches)) {
		b := p.branches[kind]
		pool, err := local.Pool(b.Database) // it had one when it was registered
		i := slices.IndexFunc(places, func(at place) bool { return at.pool == pool })
		if i < 0 || err != nil {
			i = len(places)
			places = append(places, place{db: b.Database, pool: pool})
		}
		places[i].kinds = append(places[i].kinds, b)
	}
	return places
}

// errKindClean is of a branch whose own Clean failed.
var errKindClean = errors.New("the branch failed to clean")

func (p place) clean(ctx context.Context, age time.Duration) (removed int, err error) {
	var failed error
	for after := (barrier.Cursor{}); ; {
		var gids []string
		gids, after, err = barrier.Old(ctx, p.db, after, age)
		if err != nil {
			return removed, err
		}
		for batch := range slices.Chunk(gids, cleanPage) {
			n, err := p.cleanBatch(ctx, batch, age)
			removed += n
			if err != nil && failed == nil {
				failed = err
			}
			if err != nil && (!errors.Is(err, errKindClean) || ctx.Err() != nil) {
				return removed, failed
			}
		}
		if after.Done() {
			return removed, failed
		}
	}
}

// cleanBatch removes the transactions of a batch that may go, by a look at their
// rows that locks them. Old has looked without a lock, and perhaps at a replica.
func (p place) cleanBatch(ctx context.Context, batch []string, age time.Duration) (removed int, err error) {
	log, err := txlog.New(p.db)
	if err != nil {
		return 0, err
	}
	err = local.Run(ctx, p.db, func(tx *gorm.DB) error {
		removed = 0 // of an earlier run
		gids, _, err := barrier.LockOld(ctx, tx, batch, age)
		if err != nil {
			return err
		}
		// After the lock: a transaction that uses one of these gids has either
		// committed its row of the log, or waits, and finds no barrier row then.
		inUse, err := log.InUse(ctx, tx, gids)
		if err != nil {
			return err
		}
		gids = slices.DeleteFunc(gids, func(gid string) bool { return inUse[gid] })
		if len(gids) == 0 {
			return nil
		}
		for _, b := range p.kinds {
			if err := cleanKind(ctx, tx, b, gids); err != nil {
				return err
			}
		}
		removed = len(gids)
		return barrier.RemoveOld(ctx, tx, gids, age)
	})
	if err != nil {
		return 0, err
	}
	return removed, nil
}

func cleanKind(ctx context.Context, tx *gorm.DB, b *branch, gids []string) (err error) {
	if b.Clean == nil {
		return nil
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %s: panic: %v", errKindClean, b.Kind, p)
		}
	}()
	if err := b.Clean(ctx, local.Guest(ctx, b.Database, tx), slices.Clone(gids)); err != nil {
		return fmt.Errorf("%w: %s: %w", errKindClean, b.Kind, err)
	}
	return nil
}
