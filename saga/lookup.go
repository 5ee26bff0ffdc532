package saga

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
)

// Summary is what the log holds of a transaction itself. Times are the
// database's; a zero time is of something that has not happened.
type Summary struct {
	GID        string
	Pattern    string
	State      State
	Reason     string // why it is cancelled; empty otherwise
	DecidedBy  string // caller, deadline, recovery or operator; empty before the decision
	Attention  string // why a person should look at it; empty when nobody has to
	Owner      string // the instance that drives it; empty while it is open
	Epoch      int64  // goes up with every change of driver
	Failures   int    // failed branch calls so far
	CreatedAt  time.Time
	DeadlineAt time.Time // when it is cancelled if it is still undecided
	DueAt      time.Time // when somebody looks at it next; zero once it is finished
	DecidedAt  time.Time
	FinishedAt time.Time
	PausedAt   time.Time // since when an operator has paused it
}

// Transaction is all that is known of a transaction.
type Transaction struct {
	Summary
	Branches []BranchView
	Acts     []Act // what operators have done, in order
}

// Act is what an operator has done to a transaction, or to a kind of branch.
type Act struct {
	Name string // retry, pause, resume, confirm or cancel
	Operator
	At time.Time
}

// BranchView is all that is known of a branch of a transaction.
type BranchView struct {
	ID      string
	Kind    string
	Payload json.RawMessage
	DoneAt  time.Time    // when it was confirmed or cancelled, if that was before the whole transaction
	Barrier *barrier.Row // nil if the branch has none
	// BarrierError says why the barrier row could not be read: the kind is not
	// registered here, or lives in another service, or its database did not
	// answer.
	BarrierError error
	Attempts     []Attempt // failed calls; the latest 20 of each operation
}

// Attempt is a failed call of a branch.
type Attempt struct {
	Operation barrier.Op
	Number    int // from 1
	Error     string
	Instance  string // that made the call
	FailedAt  time.Time
	NextAt    time.Time // not before this time it is called again; zero for a Try, which is not
}

// Lookup returns all that is known of a transaction: its state, branches,
// barrier rows and failed attempts. It is for people and for support tools; it
// locks nothing. The parts are read one after the other, so that those of a
// transaction under way may be some milliseconds apart.
func (o *Orchestrator) Lookup(ctx context.Context, gid string) (*Transaction, error) {
	if err := barrier.ValidateGID(gid); err != nil {
		return nil, invalid("lookup: %w", err)
	}
	record, err := o.log.Get(ctx, gid)
	if errors.Is(err, txlog.ErrNotFound) {
		return nil, fmt.Errorf("lookup %s: %w", gid, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("saga: lookup %s: %w", gid, err)
	}
	branches, err := o.log.Branches(ctx, gid)
	if err != nil {
		return nil, fmt.Errorf("saga: lookup %s: %w", gid, err)
	}
	attempts, err := o.log.Attempts(ctx, gid)
	if err != nil {
		return nil, fmt.Errorf("saga: lookup %s: %w", gid, err)
	}
	acts, err := o.log.Acts(ctx, gid, "")
	if err != nil {
		return nil, fmt.Errorf("saga: lookup %s: %w", gid, err)
	}
	t := &Transaction{Summary: summary(record)}
	for _, a := range acts {
		t.Acts = append(t.Acts, Act{Name: a.Name, Operator: Operator{Who: a.Who, Why: a.Why}, At: a.At})
	}
	rows := barrierRows{ctx: ctx, gid: gid}
	for _, b := range branches[gid] {
		view := BranchView{ID: b.ID, Kind: b.Kind, Payload: json.RawMessage(b.Payload), DoneAt: b.DoneAt}
		if known, err := o.branch(b.Kind); err != nil {
			view.BarrierError = err
		} else if known.Remote != nil {
			view.BarrierError = errElsewhere
		} else {
			view.Barrier, view.BarrierError = rows.of(known.Database, b.ID)
		}
		for _, a := range attempts[gid] {
			if a.BranchID == b.ID {
				view.Attempts = append(view.Attempts, Attempt{Operation: barrier.Op(a.Operation), Number: a.Number,
					Error: a.Error, Instance: a.Instance, FailedAt: a.FailedAt, NextAt: a.NextAt})
			}
		}
		t.Branches = append(t.Branches, view)
	}
	return t, nil
}

var errElsewhere = errors.New("the service that has the branch keeps its barrier")

// barrierRows reads the barrier rows of a transaction, once per database.
type barrierRows struct {
	ctx  context.Context
	gid  string
	read map[*gorm.DB][]barrier.Row
}

func (b *barrierRows) of(db *gorm.DB, branchID string) (*barrier.Row, error) {
	rows, known := b.read[db]
	if !known {
		var err error
		if rows, err = barrier.Look(b.ctx, db, b.gid); err != nil {
			return nil, err
		}
		if b.read == nil {
			b.read = make(map[*gorm.DB][]barrier.Row)
		}
		b.read[db] = rows
	}
	i := slices.IndexFunc(rows, func(r barrier.Row) bool { return r.BranchID == branchID })
	if i < 0 {
		return nil, nil
	}
	return &rows[i], nil
}

// Filter narrows a List. The zero value is all; its parts add up.
type Filter struct {
	States        []State   // any of these
	Pattern       string    // of this pattern
	Prefix        string    // gids that begin so
	Unfinished    bool      // only those that somebody has to look at again; cheap in a large log
	Attention     bool      // only those that a person should look at
	CreatedAfter  time.Time // only later ones
	CreatedBefore time.Time // only earlier ones

	// After pages on: only gids greater than this one, commonly the last of
	// the page before.
	After string
	// Limit is the most to return. Defaults to 100; at most 1,000.
	Limit int
}

// List returns transactions by gid, in ascending order. Without Unfinished or
// a Prefix it may read the whole log.
func (o *Orchestrator) List(ctx context.Context, f Filter) ([]Summary, error) {
	switch {
	case f.Limit < 0 || f.Limit > 1000:
		return nil, invalid("list: the limit is %d, it must be between 0 and 1,000", f.Limit)
	case f.Limit == 0:
		f.Limit = 100
	}
	states := make([]string, len(f.States))
	for i, s := range f.States {
		if !slices.Contains([]State{Trying, Confirming, Confirmed, Cancelling, Cancelled}, s) {
			return nil, invalid("list: unknown state %q", string(s))
		}
		states[i] = string(s)
	}
	records, err := o.log.List(ctx, txlog.Filter{States: states, Pattern: f.Pattern, Prefix: f.Prefix, Unfinished: f.Unfinished,
		Attention: f.Attention, CreatedAfter: f.CreatedAfter, CreatedBefore: f.CreatedBefore, After: f.After, Limit: f.Limit})
	if err != nil {
		return nil, fmt.Errorf("saga: list: %w", err)
	}
	summaries := make([]Summary, len(records))
	for i, r := range records {
		summaries[i] = summary(r)
	}
	return summaries, nil
}

func summary(r txlog.Record) Summary {
	return Summary{GID: r.GID, Pattern: r.Pattern, State: State(r.State), Reason: r.Reason, DecidedBy: r.DecidedBy,
		Attention: r.Attention, Owner: r.Owner, Epoch: r.Epoch, Failures: r.Failures, CreatedAt: r.CreatedAt,
		DeadlineAt: r.DeadlineAt, DueAt: r.DueAt, DecidedAt: r.DecidedAt, FinishedAt: r.FinishedAt, PausedAt: r.PausedAt}
}
