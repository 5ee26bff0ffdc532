package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"

	"github.com/gin-gonic/gin"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/tcc"
)

// Order is the body of POST /orders, the row of the order, and the payload of the
// branch that places it.
type Order struct {
	OrderID  string `json:"order_id" gorm:"primaryKey;size:100"`
	SKU      string `json:"sku" gorm:"column:sku"`
	Quantity int64  `json:"quantity"`
	Email    string `json:"email"`
	State    string `json:"state"` // pending, placed or cancelled
}

// Branch names the kind of branch.
func (Order) Branch() string { return "order.place" }

// orders is the branch: the order itself is all or nothing with the rest.
type orders struct{}

// Try writes the order as pending.
func (orders) Try(_ context.Context, tx *gorm.DB, in Order) error {
	in.State = "pending"
	return tx.Create(&in).Error
}

// Confirm places it.
func (orders) Confirm(_ context.Context, tx *gorm.DB, in Order) error {
	return tx.Model(&Order{OrderID: in.OrderID}).Update("state", "placed").Error
}

// Cancel cancels it.
func (orders) Cancel(_ context.Context, tx *gorm.DB, in Order) error {
	return tx.Model(&Order{OrderID: in.OrderID}).Update("state", "cancelled").Error
}

// runOrders is the order service, which runs the transactions.
func runOrders(ctx context.Context, config Config) error {
	s, err := newService(ctx, config, "order", config.OrderAddr, config.OrderDB, &Order{})
	if err != nil {
		return err
	}
	defer s.close()
	engine, run, err := openEngine(ctx, config, s)
	if err != nil {
		return err
	}
	keys, err := signingKeys(config)
	if err != nil {
		return err
	}
	shelves, err := remote.NewService(config.StockURL+"/branches", remote.ServiceConfig{Name: "stock", Keys: keys})
	if err != nil {
		return err
	}
	mail, err := remote.NewService(config.NotificationURL+"/branches", remote.ServiceConfig{Name: "notification", Keys: keys})
	if err != nil {
		return err
	}
	err = errors.Join(
		tcc.Register(engine, orders{}),
		tcc.RegisterRemote[stock.Lock](engine, shelves),
		tcc.RegisterRemote[Notify](engine, mail),
	)
	if err != nil {
		return err
	}
	s.routes.POST("/orders", func(c *gin.Context) { postOrder(c, engine) })
	s.routes.GET("/orders", s.getOrders)
	s.routes.GET("/transactions/:gid", func(c *gin.Context) { getTransaction(c, engine) })

	// It runs until the last request is answered, not only until ctx ends.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- run(running) }()
	err = s.serve(ctx)
	stop()
	return errors.Join(err, <-ended)
}

var validOrderID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,80}$`)

// postOrder places an order: in three databases, or in none.
func postOrder(c *gin.Context, engine saga.Engine) {
	var o Order
	if !decode(c, &o) {
		return
	}
	if !validOrderID.MatchString(o.OrderID) {
		fail(c, http.StatusBadRequest, "order_id must be 1 to 80 letters, digits, dots, dashes and underscores")
		return
	}
	outcome, err := tcc.Execute(c.Request.Context(), engine, "order-"+o.OrderID,
		stock.Lock{Items: []stock.Item{{SKU: o.SKU, Quantity: o.Quantity}}},
		Notify{OrderID: o.OrderID, Email: o.Email, Text: fmt.Sprintf("We have got %d of %s for you.", o.Quantity, o.SKU)},
		o,
	)
	answer := gin.H{"gid": outcome.GID, "state": outcome.State}
	switch {
	case err == nil:
		c.JSON(http.StatusCreated, answer)
	case errors.Is(err, saga.ErrCancelled):
		answer["reason"] = outcome.Reason
		c.JSON(http.StatusConflict, answer)
	case errors.Is(err, saga.ErrMismatch):
		fail(c, http.StatusConflict, "this order_id is in use for something else")
	case errors.Is(err, saga.ErrInvalid):
		fail(c, http.StatusBadRequest, err.Error())
	default:
		c.Header("Retry-After", "1")
		fail(c, http.StatusServiceUnavailable, "send the same request again to learn the outcome: "+err.Error())
	}
}

func (s *service) getOrders(c *gin.Context) {
	rows := []Order{}
	if err := s.db.WithContext(c.Request.Context()).Order("order_id").Find(&rows).Error; err != nil {
		fail(c, http.StatusServiceUnavailable, err.Error())
		return
	}
	c.JSON(http.StatusOK, rows)
}

func getTransaction(c *gin.Context, engine saga.Engine) {
	found, err := engine.Lookup(c.Request.Context(), c.Param("gid"))
	switch {
	case errors.Is(err, saga.ErrNotFound):
		fail(c, http.StatusNotFound, err.Error())
		return
	case err != nil:
		fail(c, http.StatusServiceUnavailable, err.Error())
		return
	}
	branches := []gin.H{}
	for _, b := range found.Branches {
		view := gin.H{"branch": b.ID, "kind": b.Kind, "failed_calls": len(b.Attempts)}
		if n := len(b.Attempts); n > 0 {
			view["last_failure"] = b.Attempts[n-1].Error
		}
		branches = append(branches, view)
	}
	c.JSON(http.StatusOK, gin.H{"gid": found.GID, "state": found.State, "means": found.State.Explain(), "reason": found.Reason, "branches": branches})
}
