package console_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/branches/message/natsjs"
	"github.com/tccsaga/tccsaga/saga/console"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// connect returns a connection to the broker of the tests.
func connect(t testing.TB) *nats.Conn {
	t.Helper()
	url := os.Getenv("TCCSAGA_TEST_NATS")
	if url == "" {
		const text = "TCCSAGA_TEST_NATS is not set: run the tests with make test, which starts the servers"
		if os.Getenv("CI") != "" {
			t.Fatal(text)
		}
		t.Skip(text)
	}
	conn, err := nats.Connect(url)
	sagatest.Must(t, err)
	t.Cleanup(conn.Close)
	return conn
}

// deadLetters makes a stream, and a number of messages that no consumer could handle.
func deadLetters(t *testing.T, db *gorm.DB, conn *nats.Conn, n int) *message.DeadLetters {
	t.Helper()
	js, err := jetstream.New(conn)
	sagatest.Must(t, err)
	name := "t" + strings.ReplaceAll(uuid.NewString(), "-", "")
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{name + ".>"}})
	sagatest.Must(t, err)
	t.Cleanup(func() {
		for _, stream := range []string{name, name + "_dead"} {
			if err := js.DeleteStream(context.WithoutCancel(t.Context()), stream); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
				t.Error(err)
			}
		}
	})
	b, err := natsjs.New(conn, natsjs.Config{})
	sagatest.Must(t, err)
	letters, err := message.NewDeadLetters(db, b, name, "")
	sagatest.Must(t, err)
	if n == 0 {
		return letters
	}
	consumer, err := message.Consume(t.Context(), db, b, message.ConsumerConfig{Stream: name, Name: "billing", Logger: slog.New(slog.DiscardHandler)},
		func(context.Context, *gorm.DB, message.Received) error {
			return message.Permanent(errors.New("no such account " + nasty))
		})
	sagatest.Must(t, err)
	for i := range n {
		_, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: name + ".paid", Data: fmt.Appendf(nil, `{"number":%d,"note":%q}`, i, nasty), Header: nats.Header{"X-Note": {nasty}}})
		sagatest.Must(t, err)
	}
	sagatest.Eventually(t, "all messages are dead letters", func() bool {
		found, err := letters.List(t.Context(), message.LetterFilter{})
		return err == nil && len(found) == n
	})
	sagatest.Must(t, consumer.Stop(t.Context()))
	return letters
}

// Dead letters are shown, sent again and deleted, by whom it may be.
func TestLetters(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	w := newWorld(t, sqltest.Open(t, "sqlite"))
	letters := deadLetters(t, w.db, conn, 28)
	s := serve(t, w.engine.Operations(), console.Config{Authorize: as("ann"),
		DeadLetters: map[string]*message.DeadLetters{"payments": letters, "empty": deadLetters(t, w.db, conn, 0)}})
	s.get("/console/").want(t, http.StatusOK, "20 dead letters in the stream (or more)", "payments")
	checkMarkup(t, "messages", s.get("/console/messages").want(t, http.StatusOK, "more than 20 dead letters", "none").body)
	a := s.get("/console/letters?stream=payments").want(t, http.StatusOK, "no such account", "billing", ".paid")
	checkMarkup(t, "letters", a.body)
	next := element(t, a, "next", "href")
	if strings.Count(a.body, `name="number"`) != 25 || next == "" {
		t.Fatalf("the page does not have 25 letters and a next page: %s", a.body)
	}
	if a := s.get(next).want(t, http.StatusOK); strings.Count(a.body, `name="number"`) != 3 {
		t.Error(a.body)
	}
	s.get("/console/letters?stream=payments&consumer=nobody").want(t, http.StatusOK, "There is no dead letter")
	s.get("/console/letters?stream=empty").want(t, http.StatusOK, "There is no dead letter")
	a = s.get("/console/letter?stream=payments&number=1").want(t, http.StatusOK, "X-Note", "&#34;number&#34;: 0", "no such account")
	checkMarkup(t, "letter", a.body)
	s.get("/console/letter?stream=payments&number=999").want(t, http.StatusNotFound)
	s.get("/console/letter?stream=payments&number=x").want(t, http.StatusNotFound)

	act := func(act string, pairs ...string) answer {
		return s.post("/console/letters/act", append(pairs, "stream", "payments", "act", act)...)
	}
	act("delete", "number", "1").want(t, http.StatusBadRequest, "needs a reason")
	act("delete", "why", "x").want(t, http.StatusBadRequest, "at least one")
	act("delete", "why", "x", "number", "one").want(t, http.StatusBadRequest)
	act("bury", "why", "x", "number", "1").want(t, http.StatusBadRequest)
	act("delete", "why", "of no use", "number", "2", "number", "1", "number", "2").want(t, http.StatusSeeOther)
	act("resend", "why", "mended", "number", "3").want(t, http.StatusSeeOther)
	act("resend", "why", "my words", "number", "3").want(t, http.StatusConflict, "0 of 1", "my words")
	left, err := letters.List(t.Context(), message.LetterFilter{})
	sagatest.Must(t, err)
	s.get("/console/letters?stream=payments").want(t, http.StatusOK, `id="letter-acts"`, "ann: Send again 3 – mended", "of no use")
	if len(left) != 25 || left[0].Number != 4 {
		t.Errorf("%d letters are left, the first is %d", len(left), left[0].Number)
	}
	var recorded int64
	sagatest.Must(t, w.db.Raw("SELECT COUNT(*) FROM saga_letter_acts WHERE who = 'ann' AND why IN ('mended', 'of no use')").Scan(&recorded).Error)
	if recorded != 3 {
		t.Errorf("%d acts are recorded", recorded)
	}
}

// If the broker is gone, the other parts of the pages are there.
func TestBrokerGone(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	w := newWorld(t, sqltest.Open(t, "sqlite"))
	letters := deadLetters(t, w.db, conn, 0)
	gone, err := nats.Connect(conn.ConnectedUrl())
	sagatest.Must(t, err)
	b, err := natsjs.New(gone, natsjs.Config{})
	sagatest.Must(t, err)
	lost, err := message.NewDeadLetters(w.db, b, "x", "")
	sagatest.Must(t, err)
	gone.Close()
	s := serve(t, w.engine.Operations(), console.Config{Authorize: as("ann"), DeadLetters: map[string]*message.DeadLetters{"there": letters, "lost": lost}})
	s.get("/console/").want(t, http.StatusOK, "not known whether lost has dead letters", "1 transaction needs attention")
	s.get("/console/messages").want(t, http.StatusOK, "The broker did not answer", "there")
	s.get("/console/letters?stream=lost").want(t, http.StatusOK, "The broker did not answer")
	s.get("/console/letter?stream=lost&number=1").want(t, http.StatusServiceUnavailable, "The broker did not answer")
}

// The outbox is shown with what waits, why, and for how long.
func TestOutbox(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db)
		sqltest.Exec(t, db, `INSERT INTO saga_outbox_delayed (message_id, gid, branch_id, destination, subject, headers, data, due_at, failures, error)
			VALUES ('m1', '', '', 'ORDERS', 'orders.placed', '{}', 'x', '2026-01-01 12:00:00', 3, '`+strings.ReplaceAll(nasty, "'", "''")+`')`)
		outbox, err := message.NewOutbox(db)
		sagatest.Must(t, err)
		s := serve(t, w.engine.Operations(), console.Config{Outbox: outbox})
		s.get("/console/").want(t, http.StatusOK, "1 message cannot be published")
		a := s.get("/console/messages").want(t, http.StatusOK, "orders.placed", "ORDERS", "m1", "1 wait, 1 due, 1 failing", "alert(1)")
		checkMarkup(t, "messages", a.body)
		s.get("/console/messages?state=failing&stream=ORDERS").want(t, http.StatusOK, "orders.placed")
		s.get("/console/messages?state=delayed").want(t, http.StatusOK, `id="empty"`)
		s.get("/console/messages?state=lost").want(t, http.StatusBadRequest, "must be undecided")
		s.get("/console/messages?after=x").want(t, http.StatusBadRequest)
	})
}
