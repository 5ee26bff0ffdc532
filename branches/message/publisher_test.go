package message_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// outboxes runs a test on each dialect, with the outbox in the engine's
// database and in another one.
func outboxes(t *testing.T, test func(t *testing.T, b *bench)) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		t.Run("here", func(t *testing.T) { test(t, newBench(t, db)) })
		t.Run("away", func(t *testing.T) { test(t, newBenchOn(t, sqltest.Open(t, "sqlite"), db, connect(t))) })
	})
}

func TestPublishedAfterTheDecision(t *testing.T) {
	outboxes(t, func(t *testing.T, b *bench) {
		var seen journal
		b.consume(message.ConsumerConfig{}, func(_ context.Context, _ *gorm.DB, m message.Received) error {
			seen.note(m)
			return nil
		})
		in := b.publish("placed", `{"order": 1}`)
		in.Headers = map[string][]string{"Content-Type": {"application/json"}, "x-Tag": {"one", "two: <2>"}, "X-Text": {"größe 漢字"}}

		gid := sagatest.GID()
		tx, err := tcc.Begin(t.Context(), b.orch, gid)
		sagatest.Must(t, err)
		sagatest.Must(t, tx.Try(t.Context(), phones(1)))
		sagatest.Must(t, tx.Try(t.Context(), in))
		want := []outboxRow{{BranchID: "02", State: "prepared", Subject: in.Subject}}
		if got := b.outboxRows(gid); !slices.Equal(got, want) {
			t.Errorf("outbox before the decision: %+v", got)
		}
		b.holds(b.name, 0)

		outcome, err := tx.Confirm(t.Context())
		if err != nil || outcome.State != saga.Confirmed {
			t.Fatalf("%+v, %v", outcome, err)
		}
		want = []outboxRow{{BranchID: "02", State: "published", Subject: in.Subject, Stream: b.name, Sequence: 1, Published: true}}
		if got := b.outboxRows(gid); !slices.Equal(got, want) {
			t.Errorf("outbox after the decision: %+v", got)
		}
		b.holds(b.name, 1)
		msg := read(t, b.js, b.name, 1)
		if msg.Subject != in.Subject || string(msg.Data) != `{"order": 1}` {
			t.Errorf("published %s: %s", msg.Subject, msg.Data)
		}
		headers := maps.Clone(in.Headers)
		for name, value := range map[string]string{"Nats-Msg-Id": b.id(gid, "02"), "Tccsaga-Id": b.id(gid, "02"), "Nats-Expected-Stream": b.name} {
			headers[name] = []string{value}
		}
		if !maps.EqualFunc(msg.Header, headers, slices.Equal) {
			t.Errorf("headers %v, want %v", msg.Header, headers)
		}
		got := seen.reaches(t, 1)[0]
		if got.ID != b.id(gid, "02") || got.Subject != in.Subject || got.Stream != b.name || got.Sequence != 1 || got.Attempt != 1 ||
			string(got.Data) != `{"order": 1}` || !slices.Equal(got.Headers["x-Tag"], in.Headers["x-Tag"]) {
			t.Errorf("received %+v", got)
		}
	})
}

func TestDataComesThroughAsItWas(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db)
		every := make([]byte, 256)
		for i := range every {
			every[i] = byte(i)
		}
		for i, data := range [][]byte{nil, {}, []byte("größe <&> 漢字 \u2028"), {0}, {0xff, 0xfe}, every} {
			b.execute(message.Publish{Subject: b.name + ".data", Data: data}, phones(1))
			if got := read(t, b.js, b.name, uint64(i+1)).Data; string(got) != string(data) {
				t.Errorf("%q came as %q", data, got)
			}
		}
	})
}

// People read the log: text stays text there.
func TestPublishAsJSON(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   message.Publish
		want string
	}{
		{message.Publish{Subject: "a"}, `{"subject":"a","text":""}`},
		{message.Publish{Subject: "a", Data: []byte("ü"), Headers: map[string][]string{"X": {"1"}}}, `{"subject":"a","text":"ü","headers":{"X":["1"]}}`},
		{message.Publish{Subject: "a", Data: []byte{0xff}}, `{"subject":"a","data":"/w=="}`},
	} {
		text, err := json.Marshal(c.in)
		if err != nil || string(text) != c.want {
			t.Errorf("%s, %v, want %s", text, err, c.want)
		}
		var out message.Publish
		sagatest.Must(t, json.Unmarshal(text, &out))
		if out.Subject != c.in.Subject || string(out.Data) != string(c.in.Data) || !maps.EqualFunc(out.Headers, c.in.Headers, slices.Equal) {
			t.Errorf("%s came back as %+v", text, out)
		}
	}
	if err := new(message.Publish).UnmarshalJSON([]byte("[]")); err == nil {
		t.Error("a list was taken for a message")
	}
}

func TestRejectedLeavesNothing(t *testing.T) {
	outboxes(t, func(t *testing.T, b *bench) {
		for name, plan := range map[string][]tcc.Payload{
			"message first": {b.publish("placed", "1"), phones(11)},
			"stock first":   {phones(11), b.publish("placed", "1")},
			"two messages":  {b.publish("placed", "1"), phones(1), b.publish("placed", "2"), phones(10)},
		} {
			gid := sagatest.GID()
			outcome, err := tcc.Execute(t.Context(), b.orch, gid, plan...)
			if !errors.Is(err, saga.ErrCancelled) || outcome.State != saga.Cancelled {
				t.Errorf("%s: %+v, %v", name, outcome, err)
			}
			for _, row := range b.outboxRows(gid) {
				if row.State != "discarded" || !row.Discarded || row.Published || row.Stream != "" {
					t.Errorf("%s: outbox %+v", name, row)
				}
			}
			b.holds(b.name, 0)
		}
		// The stream takes messages all the same.
		b.execute(phones(10), b.publish("placed", "1"))
		b.holds(b.name, 1)
	})
}

func TestCancelDiscards(t *testing.T) {
	outboxes(t, func(t *testing.T, b *bench) {
		gid := sagatest.GID()
		tx, err := tcc.Begin(t.Context(), b.orch, gid)
		sagatest.Must(t, err)
		sagatest.Must(t, tx.Try(t.Context(), b.publish("placed", "1")))
		sagatest.Must(t, tx.Try(t.Context(), b.publish("placed", "2")))
		outcome, err := tx.Cancel(t.Context(), "the customer left")
		if err != nil || outcome.State != saga.Cancelled {
			t.Fatalf("%+v, %v", outcome, err)
		}
		rows := b.outboxRows(gid)
		if len(rows) != 2 {
			t.Fatalf("outbox %+v", rows)
		}
		for _, row := range rows {
			if row.State != "discarded" || !row.Discarded || row.Published || row.Stream != "" || row.Sequence != 0 {
				t.Errorf("outbox %+v", row)
			}
		}
		b.holds(b.name, 0)
	})
}

func TestBadMessageIsRejected(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"))
	header := func(name, value string) message.Publish {
		return message.Publish{Subject: b.name + ".a", Headers: map[string][]string{name: {value}}}
	}
	most := int(b.js.Conn().MaxPayload())
	cases := map[string]struct {
		in   message.Publish
		says string
	}{
		"empty subject":      {message.Publish{}, `subject ""`},
		"long subject":       {b.publish(strings.Repeat("x", 255), ""), "255 are allowed"},
		"star":               {b.publish("*", ""), "without wildcards"},
		"rest":               {b.publish(">", ""), "without wildcards"},
		"space":              {b.publish("a b", ""), "tokens separated by dots"},
		"line break":         {b.publish("a\r\nPUB b", ""), "tokens separated by dots"},
		"empty token":        {b.publish(".a", ""), "tokens separated by dots"},
		"dot at the end":     {b.publish("a.", ""), "tokens separated by dots"},
		"dot at the start":   {message.Publish{Subject: "." + b.name + ".a"}, "tokens separated by dots"},
		"other subject":      {message.Publish{Subject: "other.a"}, "does not carry the subject"},
		"short subject":      {message.Publish{Subject: b.name}, "does not carry the subject"},
		"prefix of a token":  {message.Publish{Subject: b.name + "x.a"}, "does not carry the subject"},
		"broker's header":    {header("Nats-Msg-Id", "1"), "sets the id"},
		"in small letters":   {header("nats-rollup", "all"), "would remove later messages"},
		"our header":         {header("Tccsaga-Id", "1"), `"Tccsaga-Id" is reserved`},
		"header, no name":    {header("", "1"), `header name ""`},
		"header with colon":  {header("a:b", "1"), `"a:b"`},
		"header with space":  {header("a b", "1"), `"a b"`},
		"header with break":  {header("a\nb", "1"), `"a\nb"`},
		"header with umlaut": {header("Größe", "1"), `"Größe"`}, // the client would leave it out without a word
		"header with slash":  {header("a/b", "1"), `"a/b"`},
		"line break inside":  {header("X", "a\r\nNats-Msg-Id: b"), "X holds a line break"},
		"line feed inside":   {header("X", "a\nb"), "X holds a line break"},
		"large headers":      {header("X", strings.Repeat("x", 50_000)), "49152 are allowed"},
		"large as JSON":      {header("X", strings.Repeat("<", 10_000)), "are allowed"}, // each is written as \u003c
		"large when sent": {message.Publish{Subject: b.name + ".a", Headers: map[string][]string{
			strings.Repeat("x", 1000): make([]string, 60)}}, "are allowed"}, // each value repeats the name
		"too large": {b.publish("a", strings.Repeat("x", most-2000)), fmt.Sprintf("the broker takes %d", most-4096)},
	}
	for name, c := range cases {
		gid := sagatest.GID()
		outcome, err := tcc.Execute(t.Context(), b.orch, gid, phones(1), c.in)
		if !errors.Is(err, message.ErrInvalid) || !errors.Is(err, saga.ErrCancelled) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %+v, %v, want %q", name, outcome, err, c.says)
		}
		if rows := b.outboxRows(gid); len(rows) != 0 {
			t.Errorf("%s: outbox %+v", name, rows)
		}
	}
	b.holds(b.name, 0)
}

// again puts a confirmed transaction with one message back to where it was when
// the broker had the message, and its answer was lost; then it waits until the
// transaction is confirmed again.
func (b *bench) again(gid string) {
	b.t.Helper()
	past := map[string]string{"mysql": "'2020-01-01 00:00:00'", "postgres": "'2020-01-01 00:00:00+00'", "sqlite": "'2020-01-01 00:00:00.000'"}
	for _, statement := range []string{
		"UPDATE saga_outbox SET state = 'prepared', published_at = NULL, stream = '', sequence = 0 WHERE gid = ?",
		"UPDATE saga_barrier SET state = 'tried', confirmed_at = NULL WHERE gid = ?",
		"UPDATE saga_branches SET done_at = NULL WHERE gid = ?",
		"UPDATE saga_transactions SET state = 'confirming', finished_at = NULL, due_at = " + past[b.db.Dialector.Name()] + " WHERE gid = ?",
	} {
		sqltest.Exec(b.t, b.db, statement, gid)
	}
	b.reaches(gid, saga.Confirmed)
}

func TestRepeatedPublishIsDroppedByTheBroker(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db)
		b.execute(b.publish("placed", "0"))
		gid := b.execute(b.publish("placed", "1"))
		b.again(gid)
		b.holds(b.name, 2)
		if rows := b.outboxRows(gid); len(rows) != 1 || rows[0].State != "published" || rows[0].Sequence != 2 {
			t.Errorf("outbox %+v", rows)
		}
	})
}

// After the duplicate window, the message comes twice, and the consumer knows
// it.
func TestRepeatedPublishIsHandledOnce(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db)
		b.effects()
		sagatest.Must(t, b.js.DeleteStream(t.Context(), b.name))
		_, err := b.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: b.name, Subjects: []string{b.name + ".>"},
			Duplicates: 100 * time.Millisecond}) // the shortest that there is
		sagatest.Must(t, err)
		b.consume(message.ConsumerConfig{}, func(_ context.Context, tx *gorm.DB, m message.Received) error {
			return effect(tx, "worker", m.ID)
		})
		gid := b.execute(b.publish("placed", "1"))
		sagatest.Eventually(t, "the message is in the stream twice", func() bool {
			b.again(gid)
			return count(t, b.js, b.name) > 1
		})
		first, second := read(t, b.js, b.name, 1), read(t, b.js, b.name, 2)
		if first.Header.Get(message.HeaderID) != b.id(gid, "01") || second.Header.Get(message.HeaderID) != b.id(gid, "01") {
			t.Errorf("headers %v and %v", first.Header, second.Header)
		}
		b.settled("worker")
		b.had("worker", b.id(gid, "01"), 1)
	})
}

// The broker is gone when a transaction is to be confirmed: the decision
// stands, and the message goes out when the broker is back.
func TestBrokerDownAtConfirm(t *testing.T) {
	t.Parallel()
	broker := newBroker(t)
	js := connectTo(t, broker.server.ClientURL())
	db := sqltest.Open(t, "sqlite")
	b := newBenchOn(t, db, db, js)
	broker.stop()
	sagatest.Eventually(t, "the connection is lost", func() bool { return !js.Conn().IsConnected() })

	gid := sagatest.GID()
	outcome, err := tcc.Execute(t.Context(), b.orch, gid, phones(1), b.publish("placed", "1"))
	if err != nil || outcome.State != saga.Confirming {
		t.Fatalf("%+v, %v", outcome, err)
	}
	var found *saga.Transaction
	sagatest.Eventually(t, "some failed attempts", func() bool {
		found, err = b.orch.Lookup(t.Context(), gid)
		return err == nil && found.Failures > 2
	})
	if says := found.Branches[1].Attempts[0].Error; found.State != saga.Confirming || !strings.Contains(says, "the connection to the broker is") {
		t.Errorf("%s: %s", found.State, says)
	}
	if rows := b.outboxRows(gid); len(rows) != 1 || rows[0].State != "prepared" {
		t.Errorf("outbox %+v", rows)
	}

	broker.start()
	b.reaches(gid, saga.Confirmed)
	b.holds(b.name, 1)
	if rows := b.outboxRows(gid); len(rows) != 1 || rows[0].State != "published" || rows[0].Sequence != 1 {
		t.Errorf("outbox %+v", rows)
	}
}

// What somebody did to the outbox by hand is not published over: the attempts
// say what is wrong.
func TestOutboxChangedByHand(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"))
	for statement, says := range map[string]string{
		"DELETE FROM saga_outbox WHERE gid = ?":                       "not in the outbox",
		"UPDATE saga_outbox SET state = 'discarded' WHERE gid = ?":    "not prepared in the outbox",
		"UPDATE saga_outbox SET headers = 'not JSON' WHERE gid = ?":   "decoding the headers",
		"UPDATE saga_outbox SET subject = 'unheard.of' WHERE gid = ?": "publishing on unheard.of",
	} {
		gid := sagatest.GID()
		tx, err := tcc.Begin(t.Context(), b.orch, gid)
		sagatest.Must(t, err)
		sagatest.Must(t, tx.Try(t.Context(), b.publish("placed", "1")))
		sqltest.Exec(t, b.db, statement, gid)
		outcome, err := tx.Confirm(t.Context())
		if err != nil || outcome.State != saga.Confirming {
			t.Errorf("%s: %+v, %v", statement, outcome, err)
		}
		found, err := b.orch.Lookup(t.Context(), gid)
		sagatest.Must(t, err)
		if attempts := found.Branches[0].Attempts; len(attempts) == 0 || !strings.Contains(attempts[0].Error, says) {
			t.Errorf("%s: attempts %+v, want %q", statement, attempts, says)
		}
	}
}
