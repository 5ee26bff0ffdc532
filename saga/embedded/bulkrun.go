package embedded

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/reason"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

const (
	// bulkProgress is after how many transactions progress is reported.
	bulkProgress = 200

	// bulkWorkers is how many transactions are acted on at once, so that they can share the
	// database's writes to its disk. It is small: the engine works beside it.
	bulkWorkers = 4
)

// RunBulk acts on the transactions of a bulk action, a few at once, in the order of its list. Each act is the one of the method for a single transaction. It is made and recorded, and
// its result is noted in the list, in one local transaction. So no transaction is acted on twice,
// and none is forgotten: any process may call RunBulk again, after a crash or at the same time.
// If all transactions were acted on before, RunBulk does nothing.
//
// A transaction is refused if the act has no effect on it any more: it is finished, decided,
// removed or paused meanwhile. An act that fails for another reason, such as a branch that decides
// and does not answer, is failed; RunBulk does not repeat it.
//
// RunBulk returns an error if the database does not answer, and when ctx ends, which it notices
// between two transactions. Call it again to continue. The acts of operators on kinds and the
// [Limits] apply to what follows. RunBulk does not wait for the calls of branches.
//
// Progress may be nil. It is called with the counts after each 200 transactions, and at the end.
func (b *bulks) RunBulk(ctx context.Context, id string, progress func(saga.BulkAction)) (saga.BulkAction, error) {
	action, err := b.run(ctx, id, progress)
	return action, txn.Wrap("run bulk", "", err)
}

func (b *bulks) run(ctx context.Context, id string, progress func(saga.BulkAction)) (saga.BulkAction, error) {
	action, err := b.read(ctx, id)
	if err != nil || !action.FinishedAt.IsZero() {
		return action, err
	}
	if err = b.log.StartBulk(ctx, id); err != nil {
		return action, err
	}
	for after := 0; ; {
		// In this order: a list that was removed before it was started is not there any more.
		if action, err = b.readAgain(ctx, action); err != nil {
			return action, err
		}
		if progress != nil {
			progress(action)
		}
		if !action.FinishedAt.IsZero() {
			return action, nil
		}
		open, err := b.log.Targets(ctx, id, after, bulkProgress, true)
		if err != nil {
			return action, err
		}
		if len(open) == 0 && after == 0 {
			if err = b.log.FinishBulk(ctx, id); err != nil {
				return action, err
			}
			continue
		}
		if err = b.actOnAll(ctx, action, open); err != nil {
			return action, err
		}
		if after = 0; len(open) > 0 {
			after = open[len(open)-1].Number
		}
	}
}

// actOnAll acts on targets, in order. After an error it begins with no further target.
func (b *bulks) actOnAll(ctx context.Context, action saga.BulkAction, targets []txlog.BulkTarget) error {
	var next atomic.Int64
	var failed atomic.Bool
	failures := make([]error, bulkWorkers)
	var workers sync.WaitGroup
	for w := range bulkWorkers {
		workers.Go(func() {
			for !failed.Load() {
				i := int(next.Add(1)) - 1
				if i >= len(targets) {
					return
				}
				if failures[w] = b.actOnce(ctx, action, targets[i]); failures[w] != nil {
					failed.Store(true)
				}
			}
		})
	}
	workers.Wait()
	for _, err := range failures {
		if err != nil {
			return err
		}
	}
	return nil
}

// readAgain reads a bulk action. After an error it returns what was known before.
func (b *bulks) readAgain(ctx context.Context, action saga.BulkAction) (saga.BulkAction, error) {
	again, err := b.read(ctx, action.ID)
	if err != nil {
		return action, err
	}
	return again, nil
}

// actOnce acts on a target, unless it has a result, and notes its result. An error says that the
// target may have no result, because the database or this process is not there.
func (b *bulks) actOnce(ctx context.Context, action saga.BulkAction, target txlog.BulkTarget) error {
	for run := 1; ; run++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err := b.act(ctx, action, target)
		switch {
		case err == nil, errors.Is(err, txlog.ErrActed):
			return nil
		case errors.Is(err, saga.ErrStopped), errors.Is(err, saga.ErrNoLease):
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case refuses(err):
			return b.end(ctx, action, target, txlog.TargetRefused, err)
		case run == txn.MaxRuns || errors.Is(err, saga.ErrUnknownKind) || errors.As(err, new(*notAsked)):
			return b.end(ctx, action, target, txlog.TargetFailed, err)
		}
		// The act fails, and is repeated, if the database answers.
		if now, lockErr := b.log.LockTarget(ctx, action.ID, target.Number); lockErr != nil || now.Result != "" {
			return lockErr
		}
	}
}

// refuses reports whether an act has had no effect because of the state of the transaction.
func refuses(err error) bool {
	if errors.As(err, new(*saga.UnknownError)) {
		return false
	}
	for _, state := range []error{saga.ErrRefused, saga.ErrNotFound, saga.ErrNotOpen, saga.ErrNotTried, saga.ErrCancelled, saga.ErrConfirmed, barrier.ErrConflict} {
		if errors.Is(err, state) {
			return true
		}
	}
	return false
}

// end notes why a target was not acted on. If it was acted on meanwhile, that result stays.
func (b *bulks) end(ctx context.Context, action saga.BulkAction, target txlog.BulkTarget, result string, why error) (err error) {
	for run := 1; ; run++ {
		err = b.log.EndTarget(ctx, action.ID, target.Number, result, reason.ClipTo(why.Error(), 1024))
		if run == txn.MaxRuns || !errors.Is(err, local.ErrCommitUnknown) {
			return err
		}
	}
}
