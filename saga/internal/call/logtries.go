package call

import (
	"context"
	"errors"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/batch"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// errUnfit says that a call has to be made alone, because of the log.
var errUnfit = errors.New("the call does not fit into a batch")

// Log takes part in the local transactions of [LogTries].
type Log interface {
	// Join adds the branches of calls to their transactions, as tried. The calls have the same
	// branch id. Join returns the index of a call that has to be made alone; -1 if there is none.
	Join(ctx context.Context, tx *gorm.DB, calls []saga.BatchCall) (unfit int, err error)

	// Leave removes branches that Join has added: their Trys have failed.
	Leave(ctx context.Context, tx *gorm.DB, branchID string, gids []string) error
}

// LogTries makes Trys of resident branches that are added to open transactions at the same
// time, in shared local transactions of the log. It is safe for concurrent use.
type LogTries struct{ place *place }

// NewLogTries returns a LogTries on the database of shared.
func NewLogTries(shared *Shared, log Log) *LogTries {
	p := &place{shared: shared, log: log}
	p.groups = batch.New(shared.maxBatch, shared.Workers(), newGatherer(shared.calls, shared.maxBatch).write)
	return &LogTries{p}
}

// Try adds a branch to the log and tries it. If the Try fails, nothing is added, and the error is
// a [*txn.BranchError]. Alone says that this has to be made without others. If ctx ends first,
// the outcome is not known.
func (t *LogTries) Try(ctx context.Context, b *txn.Branch, call saga.Call) (alone bool, err error) {
	if t.place.shared.maxBatch == 1 || !gathers(b, call) {
		return true, nil
	}
	if _, err = t.place.call(ctx, b, call); errors.Is(err, batch.ErrAlone) {
		return true, nil
	}
	return false, err
}

// Gather delays the next batch of calls like one until it has n members. Tests use it.
func (t *LogTries) Gather(one saga.Call, n int) { t.place.groups.Gather(groupOf(one), n) }
