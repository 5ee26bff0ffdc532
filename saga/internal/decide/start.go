package decide

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/call"
	"github.com/tccsaga/tccsaga/saga/internal/commit"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/reason"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// decideInBatch decides a plan in a shared commit if possible, and alone otherwise.
func (e *execution) decideInBatch(ctx context.Context) error {
	d, t := e.d, e.txn
	key, shared := d.Shared.Key(t.Steps)
	if !shared {
		return e.decideAlone(ctx)
	}
	m := &item{ctx: ctx, e: e, steps: t.Steps, done: make(chan struct{})}
	if alone, err := e.writeInBatch(ctx, key, m); alone {
		return e.decideAlone(ctx)
	} else if err != nil {
		return err
	}
	t.State, t.Fresh, e.made = saga.Confirmed, true, true
	for _, s := range t.Steps {
		if s.Done = s.EndsWithDecision(); s.Done {
			s.Branch.Breaker.Success()
		} else {
			t.State = saga.Confirming
		}
	}
	return nil
}

// writeInBatch writes a member in a batch of a key. Alone says that it has to be written alone.
// If a Try has failed, the transaction is recorded as cancelled, and writeInBatch returns why.
func (e *execution) writeInBatch(ctx context.Context, key string, m *item) (alone bool, err error) {
	e.d.batches.Add(key, m)
	<-m.done
	switch {
	case m.alone:
		e.unanswered = m.unanswered
		return true, nil
	case m.err != nil:
		return false, e.recordCancelled(ctx, m.err)
	case m.cancelled != nil:
		e.txn.State, e.reason, e.made = saga.Cancelled, reason.Of(m.cancelled), true
		return false, m.cancelled.Err
	}
	return false, nil
}

// decideAlone decides a plan of resident branches in a local transaction of its own: it
// writes the transaction as decided and tries every branch. Afterwards it is certain
// whether that was committed: if need be, the row of the gid is written again, which waits
// for an unanswered COMMIT.
func (e *execution) decideAlone(ctx context.Context) error {
	start := e.start
	start.State, start.DecidedBy, start.Due = txlog.Confirming, txlog.ByCaller, e.d.Lease
	return e.startWith(ctx, start, e.work, e.txn.Before())
}

// begin writes the transaction as undecided, before a branch outside the log's database is
// called, and tries the first steps in the same local transaction, in a shared one if possible.
// If one of these fails, nothing was begun, and the transaction is recorded as cancelled.
func (e *execution) begin(ctx context.Context, first []*txn.Step) error {
	start := e.start
	start.State, start.Due, start.TryAttempts = txlog.Trying, min(e.d.Lease, start.Deadline), e.txn.TryAttempts
	if key, shared := e.d.Shared.Key(first); shared && len(first) > 0 && start.TryAttempts == 0 {
		m := &item{ctx: ctx, e: e, steps: first, begins: true, start: start, done: make(chan struct{})}
		if alone, err := e.writeInBatch(ctx, "begin\n"+key, m); !alone {
			if err == nil {
				e.txn.State = saga.Trying
			}
			return err
		}
	}
	return e.startWith(ctx, start, nil, first)
}

// startWith writes the row of the transaction, runs local work, if there is any, and tries
// steps, in one local transaction.
func (e *execution) startWith(ctx context.Context, start txlog.Start, work LocalWork, steps []*txn.Step) error {
	write := func() error {
		return e.d.Shared.Alone().Run(ctx, func(tx *gorm.DB) error {
			if err := e.d.Log.Insert(ctx, tx, start); err != nil {
				return err
			}
			if err := e.runWork(ctx, tx, work); err != nil {
				return err
			}
			return e.d.TryAll(ctx, tx, e.txn, steps)
		})
	}
	if work == nil && len(steps) == 0 && start.State == txlog.Trying && start.TryAttempts == 0 {
		write = func() error { return e.d.Commits.Write(ctx, commit.Write{GID: e.txn.GID, Begin: &start}) }
	}
	err := e.insert(ctx, start, write)
	if err == nil {
		return nil
	}
	return e.recordCancelled(ctx, err)
}

// runWork runs local work in the local transaction that decides.
func (e *execution) runWork(ctx context.Context, tx *gorm.DB, work LocalWork) error {
	if work == nil {
		return nil
	}
	return e.d.Calls.LocalWork(ctx, e.d.DB, tx, e.txn.GID, work)
}

// recordCancelled records the transaction as cancelled because of err: the error of a Try,
// of local work, or of a COMMIT that the database has refused. Everything was rolled back, so nothing is
// reserved. Other errors are returned as they are.
func (e *execution) recordCancelled(ctx context.Context, err error) error {
	start := e.start
	var failed *txn.BranchError
	var workFailed *call.WorkError
	switch {
	case errors.As(err, &failed):
		err = txn.CauseOf(ctx, failed.Err)
		e.reason = reason.Of(&txn.BranchError{ID: failed.ID, Kind: failed.Kind, Err: err})
	case errors.As(err, &workFailed):
		err = txn.CauseOf(ctx, err)
		e.reason = reason.Of(err)
	case errors.Is(err, local.ErrCommitRefused):
		e.reason = reason.Of(err)
	default:
		return err
	}
	start.Reason, start.Code, start.BranchID = e.reason.Text, e.reason.Code, e.reason.BranchID
	start.State, start.DecidedBy = txlog.Cancelled, txlog.ByCaller
	recording, cancel := e.d.Life.DetachCall(ctx)
	defer cancel()
	recordErr := e.insert(recording, start, func() error {
		return e.d.Commits.Write(recording, commit.Write{GID: e.txn.GID, More: func(ctx context.Context, tx *gorm.DB) error {
			if insertErr := e.d.Log.Insert(ctx, tx, start); insertErr != nil {
				return insertErr
			}
			return e.recordTry(ctx, tx, failed)
		}})
	})
	if recordErr != nil {
		return fmt.Errorf("%w; nothing was reserved, but recording that failed: %w", err, recordErr)
	}
	return err
}

// recordTry records the failed Try of a transaction that was not begun, unless the reason has
// the whole text.
func (e *execution) recordTry(ctx context.Context, tx *gorm.DB, failed *txn.BranchError) error {
	if failed == nil || failed.Error() == e.reason.Text {
		return nil
	}
	return e.d.Log.Attempted(ctx, tx, e.txn.GID, reason.FailedTry(failed, e.d.Instance))
}

// insert calls write, which writes the row of the transaction, until the result is certain,
// and sets the state. After an unanswered COMMIT the next run waits for that COMMIT, and finds
// the row if it was committed. ErrExists says that another execution has the gid.
func (e *execution) insert(ctx context.Context, start txlog.Start, write func() error) error {
	d, unanswered := e.d, e.unanswered
	for run := 1; ; run++ {
		err := write()
		switch {
		case err == nil:
			e.txn.State = saga.State(start.State)
			e.made = e.txn.State.Decided()
			return nil
		case errors.Is(err, local.ErrCommitUnknown) && run < txn.MaxRuns:
			unanswered = true
			continue
		case errors.Is(err, txlog.ErrExists) && unanswered:
			record, getErr := d.Reader.Locked(ctx, start.GID)
			if getErr == nil && e.isOurs(record) {
				e.adopt(record)
				e.made = e.txn.State.Decided()
				return nil
			}
			return errors.Join(err, getErr)
		}
		return err
	}
}

// isOurs reports whether this execution has written the row. Nobody else in this instance
// writes the gid while it is in flight.
func (e *execution) isOurs(r txlog.Record) bool {
	return r.Owner == e.d.Instance && r.Digest == e.start.Digest && r.Epoch == e.txn.Epoch
}
