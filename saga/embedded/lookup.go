package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/call"
	"github.com/tccsaga/tccsaga/saga/internal/inflight"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/result"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// viewer has the methods that read transactions.
type viewer struct {
	db       *gorm.DB
	log      *txlog.Log
	logID    string
	registry *txn.Registry
	calls    *call.Caller
	inFlight *inflight.Registry
	running  bool // the engine of this process may run
	past     *past
}

// LogID returns the id of the log, which was made when its schema was installed. The calls of
// branches have it as their Caller.
func (v *viewer) LogID() string { return v.logID }

// Dialect returns the dialect of the log's database: "mysql", also for MariaDB, "postgres" or
// "sqlite".
func (v *viewer) Dialect() string { return v.db.Dialector.Name() }

// Lookup returns a transaction with its branches, barrier rows and failed attempts. It is for
// operators and support tools, and locks nothing. The parts are read one after the other: if
// the transaction is in flight, they may be some milliseconds apart. A database or a service
// with barrier rows that does not answer within two seconds is left out, with a BarrierError.
func (v *viewer) Lookup(ctx context.Context, gid string) (*saga.Transaction, error) {
	if err := barrier.ValidateGID(gid); err != nil {
		return nil, txn.Wrap("lookup", gid, txn.Invalid("%w", err))
	}
	v.inFlight.Settle(ctx, gid)
	read, err := v.read(ctx, gid)
	if errors.Is(err, txlog.ErrNotFound) {
		return nil, txn.Wrap("lookup", gid, saga.ErrNotFound)
	}
	if err != nil {
		return nil, txn.Wrap("lookup", gid, err)
	}
	t := &saga.Transaction{Summary: summary(read.record)}
	t.Labels = read.labels
	for _, a := range read.acts {
		t.Acts = append(t.Acts, action(a))
	}
	rows := newBarrierRows(ctx, v.registry, gid, v.logID, read.branches)
	for _, b := range read.branches {
		view := saga.BranchView{ID: b.ID, Kind: b.Kind, Payload: json.RawMessage(b.Payload), Tried: b.Tried, DoneAt: b.DoneAt,
			Stage: b.Stage, Role: saga.Role(b.Role)}
		for _, r := range read.results {
			if r.BranchID == b.ID {
				view.Result = r.JSON
			}
		}
		if err := v.lookAtBarrier(&view, rows); err != nil {
			view.BarrierError = err.Error()
		}
		for _, a := range read.attempts {
			if a.BranchID == b.ID {
				view.Attempts = append(view.Attempts, saga.Attempt{Operation: barrier.Op(a.Operation), Number: a.Number,
					Error: a.Error, Code: a.Code, Instance: a.Instance, FailedAt: a.FailedAt, NextAt: a.NextAt})
			}
		}
		t.Branches = append(t.Branches, view)
	}
	return t, nil
}

// logged is a transaction as the log has it.
type logged struct {
	record   txlog.Record
	branches []txlog.Branch
	attempts []txlog.Attempt
	results  []result.Result
	acts     []txlog.Act
	labels   map[string]string
}

func (v *viewer) read(ctx context.Context, gid string) (read logged, err error) {
	// In a local transaction, a proxy sends the reads to the database that takes writes,
	// and not to a replica.
	err = local.Run(ctx, v.db, func(tx *gorm.DB) (err error) {
		if read.record, err = v.log.Get(ctx, tx, gid); err != nil {
			return err
		}
		branches, err := v.log.BranchesIn(ctx, tx, gid)
		if err != nil {
			return err
		}
		attempts, err := v.log.Attempts(ctx, tx, gid)
		if err != nil {
			return err
		}
		results, err := v.log.Results(ctx, tx, gid)
		if err != nil {
			return err
		}
		labels, err := v.log.Labels(ctx, tx, gid)
		if err != nil {
			return err
		}
		read.branches, read.attempts, read.results, read.labels = branches[gid], attempts[gid], results[gid], labels[gid]
		read.acts, err = v.log.Acts(ctx, tx, gid, "")
		return err
	})
	return read, err
}

// lookAtBarrier adds the barrier row of a branch, and the call that is under way.
func (v *viewer) lookAtBarrier(view *saga.BranchView, rows *barrierRows) (err error) {
	key := barrier.Key{GID: rows.gid, BranchID: view.ID}
	if call, ours := v.calls.UnderWay.Of(key); ours {
		call.By = v.calls.Instance()
		view.UnderWay = &call
	}
	known, err := v.registry.Branch(view.Kind)
	if err != nil {
		return err
	}
	if nesting, nested := known.Remote.(saga.Nesting); nested && known.Database == nil {
		view.Child = nesting.ChildGID(key)
		return nil
	}
	if view.Barrier, err = rows.of(known, view.ID); err != nil {
		return err
	}
	// The row is more exact: the call of this process may only be reading the row.
	if row := view.Barrier; row != nil && row.UnderWay != nil && (view.UnderWay == nil || row.UnderWay.Left > 0) {
		u := row.UnderWay
		view.UnderWay = &saga.CallUnderWay{Op: u.Op, By: u.By, Since: u.Since, Until: u.Until}
	}
	return nil
}

// States returns the states of up to 1,000 transactions with one statement. A transaction that
// the log does not have is not in the result. The error wraps [saga.ErrInvalid] if there are
// more gids, or if one of them is not valid.
func (v *viewer) States(ctx context.Context, gids ...string) (map[string]saga.State, error) {
	if len(gids) > 1000 {
		return nil, txn.Wrap("states", "", txn.Invalid("there are %d gids, at most 1,000 are allowed", len(gids)))
	}
	for _, gid := range gids {
		if err := barrier.ValidateGID(gid); err != nil {
			return nil, txn.Wrap("states", gid, txn.Invalid("%w", err))
		}
	}
	v.inFlight.Settle(ctx, gids...)
	found := make(map[string]saga.State, len(gids))
	// In a local transaction, a proxy reads from the database that takes writes.
	err := local.Run(ctx, v.db, func(tx *gorm.DB) error {
		clear(found)
		states, err := v.log.States(ctx, tx, gids)
		for gid, state := range states {
			found[gid] = saga.State(state)
		}
		return err
	})
	if err != nil {
		return nil, txn.Wrap("states", "", err)
	}
	return found, nil
}

// List returns transactions in ascending order of their gids. Without Unfinished, Attention
// or a Prefix it may read the whole log.
func (v *viewer) List(ctx context.Context, f saga.Filter) ([]saga.Summary, error) {
	switch {
	case f.Limit < 0 || f.Limit > 1000:
		return nil, txn.Wrap("list", "", txn.Invalid("the limit is %d, it must be between 0 and 1,000", f.Limit))
	case f.Limit == 0:
		f.Limit = 100
	}
	states := make([]string, len(f.States))
	for i, s := range f.States {
		if !slices.Contains([]saga.State{saga.Trying, saga.Confirming, saga.Confirmed, saga.Cancelling, saga.Cancelled}, s) {
			return nil, txn.Wrap("list", "", txn.Invalid("unknown state %q", string(s)))
		}
		states[i] = string(s)
	}
	records, err := v.log.List(ctx, txlog.Filter{States: states, Pattern: f.Pattern, Prefix: f.Prefix, Unfinished: f.Unfinished,
		Attention: f.Attention, CreatedAfter: f.CreatedAfter, CreatedBefore: f.CreatedBefore, After: f.After, Limit: f.Limit})
	if err != nil {
		return nil, txn.Wrap("list", "", err)
	}
	summaries, err := v.summaries(ctx, records)
	return summaries, txn.Wrap("list", "", err)
}

// summaries returns transactions with their labels.
func (v *viewer) summaries(ctx context.Context, records []txlog.Record) ([]saga.Summary, error) {
	gids := make([]string, len(records))
	for i, r := range records {
		gids[i] = r.GID
	}
	labels, err := v.log.Labels(ctx, nil, gids...)
	if err != nil {
		return nil, err
	}
	all := make([]saga.Summary, len(records))
	for i, r := range records {
		all[i] = summary(r)
		all[i].Labels = labels[r.GID]
	}
	return all, nil
}

func summary(r txlog.Record) saga.Summary {
	return saga.Summary{GID: r.GID, Pattern: r.Pattern, State: saga.State(r.State), Reason: r.Reason, Code: r.Code, BranchID: r.BranchID, DecidedBy: r.DecidedBy,
		Attention: r.Attention, Owner: r.Owner, Epoch: r.Epoch, Failures: r.Failures, TryAttempts: r.TryAttempts, Parent: r.Parent, Planned: r.Digest != "", Trace: r.Trace, PreparedAt: r.PreparedAt, CreatedAt: r.CreatedAt,
		DeadlineAt: r.DeadlineAt, DueAt: r.DueAt, DecidedAt: r.DecidedAt, FinishedAt: r.FinishedAt, PausedAt: r.PausedAt}
}
