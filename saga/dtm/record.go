package dtm

import (
	"encoding/json"
	"net/url"
	"path"
	"time"

	"github.com/dtm-labs/client/dtmcli"
	"github.com/dtm-labs/client/dtmcli/dtmimp"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/wire"
)

// record is a transaction in an answer of the server.
type record struct {
	Transaction *struct {
		GID            string     `json:"gid"`
		TransType      string     `json:"trans_type"`
		Status         string     `json:"status"`
		RollbackReason string     `json:"rollback_reason"`
		CustomData     string     `json:"custom_data"`
		Owner          string     `json:"owner"`
		CreateTime     *time.Time `json:"create_time"`
		UpdateTime     *time.Time `json:"update_time"`
		FinishTime     *time.Time `json:"finish_time"`
		RollbackTime   *time.Time `json:"rollback_time"`
		NextCronTime   *time.Time `json:"next_cron_time"`
		Options        string     `json:"options"`
	} `json:"transaction"`
	Branches []registered `json:"branches"`
}

// registered is an operation of a branch that is registered with the server.
type registered struct {
	URL        string     `json:"url"`
	Data       []byte     `json:"bin_data"`
	BranchID   string     `json:"branch_id"`
	Op         string     `json:"op"`
	Status     string     `json:"status"`
	FinishTime *time.Time `json:"finish_time"`
}

// states maps DTM's statuses to states.
var states = map[string]saga.State{
	dtmcli.StatusPrepared:  saga.Trying,
	dtmcli.StatusSubmitted: saga.Confirming,
	dtmcli.StatusSucceed:   saga.Confirmed,
	dtmcli.StatusAborting:  saga.Cancelling,
	dtmcli.StatusFailed:    saga.Cancelled,
}

func (r record) state() saga.State { return states[r.Transaction.Status] }

func (r record) outcome() saga.Outcome {
	o := saga.Outcome{GID: r.Transaction.GID, State: r.state()}
	if o.State == saga.Cancelling || o.State == saga.Cancelled {
		o.Reason = r.Transaction.RollbackReason
	}
	return o
}

// deadline is the time at which the server cancels an undecided transaction.
func (r record) deadline() time.Time {
	var options dtmcli.TransOptions
	if json.Unmarshal([]byte(r.Transaction.Options), &options) != nil {
		return time.Time{}
	}
	return timeOf(r.Transaction.CreateTime).Add(time.Duration(options.TimeoutToFail) * time.Second)
}

// find returns the registered branch with the id of a step.
func (r record) find(s *step) (b registered, found bool) {
	for _, b := range r.Branches {
		if b.BranchID == s.call.BranchID {
			return b, true
		}
	}
	return b, false
}

// view returns the transaction in the form of [saga.Engine].
func (r record) view() *saga.Transaction {
	t, outcome := r.Transaction, r.outcome()
	view := &saga.Transaction{Summary: saga.Summary{GID: t.GID, Pattern: t.TransType, State: outcome.State, Reason: outcome.Reason,
		Owner: t.Owner, CreatedAt: timeOf(t.CreateTime), DeadlineAt: r.deadline()}}
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
	for _, b := range r.Branches {
		if b.Op == op {
			view.Branches = append(view.Branches, b.view())
		}
	}
	return view
}

// barrierElsewhere is the error of the barrier in a view of a branch.
const barrierElsewhere = "the service that has the branch keeps its barrier"

func (b registered) view() saga.BranchView {
	view := saga.BranchView{ID: b.BranchID, Kind: b.kind(), Payload: json.RawMessage(b.Data), BarrierError: barrierElsewhere}
	if b.Status == dtmcli.StatusSucceed {
		view.DoneAt = timeOf(b.FinishTime)
	}
	return view
}

// is reports whether it is the branch of a step.
func (b registered) is(s *step) bool {
	return string(b.Data) == string(s.call.Payload) && b.kind() == s.call.Kind
}

func (b registered) kind() string {
	at, err := url.Parse(b.URL)
	if err != nil {
		return ""
	}
	return path.Base(at.Path)
}

func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}
