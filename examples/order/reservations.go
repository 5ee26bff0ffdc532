package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

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
	if !decode(c, &r) || !valid(c, r.Order) {
		return
	}
	within, err := r.payWithin()
	if err != nil {
		fail(c, http.StatusBadRequest, err.Error())
		return
	}
	ctx, gid := c.Request.Context(), reservationPrefix+r.OrderID
	err = s.reserve(ctx, gid, r, within)
	var rejection *saga.Rejection
	switch {
	case err == nil:
		s.reserved(c, gid)
	case errors.As(err, &rejection):
		outcome, err := s.orch.Cancel(ctx, gid, rejection.Error())
		if err == nil {
			err = saga.ErrCancelled
		}
		s.answer(c, http.StatusCreated, outcome, err)
	case errors.Is(err, saga.ErrNotOpen):
		s.reserved(c, gid) // repeated after the decision
	default:
		s.answer(c, http.StatusCreated, saga.Outcome{GID: gid}, err)
	}
}

// reserve tries the branches and leaves the decision open. Sent again, it is
// recognised branch by branch, and does nothing new.
func (s *Service) reserve(ctx context.Context, gid string, r Reservation, within time.Duration) error {
	plan, err := r.plan()
	if err != nil {
		return err
	}
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
func (s *Service) reserved(c *gin.Context, gid string) {
	found, err := s.orch.Lookup(c.Request.Context(), gid)
	switch {
	case err != nil:
		s.answer(c, http.StatusCreated, saga.Outcome{GID: gid}, err)
	case found.State == saga.Trying:
		c.JSON(http.StatusCreated, Answer{GID: gid, Status: "reserved", Deadline: &found.DeadlineAt})
	case found.State == saga.Cancelling || found.State == saga.Cancelled:
		s.answer(c, http.StatusCreated, saga.Outcome{GID: gid, State: found.State, Reason: found.Reason}, saga.ErrCancelled)
	default:
		s.answer(c, http.StatusCreated, saga.Outcome{GID: gid, State: found.State}, nil)
	}
}

func (s *Service) payReservation(c *gin.Context) {
	outcome, err := s.orch.Confirm(c.Request.Context(), reservationGID(c), saga.Options{})
	s.answer(c, http.StatusOK, outcome, err)
}

func (s *Service) cancelReservation(c *gin.Context) {
	outcome, err := s.orch.Cancel(c.Request.Context(), reservationGID(c), "cancelled by the customer")
	s.answer(c, http.StatusOK, outcome, err)
}

// reservationGID takes the order id, or the gid that POST /reservations gave.
func reservationGID(c *gin.Context) string {
	return reservationPrefix + strings.TrimPrefix(c.Param("id"), reservationPrefix)
}
