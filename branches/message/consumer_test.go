package message_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

func TestHandledOncePerMessage(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db)
		b.effects()
		for id := range 3 { // each three times, under ids that the broker takes for different messages
			for copied := range 3 {
				b.send("a", "x", nats.Header{message.HeaderID: {fmt.Sprint("m", id)}, "Nats-Msg-Id": {fmt.Sprint(id, copied)}})
			}
		}
		var seen journal
		b.consume(message.ConsumerConfig{}, func(_ context.Context, tx *gorm.DB, m message.Received) error {
			seen.note(m)
			return effect(tx, "worker", m.ID)
		})
		b.settled("worker")
		b.holds(b.name, 9)
		var ids []string
		for _, m := range seen.all() {
			ids = append(ids, m.ID)
			b.had("worker", m.ID, 1)
		}
		if !slices.Equal(ids, []string{"m0", "m1", "m2"}) {
			t.Errorf("handled %v", ids)
		}
	})
}

// Two processes get copies of one message at the same time.
func TestCopiesAtTheSameTime(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db)
		b.effects()
		release := make(chan struct{})
		handle := func(ctx context.Context, tx *gorm.DB, m message.Received) error {
			select {
			case <-release:
			case <-ctx.Done():
				return ctx.Err()
			}
			return effect(tx, "worker", m.ID)
		}
		b.consume(message.ConsumerConfig{}, handle)
		b.consume(message.ConsumerConfig{}, handle)
		for i := range 2 {
			b.send("a", "x", nats.Header{message.HeaderID: {"m"}, "Nats-Msg-Id": {fmt.Sprint(i)}})
		}
		sagatest.Eventually(t, "both are delivered", func() bool {
			c, err := b.js.Consumer(t.Context(), b.name, "worker")
			return err == nil && c.CachedInfo().NumAckPending == 2
		})
		close(release)
		b.settled("worker")
		b.had("worker", "m", 1)
	})
}

// What a failing handler has written is rolled back with its inbox row, and the
// message comes again, until it is handled.
func TestFailingHandlerGetsTheMessageAgain(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db)
		b.effects()
		var seen journal
		b.consume(message.ConsumerConfig{}, func(_ context.Context, tx *gorm.DB, m message.Received) error {
			seen.note(m)
			if err := effect(tx, "worker", m.ID); err != nil {
				return err
			}
			switch m.Attempt {
			case 1:
				return errors.New("on purpose")
			case 2:
				panic("on purpose")
			case 3:
				// On PostgreSQL a statement that fails spoils the transaction,
				// also if the handler keeps its error to itself.
				return tx.Exec("no SQL").Error
			}
			return nil
		})
		b.send("a", "x", nats.Header{message.HeaderID: {"m"}})
		entries := seen.reaches(t, 4)
		b.settled("worker")
		b.had("worker", "m", 1)
		for i, m := range entries {
			if m.Attempt != i+1 || m.ID != "m" || m.Sequence != 1 {
				t.Errorf("call %d: %+v", i+1, m)
			}
		}
		b.holds(b.name+"_dead", 0)
	})
}

// One message that fails does not hold up the others.
func TestFailingMessageHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"))
	var seen journal
	healed := make(chan struct{})
	b.consume(message.ConsumerConfig{Attempts: 1_000_000}, func(_ context.Context, _ *gorm.DB, m message.Received) error {
		if m.ID == "bad" {
			select {
			case <-healed:
			default:
				return errors.New("on purpose")
			}
		}
		seen.note(m)
		return nil
	})
	b.send("a", "x", nats.Header{message.HeaderID: {"bad"}})
	for i := range 5 {
		b.send("a", "x", nats.Header{message.HeaderID: {fmt.Sprint("good", i)}})
	}
	seen.reaches(t, 5)
	close(healed)
	if last := seen.reaches(t, 6)[5]; last.ID != "bad" || last.Attempt < 2 {
		t.Errorf("the last is %+v", last)
	}
}

func TestEachConsumerGetsEveryMessage(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db)
		b.effects()
		var gids []string
		for i := range 3 {
			gids = append(gids, b.execute(b.publish("placed", fmt.Sprint(i)), phones(1)))
		}
		for _, name := range []string{"mailer", "ledger"} {
			b.consume(message.ConsumerConfig{Name: name}, func(_ context.Context, tx *gorm.DB, m message.Received) error {
				return effect(tx, name, m.ID)
			})
			b.settled(name)
			for _, gid := range gids {
				b.had(name, b.id(gid, "01"), 1)
			}
		}
	})
}

// Processes with the same name share the messages.
func TestConsumersOfOneNameShare(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"))
	b.effects()
	for range 3 {
		b.consume(message.ConsumerConfig{}, func(_ context.Context, tx *gorm.DB, m message.Received) error {
			return effect(tx, "worker", m.ID)
		})
	}
	for i := range 30 {
		b.send("a", "x", nats.Header{message.HeaderID: {fmt.Sprint("m", i)}})
	}
	b.settled("worker")
	for i := range 30 {
		b.had("worker", fmt.Sprint("m", i), 1)
	}
}

func TestSubjectsNarrow(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"))
	var seen journal
	b.consume(message.ConsumerConfig{Subjects: []string{b.name + ".a.*", b.name + ".c"}}, func(_ context.Context, _ *gorm.DB, m message.Received) error {
		seen.note(m)
		return nil
	})
	for _, subject := range []string{"a.1", "b", "a.2", "a.2.3", "c"} {
		b.send(subject, subject, nil)
	}
	seen.reaches(t, 3)
	b.settled("worker")
	var got []string
	for _, m := range seen.all() {
		got = append(got, string(m.Data))
	}
	if !slices.Equal(got, []string{"a.1", "a.2", "c"}) {
		t.Errorf("handled %v", got)
	}
}

// Messages of other programs have the broker's id, or none, or one that the
// inbox could not hold.
func TestLogicalID(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"))
	longest := strings.Repeat("x", 200)
	cases := []struct {
		headers nats.Header
		want    string // empty is one of the stream
	}{
		{nats.Header{message.HeaderID: {"g/01"}, "Nats-Msg-Id": {"n0"}}, "g/01"},
		{nats.Header{"Nats-Msg-Id": {"n1"}}, "n1"},
		{nats.Header{message.HeaderID: {longest}}, longest},
		{nats.Header{message.HeaderID: {longest + "x"}, "Nats-Msg-Id": {"n2"}}, "n2"},
		{nats.Header{message.HeaderID: {"with space"}}, ""},
		{nats.Header{message.HeaderID: {"größe"}}, ""},
		{nats.Header{message.HeaderID: {""}}, ""},
		{nil, ""},
	}
	for _, c := range cases {
		b.send("a", "x", c.headers)
	}
	var seen journal
	b.consume(message.ConsumerConfig{}, func(_ context.Context, _ *gorm.DB, m message.Received) error {
		seen.note(m)
		return nil
	})
	for i, m := range seen.reaches(t, len(cases)) {
		want := cases[i].want
		if want == "" {
			stored := read(t, b.js, b.name, uint64(i+1))
			want = fmt.Sprintf("@%s/%d", strconv.FormatInt(stored.Time.UnixNano(), 36), i+1)
		}
		if m.ID != want {
			t.Errorf("%v is known as %q, want %q", cases[i].headers, m.ID, want)
		}
	}
}

// The trace goes from the caller to the handler, through the outbox.
func TestTraceContext(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db)
		type span struct{ id, trace string }
		spans := make(chan span, 2)
		b.consume(message.ConsumerConfig{}, func(ctx context.Context, _ *gorm.DB, m message.Received) error {
			got := trace.SpanContextFromContext(ctx)
			if got.IsValid() && !got.IsRemote() {
				t.Error("the span is not marked as another process's")
			}
			spans <- span{m.ID, got.TraceID().String() + "-" + got.SpanID().String()}
			return nil
		})
		caller := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1, 2, 3}, SpanID: trace.SpanID{4, 5}, TraceFlags: trace.FlagsSampled})
		ctx := trace.ContextWithSpanContext(t.Context(), caller)

		planned := sagatest.GID()
		_, err := tcc.Execute(ctx, b.orch, planned, phones(1), b.publish("placed", "1"))
		sagatest.Must(t, err)
		want := "01020300000000000000000000000000-0405000000000000"
		if got := <-spans; got != (span{b.id(planned, "02"), want}) {
			t.Errorf("Execute: the handler's span is %v", got)
		}
		if got := read(t, b.js, b.name, 1).Header.Get("traceparent"); got != "00-"+want+"-01" {
			t.Errorf("traceparent %q", got)
		}

		// Who asked for the message counts, not who decides later.
		open := sagatest.GID()
		tx, err := tcc.Begin(t.Context(), b.orch, open)
		sagatest.Must(t, err)
		sagatest.Must(t, tx.Try(ctx, b.publish("placed", "2")))
		_, err = tx.Confirm(t.Context())
		sagatest.Must(t, err)
		if got := <-spans; got != (span{b.id(open, "01"), want}) {
			t.Errorf("Begin: the handler's span is %v", got)
		}

		// Names are taken in any case, and the caller's context replaces what
		// the message has.
		in := b.publish("placed", "3")
		in.Headers = map[string][]string{"TraceParent": {"00-" + strings.Repeat("a", 32) + "-" + strings.Repeat("b", 16) + "-01"}}
		gid := b.execute(in)
		if got := <-spans; got != (span{b.id(gid, "01"), strings.Repeat("a", 32) + "-" + strings.Repeat("b", 16)}) {
			t.Errorf("from a header: the handler's span is %v", got)
		}
		gid = sagatest.GID()
		_, err = tcc.Execute(ctx, b.orch, gid, in)
		sagatest.Must(t, err)
		if got := <-spans; got != (span{b.id(gid, "01"), want}) {
			t.Errorf("with a header: the handler's span is %v", got)
		}
	})
}

func TestConsumeRefusesBadInput(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"))
	nothing := func(context.Context, *gorm.DB, message.Received) error { return nil }
	for name, c := range map[string]struct {
		db     *gorm.DB
		js     jetstream.JetStream
		handle message.Handler
		config message.ConsumerConfig
	}{
		"no database":    {nil, b.js, nothing, message.ConsumerConfig{Stream: b.name, Name: "x"}},
		"no broker":      {b.db, nil, nothing, message.ConsumerConfig{Stream: b.name, Name: "x"}},
		"no handler":     {b.db, b.js, nil, message.ConsumerConfig{Stream: b.name, Name: "x"}},
		"no stream":      {b.db, b.js, nothing, message.ConsumerConfig{Name: "x"}},
		"no name":        {b.db, b.js, nothing, message.ConsumerConfig{Stream: b.name}},
		"name with dot":  {b.db, b.js, nothing, message.ConsumerConfig{Stream: b.name, Name: "a.b"}},
		"long name":      {b.db, b.js, nothing, message.ConsumerConfig{Stream: b.name, Name: strings.Repeat("x", 65)}},
		"umlaut":         {b.db, b.js, nothing, message.ConsumerConfig{Stream: b.name, Name: "größe"}},
		"wrong dead one": {b.db, b.js, nothing, message.ConsumerConfig{Stream: b.name, Name: "x", DeadLetters: b.name}},
	} {
		if _, err := message.Consume(t.Context(), c.db, wrap(c.js), c.config, c.handle); !errors.Is(err, message.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	missing := newStream(t, b.js)
	_, err := message.Consume(t.Context(), b.db, wrap(b.js), message.ConsumerConfig{Stream: missing, Name: "x"}, nothing)
	if !errors.Is(err, jetstream.ErrStreamNotFound) || !strings.Contains(err.Error(), missing) {
		t.Errorf("missing stream: %v", err)
	}
}
