package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/tcc"
)

// Routes returns the HTTP interface.
func (s *Service) Routes() http.Handler {
	r := gin.New()
	r.Use(gin.Recovery())
	r.GET("/", func(c *gin.Context) { c.String(http.StatusOK, banner(s, c.Request.Host)) })
	r.POST("/orders", s.postOrder)
	r.POST("/reservations", s.postReservation)
	r.POST("/reservations/:id/pay", s.payReservation)
	r.POST("/reservations/:id/cancel", s.cancelReservation)
	r.GET("/stock/:sku", s.getStock)
	r.PUT("/stock/:sku", s.putStock)
	r.GET("/notifications", s.getNotifications)
	r.GET("/transactions/:gid", s.getTransaction)
	r.POST("/transactions/:gid/:act", s.postAct)
	r.GET("/faults", func(c *gin.Context) { c.JSON(http.StatusOK, s.faults.get()) })
	r.POST("/faults", s.postFaults)
	r.NoRoute(func(c *gin.Context) { fail(c, http.StatusNotFound, "no such page; GET / lists what there is") })
	return r
}

// Answer is what becomes of an order or a reservation.
type Answer struct {
	GID      string     `json:"gid"`
	Status   string     `json:"status"`
	Reason   string     `json:"reason,omitempty"`
	Deadline *time.Time `json:"pay_before,omitempty"`
}

func (s *Service) postOrder(c *gin.Context) {
	var order Order
	if !decode(c, &order) || !valid(c, order) {
		return
	}
	gid := "order-" + order.OrderID
	plan, err := order.plan()
	if err != nil {
		s.answer(c, http.StatusCreated, saga.Outcome{GID: gid}, err)
		return
	}
	outcome, err := tcc.Execute(c.Request.Context(), s.orch, gid, plan...)
	s.answer(c, http.StatusCreated, outcome, err)
}

// answer turns an outcome into a response: success, 409 with the reason, or 503
// if the same request has to be sent again to learn more.
func (s *Service) answer(c *gin.Context, success int, outcome saga.Outcome, err error) {
	switch {
	case err == nil:
		c.JSON(success, Answer{GID: outcome.GID, Status: string(outcome.State)})
	case errors.Is(err, saga.ErrCancelled):
		// Cancelling has released nothing less for the caller than Cancelled:
		// to give the same answer each time, both are called cancelled.
		c.JSON(http.StatusConflict, Answer{GID: outcome.GID, Status: string(saga.Cancelled), Reason: outcome.Reason})
	case errors.Is(err, saga.ErrConfirmed):
		c.JSON(http.StatusConflict, Answer{GID: outcome.GID, Status: string(outcome.State), Reason: "it is paid already"})
	case errors.Is(err, saga.ErrMismatch):
		fail(c, http.StatusConflict, "this order_id is in use for something else")
	case errors.Is(err, saga.ErrNotFound):
		fail(c, http.StatusNotFound, "no such reservation")
	case errors.Is(err, saga.ErrInvalid):
		fail(c, http.StatusBadRequest, err.Error())
	default:
		c.Header("Retry-After", "1")
		fail(c, http.StatusServiceUnavailable, "send the same request again to learn the outcome: "+err.Error())
	}
}

func (s *Service) getStock(c *gin.Context) {
	level, err := s.stock.Get(c.Request.Context(), c.Param("sku"))
	stockAnswer(c, level, err)
}

func (s *Service) putStock(c *gin.Context) {
	var body struct {
		Available *int64 `json:"available"`
	}
	if !decode(c, &body) {
		return
	}
	if body.Available == nil {
		fail(c, http.StatusBadRequest, `the body needs "available"`)
		return
	}
	ctx, sku := c.Request.Context(), c.Param("sku")
	if err := s.stock.Put(ctx, sku, *body.Available); err != nil {
		stockAnswer(c, stock.Level{}, err)
		return
	}
	level, err := s.stock.Get(ctx, sku)
	stockAnswer(c, level, err)
}

func stockAnswer(c *gin.Context, level stock.Level, err error) {
	switch {
	case err == nil:
		c.JSON(http.StatusOK, level)
	case errors.Is(err, stock.ErrUnknownSKU):
		fail(c, http.StatusNotFound, err.Error())
	case errors.Is(err, stock.ErrInvalid):
		fail(c, http.StatusBadRequest, err.Error())
	default:
		fail(c, http.StatusServiceUnavailable, err.Error())
	}
}

func (s *Service) getNotifications(c *gin.Context) {
	notifications := []Notification{}
	if err := s.backend.db.WithContext(c.Request.Context()).Order("id").Find(&notifications).Error; err != nil {
		fail(c, http.StatusServiceUnavailable, err.Error())
		return
	}
	c.JSON(http.StatusOK, notifications)
}

func (s *Service) postFaults(c *gin.Context) {
	to := s.faults.get() // what the body does not name stays
	if !decode(c, &to) {
		return
	}
	if to.FailConfirms < 0 {
		fail(c, http.StatusBadRequest, "fail_confirms is negative")
		return
	}
	s.faults.set(to)
	c.JSON(http.StatusOK, to)
}

// maxBody bounds what a request may send, in bytes.
const maxBody = 64 << 10

// decode reads a JSON body, and answers 400 if it is not one.
func decode(c *gin.Context, into any) bool {
	decoder := json.NewDecoder(http.MaxBytesReader(c.Writer, c.Request.Body, maxBody))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err == nil {
		if _, err = decoder.Token(); errors.Is(err, io.EOF) {
			return true
		}
		err = errors.New("there is something after the JSON object")
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("it is empty")
	}
	fail(c, http.StatusBadRequest, "the body is not what this page takes: "+strings.TrimPrefix(err.Error(), "json: "))
	return false
}

var validOrderID = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,100}$`)

// valid checks an order, and answers 400 if it can never be placed.
func valid(c *gin.Context, o Order) bool {
	switch {
	case !validOrderID.MatchString(o.OrderID):
		fail(c, http.StatusBadRequest, "order_id must be 1 to 100 letters, digits, dots, dashes, colons and underscores")
	case strings.TrimSpace(o.SKU) == "" || len(o.SKU) > stock.MaxSKU:
		fail(c, http.StatusBadRequest, fmt.Sprintf("sku must have 1 to %d characters", stock.MaxSKU))
	case o.Quantity < 1 || o.Quantity > stock.MaxQuantity:
		fail(c, http.StatusBadRequest, fmt.Sprintf("quantity must be between 1 and %d", stock.MaxQuantity))
	default:
		return true
	}
	return false
}

func fail(c *gin.Context, status int, message string) {
	c.JSON(status, gin.H{"error": message})
}
