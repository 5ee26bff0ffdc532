package main

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/examples/internal/web"
	"github.com/tccsaga/tccsaga/tcc"
)

// Notify is the payload: notify a customer if the order is placed.
type Notify struct {
	OrderID string
	Email   string
	Text    string
}

// Branch names the kind of branch.
func (Notify) Branch() string { return "notification.send" }

// Notification is a row; a mailer would send the rows in state sent.
type Notification struct {
	OrderID string `json:"order_id" gorm:"primaryKey;size:100"`
	Email   string `json:"email"`
	Text    string `json:"text"`
	State   string `json:"state"` // prepared, sent or dropped
}

// notifications is the branch.
type notifications struct{}

// Try prepares the notification, or rejects a wrong address.
func (notifications) Try(_ context.Context, tx *gorm.DB, in Notify) error {
	if !strings.Contains(in.Email, "@") {
		return tcc.Reject(errors.New("the customer has no e-mail address"))
	}
	return insert(tx, &Notification{OrderID: in.OrderID, Email: in.Email, Text: in.Text, State: "prepared"})
}

// Confirm marks it sent.
func (notifications) Confirm(_ context.Context, tx *gorm.DB, in Notify) error {
	return changed(tx.Model(&Notification{OrderID: in.OrderID}).Update("state", "sent"))
}

// Cancel marks it dropped.
func (notifications) Cancel(_ context.Context, tx *gorm.DB, in Notify) error {
	return changed(tx.Model(&Notification{OrderID: in.OrderID}).Update("state", "dropped"))
}

// runNotifications runs the notification service.
func runNotifications(ctx context.Context, config Config) error {
	s, err := newService(ctx, config, "notification", config.NotificationAddr, config.NotificationDB, &Notification{})
	if err != nil {
		return err
	}
	defer s.close()
	if err := tcc.Register(s.host, notifications{}); err != nil {
		return err
	}
	web.Get(s.routes, "/notifications", func(c *gin.Context) {
		rows := []Notification{}
		if err := s.db.WithContext(c.Request.Context()).Order("order_id").Limit(maxRows).Find(&rows).Error; err != nil {
			web.Unavailable(c, "the notifications cannot be read now: try again", err)
			return
		}
		c.JSON(http.StatusOK, rows)
	})
	return s.serve(ctx, nil)
}
