package server

import (
	"context"
	"errors"
	"time"

	"github.com/tccsaga/tccsaga/saga"
)

// statuses maps states to DTM's names.
var statuses = map[saga.State]string{
	saga.Trying: "prepared", saga.Confirming: "submitted", saga.Confirmed: "succeed",
	saga.Cancelling: "aborting", saga.Cancelled: "failed",
}

// maxAnswer is the most bytes of data in the answer to a query.
const maxAnswer = 1 << 20

// answerView, transactionView and branchView have the fields that known clients read.
type answerView struct {
	Transaction *transactionView `json:"transaction"`
	Branches    []branchView     `json:"branches"`
	LeftOut     int              `json:"branches_without_data,omitempty"`
}

type transactionView struct {
	GID            string     `json:"gid"`
	TransType      string     `json:"trans_type"`
	Status         string     `json:"status"`
	Protocol       string     `json:"protocol"`
	RollbackReason string     `json:"rollback_reason,omitempty"`
	CreateTime     time.Time  `json:"create_time"`
	FinishTime     *time.Time `json:"finish_time,omitempty"`
	RollbackTime   *time.Time `json:"rollback_time,omitempty"`
}

type branchView struct {
	GID      string `json:"gid"`
	URL      string `json:"url"`
	BinData  []byte `json:"bin_data"`
	BranchID string `json:"branch_id"`
	Op       string `json:"op"`
	Status   string `json:"status"`
}

// query answers as a DTM server does, also if the transaction does not exist.
func (a *api) query(ctx context.Context, in *request) (any, error) {
	answer := answerView{Branches: []branchView{}}
	found, err := a.engine.Lookup(ctx, in.gid)
	if errors.Is(err, saga.ErrNotFound) {
		return answer, nil
	}
	if err != nil {
		return nil, err
	}
	view := &transactionView{GID: found.GID, TransType: transType, Status: statuses[found.State], Protocol: "http",
		RollbackReason: found.Reason, CreateTime: found.CreatedAt}
	switch found.State {
	case saga.Confirmed:
		view.FinishTime = &found.FinishedAt
	case saga.Cancelled:
		view.RollbackTime = &found.FinishedAt
	}
	answer.Transaction = view
	size := 0
	for _, b := range found.Branches {
		stored, known := storedBranch(b)
		if !known {
			continue
		}
		data := []byte(stored.Data)
		if size += 3 * len(data); size > maxAnswer { // the answer has the data twice, in base64
			size -= 3 * len(data)
			data = nil
			answer.LeftOut++
		}
		answer.Branches = append(answer.Branches,
			branchView{found.GID, stored.Cancel, data, b.ID, "cancel", branchStatus(found, b, saga.Cancelled)},
			branchView{found.GID, stored.Confirm, data, b.ID, "confirm", branchStatus(found, b, saga.Confirmed)})
	}
	return answer, nil
}

// storedBranch returns a branch as a client has registered it. The API's transactions
// have no other branches.
func storedBranch(b saga.BranchView) (stored branch, known bool) {
	stored, err := decode(b.Payload)
	return stored, err == nil
}

// branchStatus returns DTM's status of one of the two operations of a branch.
func branchStatus(t *saga.Transaction, b saga.BranchView, end saga.State) string {
	wanted := saga.Cancelled
	if t.State == saga.Confirming || t.State == saga.Confirmed {
		wanted = saga.Confirmed
	}
	if end == wanted && (t.State == end || !b.DoneAt.IsZero()) {
		return "succeed"
	}
	return "prepared"
}
