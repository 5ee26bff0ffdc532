package message_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// A message with a key that fails to its last attempt is put aside, and the next one of
// its key is handled.
func TestLastAttemptOfAKey(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"))
	b.effects()
	var attempts atomic.Int64
	b.consume(message.ConsumerConfig{Attempts: 3}, func(_ context.Context, tx *gorm.DB, m message.Received) error {
		if m.ID == "bad" {
			attempts.Add(1)
			return errors.New("on purpose")
		}
		return effect(tx, "worker", m.ID)
	})
	for _, id := range []string{"bad", "good"} {
		b.send("a", "x", nats.Header{message.HeaderID: {id}, message.HeaderKey: {"k"}})
	}
	b.settled("worker")
	if n := attempts.Load(); n != 3 {
		t.Errorf("%d attempts", n)
	}
	if letters := b.buried(message.LetterFilter{}); len(letters) != 1 || letters[0].Message.ID != "bad" {
		t.Errorf("letters %+v", letters)
	}
	b.had("worker", "good", 1)
}
