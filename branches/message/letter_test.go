package message_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// A message that fails to the last attempt is put aside with the reason. When the
// fault is found it is sent again, to the consumer that had failed and to no other,
// under its logical id.
func TestDeadLetterAndResend(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db)
		b.effects()
		var broken atomic.Bool
		broken.Store(true)
		var mailed, booked journal
		b.consume(message.ConsumerConfig{Name: "mailer", Attempts: 3}, func(_ context.Context, tx *gorm.DB, m message.Received) error {
			mailed.note(m)
			err := effect(tx, "mailer", m.ID)
			if broken.Load() {
				return errors.New("the mail server\r\nsays nö " + strings.Repeat("!", 2000))
			}
			return err
		})
		b.consume(message.ConsumerConfig{Name: "ledger"}, func(_ context.Context, tx *gorm.DB, m message.Received) error {
			booked.note(m)
			return effect(tx, "ledger", m.ID)
		})
		in := b.publish("placed", "data")
		in.Headers = map[string][]string{"X-Tag": {"one", "two"}}
		b.execute(phones(1), in)
		dead := b.name + "_dead"
		b.settled("mailer")
		b.settled("ledger")
		id := mailed.all()[0].ID
		b.had("mailer", id, 0)
		b.had("ledger", id, 1)
		if n := len(mailed.all()); n != 3 {
			t.Errorf("%d attempts", n)
		}
		letter := read(t, b.js, dead, 1)
		if letter.Subject != "dead."+b.name+".letter.mailer."+in.Subject || string(letter.Data) != "data" {
			t.Errorf("dead letter on %s: %s", letter.Subject, letter.Data)
		}
		for name, want := range map[string]string{
			message.HeaderID: id, message.HeaderConsumer: "mailer", message.HeaderSubject: in.Subject, message.HeaderAttempts: "3", "X-Tag": "one",
			message.HeaderStream: b.name, message.HeaderSequence: "1",
		} {
			if got := letter.Header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if reason := letter.Header.Get(message.HeaderReason); !strings.HasPrefix(reason, "the mail server  says n") || len(reason) > 1000 {
			t.Errorf("reason %q", reason)
		}

		broken.Store(false)
		if sent := b.resend(); sent != 1 {
			t.Fatalf("resent %d", sent)
		}
		resent := mailed.reaches(t, 4)[3]
		b.resettled("mailer")
		b.holds(dead, 0)
		b.holds(b.name, 1)
		b.had("mailer", id, 1)
		b.had("ledger", id, 1)
		if resent.ID != id || resent.Subject != in.Subject || resent.Attempt != 1 || resent.Stream != b.name || resent.Sequence != 1 || len(resent.Headers["X-Tag"]) != 2 {
			t.Errorf("resent %+v", resent)
		}
		for name := range resent.Headers {
			if strings.HasPrefix(name, "Tccsaga-Dead-") {
				t.Errorf("resent with the header %s", name)
			}
		}
		if n := len(booked.all()); n != 1 {
			t.Errorf("the other consumer got it %d times", n)
		}
		acts, err := b.letters().Acts(t.Context(), id)
		if err != nil || len(acts) != 1 || acts[0].Who != "ann" || acts[0].Why != "mended" || acts[0].Act != "resend" || acts[0].Consumer != "mailer" || acts[0].ActedAt.IsZero() {
			t.Errorf("acts %+v, %v", acts, err)
		}
	})
}

// A handler that is interrupted at its timeout, panics, or ends its goroutine can be
// the last attempt as well.
func TestDeadLetterOfOtherFailures(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"))
	b.consume(message.ConsumerConfig{Attempts: 2, Timeout: 500 * time.Millisecond}, func(ctx context.Context, _ *gorm.DB, m message.Received) error {
		switch string(m.Data) {
		case "panic":
			panic("on purpose")
		case "late":
			<-ctx.Done()
			return nil
		}
		<-ctx.Done()
		return ctx.Err()
	})
	for i, c := range []struct{ data, says string }{{"panic", "panic: on purpose"}, {"timeout", "deadline exceeded"}, {"late", "deadline exceeded"}} {
		b.send("a", c.data, nil)
		eventually(t, "the dead letter of a "+c.data, func() bool { return count(t, b.js, b.name+"_dead") == uint64(i+1) })
		letter := read(t, b.js, b.name+"_dead", uint64(i+1))
		if reason := letter.Header.Get(message.HeaderReason); !strings.Contains(reason, c.says) || letter.Header.Get(message.HeaderAttempts) != "2" {
			t.Errorf("%s: %v", c.data, letter.Header)
		}
	}
	b.settled("worker")
}

// A handler that knows that it never can says so, and the message is put aside at
// once.
func TestPermanentFailure(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db)
		var seen journal
		b.consume(message.ConsumerConfig{}, func(_ context.Context, _ *gorm.DB, m message.Received) error {
			seen.note(m)
			return fmt.Errorf("order 7: %w", message.Permanent(errors.New("no such currency")))
		})
		b.send("a", "x", nil)
		b.settled("worker")
		letters := b.buried(message.LetterFilter{Reason: "no such currency"})
		if len(letters) != 1 || letters[0].Attempts != 1 || len(seen.all()) != 1 {
			t.Errorf("%d calls, letters %+v", len(seen.all()), letters)
		}
		if message.Permanent(nil) != nil {
			t.Error("no failure became one")
		}
	})
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
	letters := b.buried(message.LetterFilter{})
	if len(letters) != 2 {
		t.Fatalf("letters %+v", letters)
	}
	broken.Store(false)
	for i, l := range letters {
		sent, err := b.letters().Resend(t.Context(), operator, l.Number)
		if err != nil || sent != 1 {
			t.Errorf("resent %d, %v", sent, err)
		}
		if m := seen.reaches(t, i+1)[i]; m.ID != []string{"n1", "n2"}[i] {
			t.Errorf("resent %q", m.ID)
		}
	}
}

// A message that fails again after it was sent again is put aside again, with all of
// its attempts.
func TestDeadLetterTwice(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db)
		var seen journal
		b.consume(message.ConsumerConfig{Attempts: 2}, func(_ context.Context, _ *gorm.DB, m message.Received) error {
			seen.note(m)
			return errors.New("on purpose")
		})
		b.send("a", "x", nats.Header{message.HeaderID: {"m"}})
		for i := range 3 {
			eventually(t, "the letter", func() bool { return len(b.buried(message.LetterFilter{})) == 1 })
			if n := len(seen.all()); n != 2*(i+1) {
				t.Errorf("%d calls after round %d", n, i+1)
			}
			if sent := b.resend(); sent != 1 {
				t.Fatalf("resent %d", sent)
			}
			b.resettled("worker")
		}
		if letters := b.buried(message.LetterFilter{}); len(letters) != 1 {
			t.Errorf("letters %+v", letters)
		}
		if acts, err := b.letters().Acts(t.Context(), "m"); err != nil || len(acts) != 3 || acts[2].Number != 3 {
			t.Errorf("acts %+v, %v", acts, err)
		}
	})
}

func TestLettersAreListedLookedAtAndDeleted(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"))
	letters := b.letters()
	if _, err := letters.List(t.Context(), message.LetterFilter{}); !errors.Is(err, message.ErrNoDeadLetters) {
		t.Errorf("no stream yet: %v", err)
	}
	for _, name := range []string{"one", "two"} {
		b.consume(message.ConsumerConfig{Name: name, Attempts: 1}, func(_ context.Context, _ *gorm.DB, m message.Received) error {
			return errors.New(name + " cannot")
		})
	}
	for i := range 3 {
		b.send(fmt.Sprint("s", i), fmt.Sprint("data", i), nats.Header{message.HeaderID: {fmt.Sprint("m", i)}})
	}
	b.settled("one")
	b.settled("two")
	all := b.buried(message.LetterFilter{})
	for name, c := range map[string]struct {
		filter message.LetterFilter
		want   int
	}{
		"all":      {message.LetterFilter{}, 6},
		"consumer": {message.LetterFilter{Consumer: "one"}, 3},
		"subject":  {message.LetterFilter{Subject: b.name + ".s1"}, 2},
		"id":       {message.LetterFilter{ID: "m2", Consumer: "two"}, 1},
		"reason":   {message.LetterFilter{Reason: "two can"}, 3},
		"before":   {message.LetterFilter{Before: all[0].Time}, 0},
		"since":    {message.LetterFilter{Since: all[0].Time}, 6},
		"limit":    {message.LetterFilter{Limit: 4}, 4},
		"after":    {message.LetterFilter{After: all[4].Number}, 1},
	} {
		if got := b.buried(c.filter); len(got) != c.want {
			t.Errorf("%s: %d letters, want %d", name, len(got), c.want)
		}
	}
	l, err := letters.Get(t.Context(), all[0].Number)
	if err != nil || !strings.HasPrefix(string(l.Message.Data), "data") || l.Reason != l.Consumer+" cannot" {
		t.Errorf("%+v, %v", l, err)
	}
	if _, err := letters.Get(t.Context(), 99); !errors.Is(err, message.ErrNoLetter) {
		t.Errorf("no such letter: %v", err)
	}
	if _, err := letters.Delete(t.Context(), message.By{Who: "ann"}, all[0].Number); !errors.Is(err, message.ErrInvalid) {
		t.Errorf("without a reason: %v", err)
	}
	// One that is not there keeps none behind it.
	n, err := letters.Delete(t.Context(), operator, all[0].Number, 99, all[1].Number)
	if n != 2 || !errors.Is(err, message.ErrNoLetter) {
		t.Errorf("deleted %d, %v", n, err)
	}
	n, err = letters.Resend(t.Context(), operator, 99, all[2].Number)
	if n != 1 || !errors.Is(err, message.ErrNoLetter) {
		t.Errorf("resent %d, %v", n, err)
	}
	if acts, err := letters.Acts(t.Context(), ""); err != nil || len(acts) != 3 {
		t.Errorf("acts %+v, %v", acts, err)
	}
}

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
	must(t, err)
	must(t, stream.DeleteMsg(t.Context(), letters[1].Message.Sequence))
	broken.Store(false)
	if sent := b.resend(); sent != 2 {
		t.Errorf("resent %d", sent)
	}
	m := seen.reaches(t, 5)[4]
	if len(m.Data) != most || m.Subject != b.name+"."+string("ab"[m.Sequence-1]) || m.Headers["X-Tag"][0] != "t" {
		t.Errorf("resent %d bytes on %s, %v", len(m.Data), m.Subject, m.Headers)
	}
	// That whose data are gone is a letter again, and says so.
	eventually(t, "the letter without data is back", func() bool {
		return len(b.buried(message.LetterFilter{Reason: "message 2 is no longer in the stream"})) == 1
	})
}

// Of a stream that removes what is acknowledged, a message that is too large for a
// letter stays where it is.
func TestLargestMessageOfWorkQueue(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"))
	_, err := b.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: b.name + "q", Subjects: []string{b.name + "q.>"}, Retention: jetstream.WorkQueuePolicy})
	must(t, err)
	t.Cleanup(func() {
		for _, name := range []string{"q", "q_dead"} {
			must(t, b.js.DeleteStream(context.Background(), b.name+name))
		}
	})
	var seen journal
	c, err := message.Consume(t.Context(), b.db, wrap(b.js), message.ConsumerConfig{Stream: b.name + "q", Name: "worker", Attempts: 2, Logger: quiet,
		MinBackoff: 5 * time.Millisecond, MaxBackoff: 20 * time.Millisecond}, func(_ context.Context, _ *gorm.DB, m message.Received) error {
		seen.note(m)
		return errors.New("on purpose")
	})
	must(t, err)
	defer c.Stop(t.Context())
	_, err = b.js.Publish(t.Context(), b.name+"q.a", []byte(strings.Repeat("x", int(b.js.Conn().MaxPayload())-200)))
	must(t, err)
	eventually(t, "the consumer says why", func() bool {
		last := c.State(t.Context()).LastError
		return last != nil && strings.Contains(last.Error(), "stays there")
	})
	if got := count(t, b.js, b.name+"q"); got != 1 || len(seen.all()) != 2 {
		t.Errorf("the stream has %d messages, and the handler was called %d times", got, len(seen.all()))
	}
}

// The stream of the dead letters is as safe as the source, and comes back when
// somebody has deleted it.
func TestDeadLetterStreamComesBack(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"))
	b.consume(message.ConsumerConfig{Attempts: 1}, func(context.Context, *gorm.DB, message.Received) error { return errors.New("on purpose") })
	must(t, b.js.DeleteStream(t.Context(), b.name+"_dead"))
	b.send("a", "x", nil)
	b.settled("worker")
	if letters := b.buried(message.LetterFilter{}); len(letters) != 1 {
		t.Errorf("letters %+v", letters)
	}
}

// resettled waits until the consumer has acknowledged what was sent to it again from
// the dead letters.
func (b *bench) resettled(consumer string) {
	b.t.Helper()
	eventually(b.t, consumer+" has acknowledged what was sent again", func() bool {
		s, err := b.js.Stream(b.t.Context(), b.name+"_dead")
		if err != nil {
			return false
		}
		info, err := s.Info(b.t.Context(), jetstream.WithSubjectFilter("dead."+b.name+".again."+consumer+".>"))
		return err == nil && len(info.State.Subjects) == 0
	})
}

// letters are the dead letters of the bench's stream.
func (b *bench) letters() *message.DeadLetters {
	b.t.Helper()
	d, err := message.NewDeadLetters(b.db, wrap(b.js), b.name, "")
	must(b.t, err)
	return d
}

// buried lists the dead letters.
func (b *bench) buried(filter message.LetterFilter) []message.Letter {
	b.t.Helper()
	letters, err := b.letters().List(b.t.Context(), filter)
	must(b.t, err)
	return letters
}

var operator = message.By{Who: "ann", Why: "mended"}

// resend sends all dead letters again.
func (b *bench) resend() int {
	b.t.Helper()
	sent, err := b.letters().Resend(b.t.Context(), operator, numbers(b.buried(message.LetterFilter{}))...)
	must(b.t, err)
	return sent
}

func numbers(letters []message.Letter) (all []uint64) {
	for _, l := range letters {
		all = append(all, l.Number)
	}
	return all
}
