package dtm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/dtm-labs/client/dtmcli"
	"github.com/dtm-labs/client/dtmcli/dtmimp"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/wire"
)

// Lookup returns what the server knows of a transaction. Attempts, acts of
// operators and the rows of the barrier it does not know; see [saga.Engine].
func (e *Engine) Lookup(ctx context.Context, gid string) (*saga.Transaction, error) {
	if err := checkGID(gid); err != nil {
		return nil, fmt.Errorf("dtm: lookup: %w", err)
	}
	found, err := e.query(ctx, gid)
	if err != nil {
		return nil, fmt.Errorf("dtm: lookup %s: %w", gid, err)
	}
	t := found.Transaction
	outcome := found.outcome()
	view := &saga.Transaction{Summary: saga.Summary{GID: gid, Pattern: t.TransType, State: outcome.State, Reason: outcome.Reason,
		Owner: t.Owner, CreatedAt: timeOf(t.CreateTime), DeadlineAt: found.deadline()}}
	if t.TransType == wire.TransType && outcome.State.Finished() {
		view.FinishedAt = timeOf(t.FinishTime)
		if outcome.State == saga.Cancelled {
			view.FinishedAt = timeOf(t.RollbackTime)
		}
	} else {
		view.DueAt = timeOf(t.NextCronTime)
	}
	op := dtmimp.OpConfirm
	if outcome.State == saga.Cancelling || outcome.State == saga.Cancelled {
		op = dtmimp.OpCancel
	}
	for _, b := range found.Branches {
		if b.Op != op {
			continue
		}
		branch := saga.BranchView{ID: b.BranchID, Kind: b.kind(), Payload: json.RawMessage(b.Data), BarrierError: errBarrier.Error()}
		if b.Status == dtmcli.StatusSucceed {
			branch.DoneAt = timeOf(b.FinishTime)
		}
		view.Branches = append(view.Branches, branch)
	}
	return view, nil
}

var errBarrier = errors.New("the service that has the branch keeps its barrier")

// deadline is when the server cancels the transaction if it is still undecided.
func (r record) deadline() time.Time {
	var options dtmcli.TransOptions
	if json.Unmarshal([]byte(r.Transaction.Options), &options) != nil {
		return time.Time{}
	}
	return timeOf(r.Transaction.CreateTime).Add(time.Duration(options.TimeoutToFail) * time.Second)
}

func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}
