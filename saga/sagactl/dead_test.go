package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/branches/message/natsjs"
	"github.com/tccsaga/tccsaga/saga/ctl"
	"github.com/tccsaga/tccsaga/saga/sagatest"
)

// newStream returns a shell with a stream whose consumer has buried two messages, and what the
// consumer gets afterwards.
func newStream(t *testing.T, w *world) (s shell, handled chan string) {
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
	js, err := jetstream.New(conn)
	sagatest.Must(t, err)
	name := "ctl_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{name + ".>"}})
	sagatest.Must(t, err)
	t.Cleanup(func() {
		js.DeleteStream(context.Background(), name)
		js.DeleteStream(context.Background(), name+"_dead")
	})
	b, err := natsjs.New(conn, natsjs.Config{})
	sagatest.Must(t, err)
	handled = make(chan string, 10)
	broken := make(chan struct{})
	consumer, err := message.Consume(t.Context(), w.db, b, message.ConsumerConfig{Stream: name, Name: "mailer", Attempts: 1},
		func(_ context.Context, _ *gorm.DB, m message.Received) error {
			select {
			case <-broken:
				handled <- string(m.Data)
				return nil
			default:
				return errors.New("the mail server says no")
			}
		})
	sagatest.Must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		consumer.Stop(ctx)
	})
	for _, data := range []string{"hello", "bye"} {
		_, err = js.Publish(t.Context(), name+".placed", []byte(data))
		sagatest.Must(t, err)
	}
	s = w.with("SAGACTL_NATS="+url, "SAGACTL_STREAM="+name)
	sagatest.Eventually(t, "two dead letters", func() bool {
		return strings.Count(s.run("dead", "list", "-o", "jsonl").out, "\n") == 2
	})
	close(broken)
	return s, handled
}

// Dead letters are listed, shown, sent again and deleted, with who and why.
func TestDeadLetters(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		s, handled := newStream(t, w)
		has(t, s.ok("dead", "list"), "NUMBER", "mailer", "the mail server says no")
		list := read[struct {
			Letters []struct {
				Number   uint64
				Consumer string
			}
			Next string
		}](s, "dead", "list", "--limit", "1")
		if len(list.Letters) != 1 || list.Letters[0].Number != 1 || list.Next != "1" {
			t.Errorf("%+v", list)
		}
		has(t, s.run("dead", "list", "--consumer", "nobody").err, "no dead letter matches")
		has(t, s.ok("dead", "show", "1"), "dead letter 1", "the mail server says no", "hello")
		has(t, s.ok("dead", "show", "1", "-o", "json"), `"text": "hello"`)

		has(t, s.ok("dead", "resend", "1", "--dry-run"), "would be done on 1 dead letter")
		has(t, s.fails(ctl.CodeUsage, "dead", "resend", "1"), "--why is missing")
		has(t, s.fails(ctl.CodeUsage, "dead", "delete", "2", "--why", "x"), "add --yes")
		has(t, s.ok("dead", "resend", "1", "--why", "the server is mended"), "done on 1 of 1")
		if data := <-handled; data != "hello" {
			t.Errorf("handled %q", data)
		}
		s.ok("dead", "delete", "2", "--why", "spam", "--yes")
		has(t, s.run("dead", "list").err, "no dead letter matches")
		for _, call := range []string{"show 2", "resend 2 --why=x", "resend 2 --dry-run", "delete 7 --why=x --yes"} {
			has(t, s.fails(ctl.CodeNotFound, append([]string{"dead"}, strings.Fields(call)...)...), "no such dead letter")
		}
	})
}

// The broker and the stream are wrong, or missing; no error has a password.
func TestDeadLettersWithoutABroker(t *testing.T) {
	w := newWorld(t, "sqlite")
	has(t, w.fails(ctl.CodeUsage, "dead", "list"), "no stream is given")
	has(t, w.fails(ctl.CodeUsage, "dead", "list", "--stream", "x"), "no NATS server is given")
	out := w.fails(ctl.CodeUnreachable, "dead", "list", "--stream", "x", "--nats", "nats://ann:s3cret@127.0.0.1:1")
	has(t, out, "cannot be reached")
	if strings.Contains(out, "s3cret") {
		t.Error(out)
	}
	if url := os.Getenv("TCCSAGA_TEST_NATS"); url != "" {
		has(t, w.fails(ctl.CodeNotFound, "dead", "list", "--nats", url, "--stream", "nobody"), "no such dead-letter stream")
		has(t, w.fails(ctl.CodeUsage, "dead", "show", "x", "--nats", url, "--stream", "nobody"), "not the number of a dead letter")
	}
}
