package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/tccsaga/tccsaga/examples/internal/web"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/tcc"
)

// Reservation is the body of POST /reservations: an order with a decision that comes
// later.
type Reservation struct {
	Order
	PayWithin string `json:"pay_within"` // a duration such as 15m, which is the default
}

// Bounds of pay_within.
const (
	defaultPayWithin = 15 * time.Minute
	maxPayWithin     = 30 * 24 * time.Hour
)

const reservationPrefix = "reservation-"

func (r Reservation) payWithin() (time.Duration, error) {
	if r.PayWithin == "" {
		return defaultPayWithin, nil
	}
	within, err := time.ParseDuration(r.PayWithin)
	if err != nil || within < time.Millisecond || within > maxPayWithin {
		return 0, fmt.Errorf("pay_within %q must be a duration between 1ms and %s, such as 15m", r.PayWithin, maxPayWithin)
	}
	return within, nil
}

func (a api) postReservation(c *gin.Context) {
	var r Reservation
	if !web.Decode(c, &r) || !valid(c, r.Order) {
		return
	}
	within, err := r.payWithin()
	if err != nil {
		web.Fail(c, http.StatusBadRequest, err.Error())
		return
	}
	ctx, gid := c.Request.Context(), reservationPrefix+r.OrderID
	plan, err := r.plan()
	if err == nil {
		err = a.reserve(ctx, gid, plan, saga.Options{Timeout: within, Labels: r.labels()})
	}
	var rejection *saga.Rejection
	switch {
	case err == nil:
		a.reserved(c, gid, plan)
	case errors.As(err, &rejection):
		outcome, cancelErr := a.engine.Cancel(ctx, gid, rejection.Error())
		if cancelErr == nil {
			cancelErr = saga.ErrCancelled
		}
		a.answer(c, http.StatusCreated, gid, outcome, cancelErr)
	case errors.Is(err, saga.ErrNotOpen):
		a.reserved(c, gid, plan) // the request was repeated after the decision
	default:
		a.answer(c, http.StatusCreated, gid, saga.Outcome{}, err)
	}
}

// reserve tries the branches and leaves the decision open. If it is repeated, the engine
// recognises each branch, and nothing is tried twice.
func (a api) reserve(ctx context.Context, gid string, plan []tcc.Payload, options saga.Options) error {
	tx, err := tcc.BeginWith(ctx, a.engine, gid, options)
	if err != nil {
		return err
	}
	for _, payload := range plan {
		if err := tx.Try(ctx, payload); err != nil {
			return err
		}
	}
	return nil
}

// reserved answers with the state of the reservation.
func (a api) reserved(c *gin.Context, gid string, plan []tcc.Payload) {
	found, err := a.engine.Lookup(c.Request.Context(), gid)
	switch {
	case err != nil:
		a.answer(c, http.StatusCreated, gid, saga.Outcome{}, err)
	case !same(found.Branches, plan):
		a.answer(c, http.StatusCreated, gid, saga.Outcome{}, saga.ErrMismatch)
	case found.State == saga.Trying:
		c.JSON(http.StatusCreated, Answer{GID: gid, Status: "reserved", Deadline: &found.DeadlineAt})
	case found.State == saga.Cancelling || found.State == saga.Cancelled:
		a.answer(c, http.StatusCreated, gid, saga.Outcome{State: found.State, Reason: found.Reason}, saga.ErrCancelled)
	default:
		a.answer(c, http.StatusCreated, gid, saga.Outcome{State: found.State}, nil)
	}
}

// same reports whether the branches in the log are the first ones of the plan; a rejected
// Try leaves none. While the transaction is open, the engine compares them itself.
func same(branches []saga.BranchView, plan []tcc.Payload) bool {
	if len(branches) > len(plan) {
		return false
	}
	for i, branch := range branches {
		var logged, sent any
		text, err := json.Marshal(plan[i])
		if err != nil || json.Unmarshal(text, &sent) != nil || json.Unmarshal(branch.Payload, &logged) != nil || !reflect.DeepEqual(logged, sent) {
			return false
		}
	}
	return true
}

func (a api) payReservation(c *gin.Context) {
	gid := reservationGID(c)
	outcome, err := a.engine.Confirm(c.Request.Context(), gid, saga.Options{})
	a.answer(c, http.StatusOK, gid, outcome, err)
}

func (a api) cancelReservation(c *gin.Context) {
	gid := reservationGID(c)
	outcome, err := a.engine.Cancel(c.Request.Context(), gid, "cancelled by the customer")
	a.answer(c, http.StatusOK, gid, outcome, err)
}

// reservationGID takes the order id, or the gid that POST /reservations gave.
func reservationGID(c *gin.Context) string {
	return reservationPrefix + strings.TrimPrefix(web.Param(c, "id"), reservationPrefix)
}
