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

// Reservation is the body of POST /reservations: an order that is decided when
// it is paid, or not.
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

func (s *Service) postReservation(c *gin.Context) {
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
		err = s.reserve(ctx, gid, plan, within)
	}
	var rejection *saga.Rejection
	switch {
	case err == nil:
		s.reserved(c, gid, plan)
	case errors.As(err, &rejection):
		outcome, failure := s.orch.Cancel(ctx, gid, rejection.Error())
		if failure == nil {
			failure = saga.ErrCancelled
		}
		s.answer(c, http.StatusCreated, gid, outcome, failure)
	case errors.Is(err, saga.ErrNotOpen):
		s.reserved(c, gid, plan) // repeated after the decision
	default:
		s.answer(c, http.StatusCreated, gid, saga.Outcome{}, err)
	}
}

// reserve tries the branches and leaves the decision open. Sent again, it is
// recognised branch by branch, and does nothing new.
func (s *Service) reserve(ctx context.Context, gid string, plan []tcc.Payload, within time.Duration) error {
	tx, err := tcc.Begin(ctx, s.orch, gid, saga.Options{Timeout: within})
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

// reserved answers with where the reservation stands.
func (s *Service) reserved(c *gin.Context, gid string, plan []tcc.Payload) {
	found, err := s.orch.Lookup(c.Request.Context(), gid)
	switch {
	case err != nil:
		s.answer(c, http.StatusCreated, gid, saga.Outcome{}, err)
	case !same(found.Branches, plan):
		s.answer(c, http.StatusCreated, gid, saga.Outcome{}, saga.ErrMismatch)
	case found.State == saga.Trying:
		c.JSON(http.StatusCreated, Answer{GID: gid, Status: "reserved", Deadline: &found.DeadlineAt})
	case found.State == saga.Cancelling || found.State == saga.Cancelled:
		s.answer(c, http.StatusCreated, gid, saga.Outcome{State: found.State, Reason: found.Reason}, saga.ErrCancelled)
	default:
		s.answer(c, http.StatusCreated, gid, saga.Outcome{State: found.State}, nil)
	}
}

// same reports whether the branches in the log are those of the plan, as far as
// there are any: a Try that was rejected has left none. While the transaction is
// open the engine compares; after the decision it says only that it is decided.
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

func (s *Service) payReservation(c *gin.Context) {
	gid := reservationGID(c)
	outcome, err := s.orch.Confirm(c.Request.Context(), gid, saga.Options{})
	s.answer(c, http.StatusOK, gid, outcome, err)
}

func (s *Service) cancelReservation(c *gin.Context) {
	gid := reservationGID(c)
	outcome, err := s.orch.Cancel(c.Request.Context(), gid, "cancelled by the customer")
	s.answer(c, http.StatusOK, gid, outcome, err)
}

// reservationGID takes the order id, or the gid that POST /reservations gave.
func reservationGID(c *gin.Context) string {
	return reservationPrefix + strings.TrimPrefix(web.Param(c, "id"), reservationPrefix)
}
