package message_test

import (
	"context"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc/tcctest"
)

// The publisher stands every dangerous order of calls: what counts is the
// outbox, and what is in the stream.
func TestExercise(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		js := connect(t)
		stream := newStream(t, js)
		publisher, err := message.NewPublisher(t.Context(), db, wrap(js), message.Config{Stream: stream, Subjects: []string{stream + ".>"}})
		sagatest.Must(t, err)
		type state struct{ Prepared, Published, Streamed int64 }
		tcctest.Exercise(t, db, publisher, tcctest.Case[message.Publish]{
			Name:    "a message",
			Payload: message.Publish{Subject: stream + ".placed", Data: []byte("order-1"), Headers: map[string][]string{"X-Shop": {"north"}}},
			Reset: func(ctx context.Context, db *gorm.DB) error {
				s, err := js.Stream(ctx, stream)
				if err == nil {
					err = s.Purge(ctx)
				}
				if err != nil {
					return err
				}
				return db.WithContext(ctx).Exec("DELETE FROM saga_outbox").Error
			},
			State: func(ctx context.Context, db *gorm.DB) (any, error) {
				s := state{Streamed: int64(count(t, js, stream))}
				// A discarded message is as none: nobody will ever see it.
				err := db.WithContext(ctx).Raw(`SELECT COALESCE(SUM(CASE WHEN state = 'prepared' THEN 1 ELSE 0 END), 0) AS prepared,
					COALESCE(SUM(CASE WHEN state = 'published' THEN 1 ELSE 0 END), 0) AS published FROM saga_outbox`).Scan(&s).Error
				return s, err
			},
		})
	})
}
