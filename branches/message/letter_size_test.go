package message_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// A message of the size that the broker takes just so becomes a letter without its
// data, which are read from its stream, and is not handled again and again.
func TestDeadLetterOfLargestMessage(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "sqlite")
	b := newBench(t, db)
	most := int(b.js.Conn().MaxPayload()) - 200
	data := strings.Repeat("x", most)
	var broken atomic.Bool
	broken.Store(true)
	var seen journal
	b.consume(message.ConsumerConfig{Attempts: 2}, func(_ context.Context, _ *gorm.DB, m message.Received) error {
		seen.note(m)
		if broken.Load() {
			return errors.New("on purpose")
		}
		return nil
	})
	b.send("a", data, nats.Header{"X-Tag": {"t"}})
	b.send("b", data, nats.Header{"X-Tag": {"gone"}})
	b.settled("worker")
	letters := b.buried(message.LetterFilter{})
	if len(letters) != 2 || len(seen.all()) != 4 || !letters[0].WithoutData {
		t.Fatalf("%d calls, %d letters", len(seen.all()), len(letters))
	}
	l, err := b.letters().Get(t.Context(), letters[0].Number)
	if err != nil || len(l.Message.Data) != most || len(l.Message.Headers["X-Tag"]) != 1 {
		t.Errorf("%d bytes, %v", len(l.Message.Data), err)
	}
	stream, err := b.js.Stream(t.Context(), b.name)
	sagatest.Must(t, err)
	sagatest.Must(t, stream.DeleteMsg(t.Context(), letters[1].Message.Sequence))
	broken.Store(false)
	if sent := b.resend(); sent != 2 {
		t.Errorf("resent %d", sent)
	}
	m := seen.reaches(t, 5)[4]
	if len(m.Data) != most || m.Subject != b.name+"."+string("ab"[m.Sequence-1]) || m.Headers["X-Tag"][0] != "t" {
		t.Errorf("resent %d bytes on %s, %v", len(m.Data), m.Subject, m.Headers)
	}
	// That whose data are gone is a letter again, and says so.
	sagatest.Eventually(t, "the letter without data is back", func() bool {
		return len(b.buried(message.LetterFilter{Reason: "message 2 is no longer in the stream"})) == 1
	})
}

// Of a stream that removes what is acknowledged, a message that is too large for a
// letter stays where it is.
func TestLargestMessageOfWorkQueue(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"))
	_, err := b.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: b.name + "q", Subjects: []string{b.name + "q.>"}, Retention: jetstream.WorkQueuePolicy})
	sagatest.Must(t, err)
	t.Cleanup(func() {
		for _, name := range []string{"q", "q_dead"} {
			sagatest.Must(t, b.js.DeleteStream(context.Background(), b.name+name))
		}
	})
	var seen journal
	c, err := message.Consume(t.Context(), b.db, wrap(b.js), message.ConsumerConfig{Stream: b.name + "q", Name: "worker", Attempts: 2, Logger: quiet,
		MinBackoff: 5 * time.Millisecond, MaxBackoff: 20 * time.Millisecond}, func(_ context.Context, _ *gorm.DB, m message.Received) error {
		seen.note(m)
		return errors.New("on purpose")
	})
	sagatest.Must(t, err)
	defer c.Stop(t.Context())
	_, err = b.js.Publish(t.Context(), b.name+"q.a", []byte(strings.Repeat("x", int(b.js.Conn().MaxPayload())-200)))
	sagatest.Must(t, err)
	sagatest.Eventually(t, "the consumer says why", func() bool {
		last := c.State(t.Context()).LastError
		return last != nil && strings.Contains(last.Error(), "stays there")
	})
	if got := count(t, b.js, b.name+"q"); got != 1 || len(seen.all()) != 2 {
		t.Errorf("the stream has %d messages, and the handler was called %d times", got, len(seen.all()))
	}
}
