package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"unicode"

	"github.com/gin-gonic/gin"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/examples/internal/web"
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

// orders is the branch that places the order itself.
type orders struct{}

// Try writes the order as pending.
func (orders) Try(_ context.Context, tx *gorm.DB, in Order) error {
	in.State = "pending"
	return insert(tx, &in)
}

// Confirm places it.
func (orders) Confirm(_ context.Context, tx *gorm.DB, in Order) error {
	return changed(tx.Model(&Order{OrderID: in.OrderID}).Update("state", "placed"))
}

// Cancel cancels it.
func (orders) Cancel(_ context.Context, tx *gorm.DB, in Order) error {
	return changed(tx.Model(&Order{OrderID: in.OrderID}).Update("state", "cancelled"))
}

// insert writes a row, or rejects if it exists: after the retention an order id is new for
// the engine, but not for the table.
func insert(tx *gorm.DB, row any) error {
	written := tx.Clauses(clause.OnConflict{DoNothing: true}).Create(row)
	if written.Error == nil && written.RowsAffected == 0 {
		return tcc.Reject(errors.New("an old order has this id"))
	}
	return written.Error
}

// changed checks that a Confirm or Cancel found the row of its Try.
func changed(updated *gorm.DB) error {
	if updated.Error == nil && updated.RowsAffected != 1 {
		return fmt.Errorf("%d rows changed, want 1: was the row changed by hand?", updated.RowsAffected)
	}
	return updated.Error
}

// runOrders runs the order service, which has the engine.
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
	stockService, err := remote.NewService(config.StockURL+"/branches", remote.ServiceConfig{Name: "stock", Keys: keys})
	if err != nil {
		return err
	}
	notificationService, err := remote.NewService(config.NotificationURL+"/branches", remote.ServiceConfig{Name: "notification", Keys: keys})
	if err != nil {
		return err
	}
	err = errors.Join(
		tcc.Register(engine, orders{}),
		tcc.RegisterRemote[stock.Lock](engine, stockService),
		tcc.RegisterRemote[Notify](engine, notificationService),
	)
	if err != nil {
		return err
	}
	s.routes.POST("/orders", func(c *gin.Context) { s.postOrder(c, engine) })
	web.Get(s.routes, "/orders", s.getOrders)
	if !s.public {
		web.Get(s.routes, "/transactions/:gid", func(c *gin.Context) { getTransaction(c, engine) })
	}
	return s.serve(ctx, drive(ctx, run))
}

var validOrderID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,80}$`)

// check returns an error if the order can never be placed.
func (o Order) check() error {
	switch {
	case !validOrderID.MatchString(o.OrderID):
		return errors.New("order_id must be 1 to 80 letters, digits, dots, dashes and underscores")
	case o.State != "":
		return errors.New("state must not be set")
	case len(o.Email) > 254 || strings.ContainsFunc(o.Email, func(r rune) bool { return !unicode.IsPrint(r) }):
		return errors.New("email must have at most 254 printable characters")
	}
	return web.CheckItem(o.SKU, o.Quantity)
}

// postOrder places an order in three databases, or in none.
func (s *service) postOrder(c *gin.Context, engine saga.Engine) {
	var o Order
	if !web.Decode(c, &o) {
		return
	}
	if err := o.check(); err != nil {
		web.Fail(c, http.StatusBadRequest, err.Error())
		return
	}
	outcome, err := tcc.Execute(c.Request.Context(), engine, "order-"+o.OrderID,
		stock.Lock{Items: []stock.Item{{SKU: o.SKU, Quantity: o.Quantity}}},
		Notify{OrderID: o.OrderID, Email: o.Email, Text: fmt.Sprintf("We have got %d of %s for you.", o.Quantity, o.SKU)},
		o,
	)
	answer := gin.H{"gid": outcome.GID, "state": outcome.State}
	switch {
	case err == nil && !outcome.State.Finished():
		// The decision is final, and some branch is not confirmed yet.
		answer["explained"] = outcome.State.Explain() + "; send the same request again to see whether it is finished"
		if !s.public {
			answer["look_at"] = "/transactions/" + outcome.GID
		}
		c.JSON(http.StatusAccepted, answer)
	case err == nil:
		c.JSON(http.StatusCreated, answer)
	case errors.Is(err, saga.ErrCancelled):
		answer["reason"] = outcome.Reason
		c.JSON(http.StatusConflict, answer)
	case errors.Is(err, saga.ErrMismatch):
		web.Fail(c, http.StatusConflict, "order_id "+o.OrderID+" was sent before with something else: send the first content again to learn its outcome, or use another order_id")
	case errors.Is(err, saga.ErrInvalid):
		web.Fail(c, http.StatusBadRequest, err.Error())
	default:
		web.Unavailable(c, "the outcome is unknown: send the same request again to learn it", err)
	}
}

// maxRows bounds an answer.
const maxRows = 10_000

func (s *service) getOrders(c *gin.Context) {
	rows := []Order{}
	if err := s.db.WithContext(c.Request.Context()).Order("order_id").Limit(maxRows).Find(&rows).Error; err != nil {
		web.Unavailable(c, "the orders cannot be read now: try again", err)
		return
	}
	c.JSON(http.StatusOK, rows)
}

func getTransaction(c *gin.Context, engine saga.Engine) {
	found, err := engine.Lookup(c.Request.Context(), web.Param(c, "gid"))
	switch {
	case errors.Is(err, saga.ErrNotFound):
		web.Fail(c, http.StatusNotFound, "no such transaction: the gid of an order is order-ID")
		return
	case errors.Is(err, saga.ErrInvalid):
		web.Fail(c, http.StatusBadRequest, err.Error())
		return
	case err != nil:
		web.Unavailable(c, "the transaction cannot be read now: try again", err)
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
