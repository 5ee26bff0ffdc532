package call

import (
	"context"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/batch"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// Log takes part in the local transactions of [LogTries].
type Log interface {
	// Join adds the branches of calls to their transactions, as tried. The calls have the same
	// branch id. If a call cannot be made in a batch, Join returns a [*batch.MemberError].
	Join(ctx context.Context, tx *gorm.DB, calls []saga.BatchCall) error

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

// Try adds a branch to the log and tries it. If the Try fails, nothing is added. It returns
// [batch.ErrAlone] if that has to be made without others. If ctx ends first, the outcome is not
// known.
func (t *LogTries) Try(ctx context.Context, b *txn.Branch, call saga.Call) error {
	if t.place.shared.maxBatch == 1 || !gathers(b, call) {
		return batch.ErrAlone
	}
	_, err := t.place.call(ctx, b, call)
	return err
}

// Gather delays the next batch of calls like one until it has n members. Tests use it.
func (t *LogTries) Gather(one saga.Call, n int) { t.place.groups.Gather(groupOf(one), n) }
