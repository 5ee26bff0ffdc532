package message_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// A message that fails to the last attempt is put aside with the reason; when
// the fault is found it is sent again, to its subject and under its logical id,
// so that a consumer that has handled it does nothing.
func TestDeadLetterAndResend(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db)
		b.effects()
		var broken atomic.Bool
		broken.Store(true)
		var mailed journal
		b.consume(message.ConsumerConfig{Name: "mailer", Attempts: 3}, func(_ context.Context, tx *gorm.DB, m message.Received) error {
			mailed.note(m)
			err := effect(tx, "mailer", m.ID)
			if broken.Load() {
				return errors.New("the mail server\r\nsays nö " + strings.Repeat("!", 2000))
			}
			return err
		})
		b.consume(message.ConsumerConfig{Name: "ledger"}, func(_ context.Context, tx *gorm.DB, m message.Received) error {
			return effect(tx, "ledger", m.ID)
		})
		in := b.publish("placed", "data")
		in.Headers = map[string][]string{"X-Tag": {"one", "two"}}
		gid := b.execute(phones(1), in)
		id := gid + "/02"
		dead := b.name + "_dead"
		b.settled("mailer")
		b.settled("ledger")
		b.had("mailer", id, 0)
		b.had("ledger", id, 1)
		if n := len(mailed.all()); n != 3 {
			t.Errorf("%d attempts", n)
		}
		b.holds(dead, 1)
		letter := read(t, b.js, dead, 1)
		if letter.Subject != "dead."+b.name+"."+in.Subject || string(letter.Data) != "data" {
			t.Errorf("dead letter on %s: %s", letter.Subject, letter.Data)
		}
		for name, want := range map[string]string{
			message.HeaderID: id, message.HeaderConsumer: "mailer", message.HeaderSubject: in.Subject, message.HeaderAttempts: "3", "X-Tag": "one",
		} {
			if got := letter.Header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if reason := letter.Header.Get(message.HeaderReason); !strings.HasPrefix(reason, "the mail server  says n") || len(reason) > 1000 {
			t.Errorf("reason %q", reason)
		}

		broken.Store(false)
		sent, err := message.Resend(t.Context(), wrap(b.js), dead, 10)
		if err != nil || sent != 1 {
			t.Fatalf("resent %d, %v", sent, err)
		}
		b.holds(dead, 0)
		b.holds(b.name, 2)
		b.settled("mailer")
		b.settled("ledger")
		b.had("mailer", id, 1)
		b.had("ledger", id, 1)
		resent := mailed.all()[3]
		if resent.ID != id || resent.Subject != in.Subject || resent.Attempt != 1 || len(resent.Headers["X-Tag"]) != 2 {
			t.Errorf("resent %+v", resent)
		}
		for name := range resent.Headers {
			if strings.HasPrefix(name, "Tccsaga-Dead-") {
				t.Errorf("resent with the header %s", name)
			}
		}
	})
}

// A handler that is interrupted at its timeout, or panics, can be the last
// attempt as well.
func TestDeadLetterOfTimeoutAndPanic(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"))
	b.consume(message.ConsumerConfig{Attempts: 2, Timeout: 500 * time.Millisecond}, func(ctx context.Context, _ *gorm.DB, m message.Received) error {
		if string(m.Data) == "panic" {
			panic("on purpose")
		}
		<-ctx.Done()
		return ctx.Err()
	})
	for i, c := range []struct{ data, says string }{{"panic", "panic: on purpose"}, {"timeout", "deadline exceeded"}} {
		b.send("a", c.data, nil)
		eventually(t, "the dead letter of a "+c.data, func() bool { return count(t, b.js, b.name+"_dead") == uint64(i+1) })
		letter := read(t, b.js, b.name+"_dead", uint64(i+1))
		if reason := letter.Header.Get(message.HeaderReason); !strings.Contains(reason, c.says) || letter.Header.Get(message.HeaderAttempts) != "2" {
			t.Errorf("%s: %v", c.data, letter.Header)
		}
	}
	b.settled("worker")
}

// Headers that told the broker how to take a message the first time do not keep
// it from being put aside, nor from being sent again.
func TestDeadLetterOfMessageWithBrokerHeaders(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"))
	var broken atomic.Bool
	broken.Store(true)
	var seen journal
	b.consume(message.ConsumerConfig{Attempts: 1}, func(_ context.Context, _ *gorm.DB, m message.Received) error {
		if broken.Load() {
			return errors.New("on purpose")
		}
		seen.note(m)
		return nil
	})
	b.send("a", "1", nats.Header{"Nats-Msg-Id": {"n1"}})
	b.send("a", "2", nats.Header{"Nats-Msg-Id": {"n2"}, "Nats-Expected-Last-Sequence": {"1"}, "Nats-Expected-Last-Msg-Id": {"n1"}, "Nats-Expected-Stream": {b.name}})
	b.settled("worker")
	b.holds(b.name+"_dead", 2)
	broken.Store(false)
	for want := range 3 { // one at a time, as far as the limit goes
		sent, err := message.Resend(t.Context(), wrap(b.js), b.name+"_dead", 1)
		if err != nil || sent != min(1, 2-want) {
			t.Errorf("resent %d, %v", sent, err)
		}
	}
	for i, m := range seen.reaches(t, 2) {
		if want := []string{"n1", "n2"}[i]; m.ID != want {
			t.Errorf("resent %q, want %q", m.ID, want)
		}
	}
}

// A message that fails again after it was sent again is put aside again.
func TestDeadLetterTwice(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"))
	b.consume(message.ConsumerConfig{Attempts: 1}, func(context.Context, *gorm.DB, message.Received) error { return errors.New("on purpose") })
	b.send("a", "x", nats.Header{message.HeaderID: {"m"}})
	for range 3 {
		b.settled("worker")
		b.holds(b.name+"_dead", 1)
		sent, err := message.Resend(t.Context(), wrap(b.js), b.name+"_dead", 5)
		if err != nil || sent != 1 {
			t.Fatalf("resent %d, %v", sent, err)
		}
	}
	b.settled("worker")
	b.holds(b.name+"_dead", 1)
}

func TestResendRefusals(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"))
	sent, err := message.Resend(t.Context(), wrap(b.js), newStream(t, b.js), 10)
	if !errors.Is(err, message.ErrNoDeadLetters) || sent != 0 {
		t.Errorf("no such stream: %d, %v", sent, err)
	}
	sent, err = message.Resend(t.Context(), wrap(b.js), b.name, 10)
	if err != nil || sent != 0 {
		t.Errorf("an empty stream: %d, %v", sent, err)
	}
	b.send("a", "x", nil)
	sent, err = message.Resend(t.Context(), wrap(b.js), b.name, 10)
	if err == nil || sent != 0 || !strings.Contains(err.Error(), "not written by a Consumer") {
		t.Errorf("a stream with other messages: %d, %v", sent, err)
	}
	b.holds(b.name, 1)
}
