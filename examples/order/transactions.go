package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/tccsaga/tccsaga/examples/internal/web"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
)

// TransactionView is a transaction as the page shows it.
type TransactionView struct {
	GID        string       `json:"gid"`
	State      string       `json:"state"`
	Explained  string       `json:"explained"`
	Reason     string       `json:"reason,omitempty"`
	DecidedBy  string       `json:"decided_by,omitempty"`
	Attention  string       `json:"attention,omitempty"`
	Owner      string       `json:"owner,omitempty"`
	Trace      string       `json:"trace,omitempty"` // as W3C traceparent
	Epoch      int64        `json:"epoch"`
	CreatedAt  *time.Time   `json:"created_at"`
	DeadlineAt *time.Time   `json:"deadline_at"`
	DecidedAt  *time.Time   `json:"decided_at,omitempty"`
	FinishedAt *time.Time   `json:"finished_at,omitempty"`
	NextAt     *time.Time   `json:"next_at,omitempty"` // when it is due next
	PausedAt   *time.Time   `json:"paused_at,omitempty"`
	Branches   []BranchView `json:"branches"`
	Acts       []ActView    `json:"operators,omitempty"`
}

// ActView is an operator's action.
type ActView struct {
	Act string     `json:"act"`
	Who string     `json:"who"`
	Why string     `json:"why"`
	At  *time.Time `json:"at"`
}

// BranchView is a branch, its barrier row and its failed attempts.
type BranchView struct {
	ID       string          `json:"branch_id"`
	Kind     string          `json:"kind"`
	Payload  json.RawMessage `json:"payload"`
	Barrier  BarrierView     `json:"barrier"`
	Attempts []AttemptView   `json:"failed_attempts"`
}

// BarrierView is a barrier row with an explanation.
type BarrierView struct {
	State       string     `json:"state"`
	Explained   string     `json:"explained"`
	TriedAt     *time.Time `json:"tried_at,omitempty"`
	ConfirmedAt *time.Time `json:"confirmed_at,omitempty"`
	CancelledAt *time.Time `json:"cancelled_at,omitempty"`
	TurnedAway  int        `json:"turned_away"`
}

// AttemptView is a failed branch call.
type AttemptView struct {
	Operation string     `json:"operation"`
	Attempt   int        `json:"attempt"`
	Error     string     `json:"error"`
	FailedAt  *time.Time `json:"failed_at"`
	NextAt    *time.Time `json:"next_at,omitempty"`
}

func (a api) getTransaction(c *gin.Context) {
	found, err := a.engine.Lookup(c.Request.Context(), web.Param(c, "gid"))
	switch {
	case errors.Is(err, saga.ErrNotFound):
		web.Fail(c, http.StatusNotFound, noTransaction)
		return
	case errors.Is(err, saga.ErrInvalid):
		web.Fail(c, http.StatusBadRequest, err.Error())
		return
	case err != nil:
		web.Unavailable(c, "the transaction cannot be read now: try again", err)
		return
	}
	view := TransactionView{GID: found.GID, State: string(found.State), Explained: found.State.Explain(), Reason: found.Reason,
		DecidedBy: found.DecidedBy, Attention: found.Attention, Owner: found.Owner, Trace: found.Trace, Epoch: found.Epoch,
		CreatedAt: at(found.CreatedAt), DeadlineAt: at(found.DeadlineAt), DecidedAt: at(found.DecidedAt),
		FinishedAt: at(found.FinishedAt), NextAt: at(found.DueAt), PausedAt: at(found.PausedAt), Branches: []BranchView{}}
	for _, act := range found.Acts {
		view.Acts = append(view.Acts, ActView{Act: act.Name, Who: act.Who, Why: act.Why, At: at(act.At)})
	}
	for _, branch := range found.Branches {
		view.Branches = append(view.Branches, branchView(branch))
	}
	c.IndentedJSON(http.StatusOK, view)
}

// acts are the operator's actions, by the last part of the path.
var acts = map[string]func(e *embedded.Engine, ctx context.Context, gid string, by saga.Operator) error{
	"retry":  (*embedded.Engine).Retry,
	"pause":  (*embedded.Engine).Pause,
	"resume": (*embedded.Engine).Resume,
	"confirm": func(e *embedded.Engine, ctx context.Context, gid string, by saga.Operator) error {
		_, err := e.Decide(ctx, gid, saga.Confirming, by)
		return err
	},
	"cancel": func(e *embedded.Engine, ctx context.Context, gid string, by saga.Operator) error {
		_, err := e.Decide(ctx, gid, saga.Cancelling, by)
		return err
	},
}

// postAct makes an operator's action on a transaction.
func (a api) postAct(c *gin.Context) {
	act, known := acts[web.Param(c, "act")]
	if !known {
		web.Fail(c, http.StatusNotFound, "an operator can retry, pause, resume, confirm or cancel")
		return
	}
	var by struct {
		Who string `json:"who"`
		Why string `json:"why"`
	}
	if !web.Decode(c, &by) {
		return
	}
	if by.Who == "" || by.Why == "" {
		web.Fail(c, http.StatusBadRequest, `the body needs "who" and "why": both are recorded`)
		return
	}
	err := act(a.engine, c.Request.Context(), web.Param(c, "gid"), saga.Operator{Who: by.Who, Why: by.Why})
	switch {
	case err == nil:
		a.getTransaction(c)
	case errors.Is(err, saga.ErrNotFound):
		web.Fail(c, http.StatusNotFound, noTransaction)
	case errors.Is(err, saga.ErrInvalid):
		web.Fail(c, http.StatusBadRequest, err.Error())
	case errors.Is(err, saga.ErrRefused), errors.Is(err, saga.ErrConfirmed), errors.Is(err, saga.ErrCancelled),
		errors.Is(err, saga.ErrNotOpen), errors.Is(err, saga.ErrNotTried):
		web.Fail(c, http.StatusConflict, err.Error())
	default:
		web.Unavailable(c, "it is unknown whether this was done: look at the transaction, or try again", err)
	}
}

const noTransaction = "no such transaction: the gid of an order is order-ID, of a reservation reservation-ID"

func branchView(b saga.BranchView) BranchView {
	view := BranchView{ID: b.ID, Kind: b.Kind, Payload: b.Payload, Barrier: barrierView(b.Barrier), Attempts: []AttemptView{}}
	if b.BarrierError != "" {
		view.Barrier = BarrierView{State: "unknown", Explained: b.BarrierError}
	}
	for _, a := range b.Attempts {
		view.Attempts = append(view.Attempts, AttemptView{Operation: string(a.Operation), Attempt: a.Number, Error: a.Error,
			FailedAt: at(a.FailedAt), NextAt: at(a.NextAt)})
	}
	return view
}

func barrierView(row *barrier.Row) BarrierView {
	if row == nil {
		return BarrierView{State: "none", Explained: "no row: Try never ran, or its local transaction was rolled back, so nothing was reserved"}
	}
	return BarrierView{State: string(row.State), Explained: row.Explain(), TriedAt: at(row.TriedAt),
		ConfirmedAt: at(row.ConfirmedAt), CancelledAt: at(row.CancelledAt), TurnedAway: row.TurnedAway}
}

// at returns nil for the zero time.
func at(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
