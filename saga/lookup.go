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
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
)

// Summary is what the log holds of a transaction itself. Times are the
// database's; a zero time is of something that has not happened, and is left out
// of JSON.
type Summary struct {
	GID        string    `json:"gid"`
	Pattern    string    `json:"pattern"`
	State      State     `json:"state"`
	Reason     string    `json:"reason,omitempty"`        // why it is cancelled, for people; empty otherwise
	Code       string    `json:"reason_code,omitempty"`   // the same for programs; see [Outcome]
	BranchID   string    `json:"reason_branch,omitempty"` // whose Try was the reason
	DecidedBy  string    `json:"decided_by,omitempty"`    // caller, deadline, recovery or operator; empty before the decision
	Attention  string    `json:"attention,omitempty"`     // why a person should look at it; empty when nobody has to
	Owner      string    `json:"owner,omitempty"`         // the instance that drives it; empty while it is open
	Epoch      int64     `json:"epoch"`                   // goes up with every change of driver
	Failures   int       `json:"failures"`                // failed branch calls so far
	CreatedAt  time.Time `json:"created_at,omitzero"`
	DeadlineAt time.Time `json:"deadline_at,omitzero"` // when it is cancelled if it is still undecided
	DueAt      time.Time `json:"due_at,omitzero"`      // when somebody looks at it next; zero once it is finished
	DecidedAt  time.Time `json:"decided_at,omitzero"`
	FinishedAt time.Time `json:"finished_at,omitzero"`
	PausedAt   time.Time `json:"paused_at,omitzero"` // since when an operator has paused it
}

// Transaction is all that is known of a transaction.
type Transaction struct {
	Summary
	Branches []BranchView `json:"branches"`
	Acts     []Act        `json:"acts,omitempty"` // what operators have done, in order
}

// Act is what an operator has done to a transaction, to one of its branches, or
// to a kind of branch.
type Act struct {
	Name string `json:"act"` // retry, pause, resume, confirm, cancel or resolve
	Operator
	BranchID string    `json:"branch_id,omitempty"` // of a resolve
	Believed State     `json:"believed,omitempty"`  // of a resolve: what has become of the branch
	At       time.Time `json:"at"`
}

// BranchView is all that is known of a branch of a transaction.
type BranchView struct {
	ID      string          `json:"id"`
	Kind    string          `json:"kind"`
	Payload json.RawMessage `json:"payload"`
	DoneAt  time.Time       `json:"done_at,omitzero"`  // when it was confirmed or cancelled, if that was before the whole transaction
	Barrier *barrier.Row    `json:"barrier,omitempty"` // nil if the branch has none
	// BarrierError says why the barrier row could not be read: the kind is not
	// registered here, or lives in another service, or its database did not
	// answer. Empty otherwise.
	BarrierError string `json:"barrier_error,omitempty"`
	// UnderWay is a call of the branch that is under way, or whose end nobody
	// knows: of a branch that acts on something other than a database, wherever it
	// is made, as its barrier row says; and every call that this instance makes to
	// another service or to another database. Nil if none is known.
	UnderWay *CallUnderWay `json:"under_way,omitempty"`
	Attempts []Attempt     `json:"attempts,omitempty"` // failed calls; the latest 20 of each operation
}

// Attempt is a failed call of a branch.
type Attempt struct {
	Operation barrier.Op `json:"operation"`
	Number    int        `json:"number"` // from 1
	Error     string     `json:"error"`
	Code      string     `json:"code,omitempty"` // CodeConflict if no repetition can succeed; of a Try, as [Outcome] has it
	Instance  string     `json:"instance"`       // that made the call
	FailedAt  time.Time  `json:"failed_at"`
	NextAt    time.Time  `json:"next_at,omitzero"` // not before this time it is called again; zero for a Try, which is not
}

// Lookup returns all that is known of a transaction: its state, branches,
// barrier rows and failed attempts. It is for people and for support tools; it
// locks nothing. The parts are read one after the other, so that those of a
// transaction under way may be some milliseconds apart.
func (o *Orchestrator) Lookup(ctx context.Context, gid string) (*Transaction, error) {
	if err := barrier.ValidateGID(gid); err != nil {
		return nil, invalid("lookup: %w", err)
	}
	var record txlog.Record
	var branches map[string][]txlog.Branch
	var attempts map[string][]txlog.Attempt
	var acts []txlog.Act
	// A local transaction goes to the database that takes writes, also where a
	// proxy sends other reads to a replica.
	err := local.Run(ctx, o.db, func(tx *gorm.DB) (err error) {
		if record, err = o.log.Get(ctx, tx, gid); err != nil {
			return err
		}
		if branches, err = o.log.BranchesIn(ctx, tx, gid); err != nil {
			return err
		}
		if attempts, err = o.log.Attempts(ctx, tx, gid); err != nil {
			return err
		}
		acts, err = o.log.Acts(ctx, tx, gid, "")
		return err
	})
	if errors.Is(err, txlog.ErrNotFound) {
		return nil, fmt.Errorf("lookup %s: %w", gid, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("saga: lookup %s: %w", gid, err)
	}
	t := &Transaction{Summary: summary(record)}
	for _, a := range acts {
		t.Acts = append(t.Acts, Act{Name: a.Name, Operator: Operator{Who: a.Who, Why: a.Why}, BranchID: a.BranchID, Believed: State(a.Believed), At: a.At})
	}
	rows := barrierRows{ctx: ctx, gid: gid}
	for _, b := range branches[gid] {
		view := BranchView{ID: b.ID, Kind: b.Kind, Payload: json.RawMessage(b.Payload), DoneAt: b.DoneAt}
		if err := o.lookAtBarrier(&view, &rows); err != nil {
			view.BarrierError = err.Error()
		}
		for _, a := range attempts[gid] {
			if a.BranchID == b.ID {
				view.Attempts = append(view.Attempts, Attempt{Operation: barrier.Op(a.Operation), Number: a.Number,
					Error: a.Error, Code: a.Code, Instance: a.Instance, FailedAt: a.FailedAt, NextAt: a.NextAt})
			}
		}
		t.Branches = append(t.Branches, view)
	}
	return t, nil
}

// lookAtBarrier fills in what the barrier says, and which call is under way.
func (o *Orchestrator) lookAtBarrier(view *BranchView, rows *barrierRows) (err error) {
	key := barrier.Key{GID: rows.gid, BranchID: view.ID}
	if call, ours := o.underWay.of(key); ours {
		call.By = o.instance.ID
		view.UnderWay = &call
	}
	known, err := o.branch(view.Kind)
	switch {
	case err != nil:
		return err
	case known.Remote != nil:
		return errElsewhere
	}
	if view.Barrier, err = rows.of(known.Database, view.ID); err != nil {
		return err
	}
	// The row knows better than this process, which may only be looking at the row.
	if row := view.Barrier; row != nil && row.UnderWay != nil && (view.UnderWay == nil || row.UnderWay.Left > 0) {
		u := row.UnderWay
		view.UnderWay = &CallUnderWay{Op: u.Op, By: u.By, Since: u.Since, Until: u.Until}
	}
	return nil
}

var errElsewhere = errors.New("the service that has the branch keeps its barrier")

// lookTimeout bounds the look at the barrier rows in one database.
const lookTimeout = 2 * time.Second

// barrierRows reads the barrier rows of a transaction, once per database.
type barrierRows struct {
	ctx  context.Context
	gid  string
	read map[*gorm.DB][]barrier.Row
}

func (b *barrierRows) of(db *gorm.DB, branchID string) (*barrier.Row, error) {
	rows, known := b.read[db]
	if !known {
		// A database that does not answer keeps nobody from seeing the rest.
		ctx, cancel := context.WithTimeout(b.ctx, lookTimeout)
		defer cancel()
		var err error
		if rows, err = barrier.Look(ctx, db, b.gid); err != nil {
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
	Attention     bool      // only those that a person should look at; cheap in a large log
	CreatedAfter  time.Time // only later ones
	CreatedBefore time.Time // only earlier ones

	// After pages on: only gids greater than this one, commonly the last of
	// the page before.
	After string
	// Limit is the most to return. Defaults to 100; at most 1,000.
	Limit int
}

// List returns transactions by gid, in ascending order. Without Unfinished,
// Attention or a Prefix it may read the whole log.
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
	return Summary{GID: r.GID, Pattern: r.Pattern, State: State(r.State), Reason: r.Reason, Code: r.Code, BranchID: r.BranchID, DecidedBy: r.DecidedBy,
		Attention: r.Attention, Owner: r.Owner, Epoch: r.Epoch, Failures: r.Failures, CreatedAt: r.CreatedAt,
		DeadlineAt: r.DeadlineAt, DueAt: r.DueAt, DecidedAt: r.DecidedAt, FinishedAt: r.FinishedAt, PausedAt: r.PausedAt}
}
