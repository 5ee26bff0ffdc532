package xa

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/barrierrows"
	"github.com/tccsaga/tccsaga/saga/internal/local"
)

// remote makes the calls of a kind of branch.
type remote struct {
	db   *Database
	work func(ctx context.Context, tx *gorm.DB, call saga.Call) error
}

var _ saga.Remote = (*remote)(nil)

// Database returns the database with the barrier rows.
func (r *remote) Database() *gorm.DB { return r.db.db }

// Call makes one call of a branch; see [saga.Remote].
func (r *remote) Call(ctx context.Context, call saga.Call) error {
	id := xid(r.db.dialect, call.Caller, call.GID, call.BranchID)
	switch call.Op {
	case barrier.Try:
		return r.try(ctx, call, id)
	case barrier.Confirm:
		return r.confirm(ctx, call, id)
	default:
		return r.cancel(ctx, call, id)
	}
}

func request(call saga.Call, op barrier.Op) barrier.Request {
	return barrier.Request{Key: call.Key(), Op: op, Caller: call.Caller, Kind: call.Kind, Input: call.Payload}
}

// try does the work and prepares it. If the answer to PREPARE is lost, it tries again: the xid
// is in use if the transaction is prepared, and also while the server has not noticed yet that
// the connection is gone.
func (r *remote) try(ctx context.Context, call saga.Call, id string) error {
	for run := 0; ; run++ {
		err := r.tryOnce(ctx, call, id)
		again := errors.Is(err, local.ErrCommitUnknown) || errors.Is(err, errUnderWay)
		if !again || run == maxLooks || !look(ctx, run) {
			return err
		}
	}
}

// errUnderWay says that the xid is in use and not prepared.
var errUnderWay = fmt.Errorf("an earlier Try of the branch is under way: %w", saga.ErrOngoing)

func (r *remote) tryOnce(ctx context.Context, call saga.Call, id string) error {
	if err := r.db.gate.enter(ctx); err != nil {
		return err
	}
	kept := false
	defer func() {
		if !kept { // also after a panic
			r.db.gate.leave()
		}
	}()
	statements := func(mark uint32) local.TwoPhase { return phases(r.db.dialect, id, mark) }
	conn, err := r.db.kept.Prepare(ctx, statements, func(tx *gorm.DB) error {
		// The row becomes visible with the work. It then says that both were confirmed.
		if err := barrierrows.TryBatch(ctx, tx, nil, []barrier.Request{request(call, barrier.Try)}); err != nil {
			return err
		}
		return r.runWork(ctx, tx, call)
	})
	switch {
	case err == nil:
		kept = true
		r.db.gate.put(id, conn)
		return nil
	case errors.Is(err, barrierrows.ErrNotAll):
		if err = r.record(ctx, false, request(call, barrier.Try)); errors.Is(err, errRun) {
			return errUnderWay // the row has gone meanwhile
		}
	case duplicateXID(err):
		return r.tried(ctx, id)
	}
	return err
}

// runWork calls the user's work. What it opens on the handle ends with it.
func (r *remote) runWork(ctx context.Context, tx *gorm.DB, call saga.Call) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return r.work(ctx, local.UserHandle(ctx, r.db.db, tx), call)
}

// tried returns nil if an earlier Try has prepared the transaction.
func (r *remote) tried(ctx context.Context, id string) error {
	p, err := r.db.listed(ctx, id)
	if err != nil || p != nil {
		return err
	}
	return errUnderWay
}

// confirm commits the prepared transaction. If there is none, the barrier row says whether an
// earlier Confirm has committed it.
func (r *remote) confirm(ctx context.Context, call saga.Call, id string) error {
	err := r.db.end(ctx, id, call.Key(), commit)
	if !errors.Is(err, errUnknown) {
		return err
	}
	err = r.record(ctx, false, request(call, barrier.Confirm))
	if errors.Is(err, barrier.ErrConflict) {
		return fmt.Errorf("commit the prepared transaction %s: it is not there, and was never committed: %w", id, err)
	}
	return err
}

// cancel rolls the prepared transaction back. It also writes the barrier row, so that a Try
// that arrives later is refused. The row waits for a Try that is under way.
func (r *remote) cancel(ctx context.Context, call saga.Call, id string) error {
	switch err := r.db.end(ctx, id, call.Key(), rollback); {
	case err == nil: // it has removed the row of the Try
		return r.record(ctx, true, request(call, barrier.Try), request(call, barrier.Cancel))
	case errors.Is(err, errUnknown):
		return r.record(ctx, false, request(call, barrier.Cancel))
	default:
		return err
	}
}

// errRun says that the verdict is to do the work of a call, and that there is none.
var errRun = fmt.Errorf("%w: the branch is tried, but not by package xa", barrier.ErrConflict)

// record writes calls into the barrier row, in one local transaction, and returns the error of
// the last one. If a verdict is Run and run is false, it writes nothing.
func (r *remote) record(ctx context.Context, run bool, requests ...barrier.Request) error {
	var refused error
	err := r.db.inBarrier(ctx, func(tx *gorm.DB) error {
		for _, request := range requests {
			verdict, err := barrier.Call(ctx, tx, request)
			refused = nil
			switch {
			case errors.Is(err, barrier.ErrSuspended), errors.Is(err, barrier.ErrConflict):
				refused = err // committed all the same, to count the call
			case err != nil:
				return err
			case verdict == barrier.Run && !run:
				return errRun
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return refused
}
