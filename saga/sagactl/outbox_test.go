package main

import (
	"strings"
	"testing"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/saga/ctl"
	"github.com/tccsaga/tccsaga/saga/sagatest"
)

// Messages that wait are listed and counted, and a late one is a warning.
func TestOutbox(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		has(t, w.run("outbox", "list").err, "no message waits")
		insert := "INSERT INTO saga_outbox_delayed (message_id, gid, branch_id, destination, subject, headers, data, due_at, failures, error) VALUES (?, '', '', ?, 'orders.placed', '{}', 'x', ?, ?, ?)"
		for _, m := range []struct {
			id, stream, due string
			failures        int
			why             string
		}{{"m-1", "orders", "2026-01-01 10:00:00.000", 3, "no responders"}, {"m-2", "mails", "2099-01-01 10:00:00.000", 0, ""}} {
			sagatest.Must(t, w.db.Exec(insert, m.id, m.stream, m.due, m.failures, m.why).Error)
		}
		has(t, w.ok("outbox", "list"), "STATE", "orders.placed", "no responders", "mails")
		if page := read[message.OutboxPage](w.shell, "outbox", "list", "--state", "failing"); len(page.Messages) != 1 || page.Messages[0].ID != "m-1" || page.Messages[0].Failures != 3 {
			t.Errorf("%+v", page)
		}
		if out := w.ok("outbox", "list", "--stream", "mails", "-o", "jsonl"); strings.Count(out, "\n") != 1 {
			t.Error(out)
		}
		has(t, w.fails(ctl.CodeUsage, "outbox", "list", "--state", "frob"), "undecided, delayed, due or failing")
		stats := read[message.OutboxStats](w.shell, "outbox", "stats")
		if stats.Waiting.N != 2 || stats.Failing.N != 1 || len(stats.Streams) != 2 {
			t.Errorf("%+v", stats)
		}
		has(t, w.ok("outbox", "stats"), "STREAM", "all", "orders")
		has(t, w.fails(2, "check", "--attention-warning=0", "--attention-critical=0"), "2 messages wait to be published, the oldest for")
		w.fails(0, "check", "--attention-warning=0", "--attention-critical=0", "--outbox-warning=0", "--outbox-critical=0")
	})
}
