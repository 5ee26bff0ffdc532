package main

import (
	"errors"
	"net/http"
	"regexp"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/tccsaga/tccsaga/examples/internal/web"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/tcc"
)

// api has the pages of the service.
type api struct{ *Service }

// routes returns the pages. If other machines reach the service, it has no operator's
// pages, because this example does not authenticate.
func (a api) routes() http.Handler {
	r := web.New()
	r.Use(nameSpan)
	r.POST("/orders", a.postOrder)
	r.POST("/reservations", a.postReservation)
	r.POST("/reservations/:id/pay", a.payReservation)
	r.POST("/reservations/:id/cancel", a.cancelReservation)
	web.Stock(r, a.stock)
	web.Get(r, "/notifications", a.getNotifications)
	web.Get(r, "/healthz", a.health.getHealth)
	web.Get(r, "/readyz", a.health.getReady)
	if a.public.Any() {
		return r
	}
	web.Get(r, "/", func(c *gin.Context) { c.String(http.StatusOK, banner(a.Service, c.Request.Host)) })
	web.Get(r, "/metrics", a.telemetry.page())
	web.Get(r, "/transactions/:gid", a.getTransaction)
	r.POST("/transactions/:gid/:act", a.postAct)
	a.mountConsole(r)
	web.Get(r, "/faults", func(c *gin.Context) { c.JSON(http.StatusOK, a.faults.get()) })
	r.POST("/faults", a.postFaults)
	return r
}

// Answer is the outcome of an order or a reservation.
type Answer struct {
	GID       string     `json:"gid"`
	Status    string     `json:"status"`
	Reason    string     `json:"reason,omitempty"`
	Explained string     `json:"explained,omitempty"` // if it is not finished
	LookAt    string     `json:"look_at,omitempty"`   // the page that shows why
	Deadline  *time.Time `json:"pay_before,omitempty"`
}

func (a api) postOrder(c *gin.Context) {
	var order Order
	if !web.Decode(c, &order) || !valid(c, order) {
		return
	}
	gid := "order-" + order.OrderID
	plan, err := order.plan()
	if err != nil {
		a.answer(c, http.StatusCreated, gid, saga.Outcome{}, err)
		return
	}
	outcome, err := tcc.ExecuteWith(c.Request.Context(), a.engine, gid, saga.Options{Labels: order.labels()}, plan...)
	a.answer(c, http.StatusCreated, gid, outcome, err)
}

// answer turns an outcome into a response: success if it is finished, 202 if it is decided
// and not finished, 409 with the reason, or 503 if the request has to be sent again.
func (a api) answer(c *gin.Context, success int, gid string, outcome saga.Outcome, err error) {
	outcome.GID = gid
	switch {
	case err == nil && !outcome.State.Finished():
		// The decision is final, and some branch is not confirmed yet.
		c.JSON(http.StatusAccepted, a.underWay(outcome))
	case err == nil:
		c.JSON(success, Answer{GID: outcome.GID, Status: string(outcome.State)})
	case errors.Is(err, saga.ErrCancelled):
		// For the caller, cancelling and cancelled are the same: a repeated request
		// gets the same answer.
		c.JSON(http.StatusConflict, Answer{GID: outcome.GID, Status: string(saga.Cancelled), Reason: outcome.Reason})
	case errors.Is(err, saga.ErrConfirmed):
		c.JSON(http.StatusConflict, Answer{GID: outcome.GID, Status: string(outcome.State), Reason: "it is already paid"})
	case errors.Is(err, saga.ErrMismatch):
		web.Fail(c, http.StatusConflict, outcome.GID+" was sent before with something else: send the first content again to learn its outcome, or use another order_id")
	case errors.Is(err, saga.ErrNotTried):
		web.Fail(c, http.StatusConflict, outcome.GID+" is not fully reserved: send POST /reservations again, or cancel it")
	case errors.Is(err, saga.ErrNotOpen):
		web.Fail(c, http.StatusConflict, outcome.GID+" can no longer be decided: the time to pay is over")
	case errors.Is(err, saga.ErrNotFound):
		web.Fail(c, http.StatusNotFound, "no such reservation")
	case errors.Is(err, saga.ErrInvalid):
		web.Fail(c, http.StatusBadRequest, err.Error())
	default:
		web.Unavailable(c, "the outcome is unknown: send the same request again to learn it", err)
	}
}

// underWay returns the answer for a transaction that is decided and not finished.
func (a api) underWay(outcome saga.Outcome) Answer {
	answer := Answer{GID: outcome.GID, Status: string(outcome.State),
		Explained: outcome.State.Explain() + "; send the same request again to see whether it is finished"}
	if !a.public.Any() {
		answer.LookAt = "/transactions/" + outcome.GID
	}
	return answer
}

// maxRows bounds an answer.
const maxRows = 10_000

func (a api) getNotifications(c *gin.Context) {
	notifications := []Notification{}
	if err := a.backend.db.WithContext(c.Request.Context()).Order("id").Limit(maxRows).Find(&notifications).Error; err != nil {
		web.Unavailable(c, "the notifications cannot be read now: try again", err)
		return
	}
	c.JSON(http.StatusOK, notifications)
}

func (a api) postFaults(c *gin.Context) {
	to := a.faults.get() // a switch that the body does not name stays
	if !web.Decode(c, &to) {
		return
	}
	if to.FailConfirms < 0 {
		web.Fail(c, http.StatusBadRequest, "fail_confirms is negative")
		return
	}
	a.faults.set(to)
	c.JSON(http.StatusOK, to)
}

var validOrderID = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,100}$`)

// valid checks an order, and answers 400 if it can never be placed.
func valid(c *gin.Context, o Order) bool {
	err := web.CheckItem(o.SKU, o.Quantity)
	if !validOrderID.MatchString(o.OrderID) {
		err = errors.New("order_id must be 1 to 100 letters, digits, dots, dashes, colons and underscores")
	}
	if err == nil {
		err = saga.ValidateLabels(o.labels())
	}
	if err != nil {
		web.Fail(c, http.StatusBadRequest, err.Error())
	}
	return err == nil
}
