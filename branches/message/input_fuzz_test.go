package message_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// Whatever a message holds: it is rejected before anything is written, or it
// arrives in the stream as it was given.
func FuzzPublish(f *testing.F) {
	b := newBench(f, sqltest.Open(f, "sqlite"))
	for _, text := range []string{"", "a", "a.b", "a..b", ".a", "a.", "*", ">", "a b", "ü", "\x00", "\xff", "\r\n", "Nats-Msg-Id", "X-A", "x:y", strings.Repeat("x", 300)} {
		f.Add(text, "X-Header", "value", []byte("data"))
		f.Add("a", text, "value", []byte("data"))
		f.Add("a", "X-Header", text, []byte(text))
	}
	f.Fuzz(func(t *testing.T, last, header, value string, data []byte) {
		b := *b
		b.t = t
		gid := sagatest.GID()
		payload := message.Publish{Subject: b.name + "." + last, Data: data, Headers: map[string][]string{header: {value}}}
		_, err := tcc.Execute(t.Context(), b.orch, gid, payload)
		if err != nil {
			if !errors.Is(err, message.ErrInvalid) && !errors.Is(err, saga.ErrInvalid) {
				t.Errorf("%+v: %v", payload, err)
			}
			if rows := b.outboxRows(gid); len(rows) != 0 {
				t.Errorf("rejected with %v, and in the outbox: %+v", err, rows)
			}
			return
		}
		b.reaches(gid, saga.Confirmed)
		row := b.outboxRows(gid)[0]
		got := read(t, b.js, b.name, row.Sequence)
		if got.Subject != payload.Subject || string(got.Data) != string(data) || got.Header[header][0] != strings.TrimSpace(value) {
			t.Errorf("sent %+v, arrived %s %v %q", payload, got.Subject, got.Header, got.Data)
		}
	})
}
