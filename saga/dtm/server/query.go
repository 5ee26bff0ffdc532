package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
)

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

// viewer reads the transactions of the API.
type viewer struct {
	whole Engine // has all transactions of the log
}

// lookup returns a transaction of the API, and its type.
func (v viewer) lookup(ctx context.Context, gid string) (*saga.Transaction, transType, error) {
	found, err := v.whole.Lookup(ctx, gid)
	if err != nil {
		return nil, 0, err
	}
	for t := range numTypes {
		if found.Pattern == t.pattern() {
			return found, t, nil
		}
	}
	return nil, 0, fmt.Errorf("%s: %w", gid, saga.ErrNotFound)
}

func viewOf(t transType, s saga.Summary) *transactionView {
	view := &transactionView{GID: s.GID, TransType: t.String(), Status: t.status(s.State), Protocol: "http",
		RollbackReason: s.Reason, CreateTime: s.CreatedAt}
	if s.Code == saga.CodeDeadline { // as a DTM server says it
		view.RollbackReason = fmt.Sprintf("Timeout after %d seconds", int(s.DeadlineAt.Sub(s.CreatedAt).Seconds()))
	}
	switch s.State {
	case saga.Confirmed:
		view.FinishTime = &s.FinishedAt
	case saga.Cancelled:
		view.RollbackTime = &s.FinishedAt
	}
	return view
}

// query answers as a DTM server does, also if the transaction does not exist.
func (v viewer) query(ctx context.Context, in *request) (any, error) {
	answer := answerView{Branches: []branchView{}}
	found, t, err := v.lookup(ctx, in.gid)
	if errors.Is(err, saga.ErrNotFound) {
		return answer, nil
	}
	if err != nil {
		return nil, err
	}
	answer.Transaction = viewOf(t, found.Summary)
	size := 0
	for _, b := range found.Branches {
		stored, known := storedBranch(b)
		if !known || stored.Query != "" {
			continue
		}
		data := []byte(stored.Data)
		if size += 3 * len(data); size > maxAnswer { // the answer has the data twice, in base64
			size -= 3 * len(data)
			data = nil
			answer.LeftOut++
		}
		id := cmp.Or(stored.ID, b.ID)
		for _, op := range t.listed() {
			answer.Branches = append(answer.Branches, branchView{found.GID, stored.url(op), data, id, t.op(op), branchStatus(found, b, op)})
		}
	}
	return answer, nil
}

// storedBranch returns a branch as a client has given it; known is false for the branch that
// keeps the settings.
func storedBranch(b saga.BranchView) (stored branch, known bool) {
	if b.Kind == settingsKind {
		return stored, false
	}
	stored, err := decode(b.Payload)
	return stored, err == nil
}

// branchStatus returns DTM's status of one of the operations of a branch.
func branchStatus(t *saga.Transaction, b saga.BranchView, op barrier.Op) string {
	done, cancels := !b.DoneAt.IsZero(), t.State == saga.Cancelling || t.State == saga.Cancelled
	switch {
	case op == barrier.Cancel:
		// A compensation is called if the action may have had an effect.
		called := b.Role == "" || b.Tried || b.ID == t.BranchID || len(b.Attempts) > 0
		done = called && (t.State == saga.Cancelled || cancels && done)
	case op == barrier.Confirm:
		done = t.State == saga.Confirmed || t.State == saga.Confirming && done
	case op == barrier.Apply:
		done = t.State == saga.Confirmed || done && !cancels
	case b.ID == t.BranchID && cancels: // an action
		return "failed"
	default:
		done = t.State == saga.Confirming || t.State == saga.Confirmed || b.Tried
	}
	if done {
		return "succeed"
	}
	return "prepared"
}
