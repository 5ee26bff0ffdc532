package message_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
	seam "github.com/tccsaga/tccsaga/branches/message/broker"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// Two services with databases of their own use the same gid on one stream: both
// messages are stored. So is that of a gid that is new again after the retention.
func TestTheSameGIDTwice(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db)
		foreign := newBenchOn(t, sqltest.Open(t, "sqlite"), sqltest.Open(t, "sqlite"), b.js)
		publisher, err := message.NewPublisher(t.Context(), foreign.db, wrap(b.js), message.Config{Stream: b.name, Subjects: []string{b.name + ".>"}, Kind: "message.shared"})
		sagatest.Must(t, err)
		t.Cleanup(func() { publisher.Stop(t.Context()) })
		sagatest.Must(t, tcc.Register(foreign.orch, publisher))

		in := b.publish("placed", "same")
		outcome, err := tcc.Execute(t.Context(), b.orch, "order-1001", in)
		if err != nil || outcome.State != saga.Confirmed {
			t.Fatalf("%+v, %v", outcome, err)
		}
		shared := in
		shared.Kind = "message.shared"
		outcome, err = tcc.Execute(t.Context(), foreign.orch, "order-1001", shared)
		if err != nil || outcome.State != saga.Confirmed {
			t.Fatalf("%+v, %v", outcome, err)
		}
		b.holds(b.name, 2)

		// As the retention leaves it.
		for _, table := range []string{"saga_transactions", "saga_branches", "saga_barrier", "saga_outbox"} {
			sqltest.Exec(t, db, "DELETE FROM "+table+" WHERE gid = 'order-1001'")
		}
		_, err = tcc.Execute(t.Context(), b.orch, "order-1001", in)
		sagatest.Must(t, err)
		b.holds(b.name, 3)
		ids := map[string]bool{}
		for sequence := uint64(1); sequence <= 3; sequence++ {
			ids[read(t, b.js, b.name, sequence).Header.Get(message.HeaderID)] = true
		}
		if len(ids) != 3 {
			t.Errorf("ids %v", ids)
		}
	})
}

// A message that the broker takes for another one is not confirmed: a person is
// told.
func TestAnotherMessageUnderItsID(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"))
	tx, err := tcc.Begin(t.Context(), b.orch, sagatest.GID())
	sagatest.Must(t, err)
	sagatest.Must(t, tx.Try(t.Context(), b.publish("a", "ours")))
	id := b.id(tx.GID(), "01")
	b.send("a", "theirs", nats.Header{"Nats-Msg-Id": {id}})
	outcome, err := tx.Confirm(t.Context())
	if err != nil || outcome.State != saga.Confirming {
		t.Fatalf("%+v, %v", outcome, err)
	}
	found, err := b.orch.Lookup(t.Context(), tx.GID())
	sagatest.Must(t, err)
	if !strings.Contains(found.Attention, "conflict") || !strings.Contains(found.Attention, "another message under this id") {
		t.Errorf("attention %q", found.Attention)
	}
	b.holds(b.name, 1)
}

// An engine has several publishers, each with a stream and a kind of its own.
func TestSeveralPublishers(t *testing.T) {
	outboxes(t, func(t *testing.T, b *bench) {
		audit := newStream(t, b.js)
		publisher, err := message.NewPublisher(t.Context(), b.outbox, wrap(b.js), message.Config{Stream: audit, Subjects: []string{audit + ".>"}, Kind: "message.audit"})
		sagatest.Must(t, err)
		t.Cleanup(func() { publisher.Stop(t.Context()) })
		sagatest.Must(t, tcc.Register(b.orch, publisher))
		gid := b.execute(b.publish("placed", "1"), message.Publish{Subject: audit + ".placed", Data: []byte("2"), Kind: "message.audit"})
		b.holds(b.name, 1)
		b.holds(audit, 1)
		rows := b.outboxRows(gid)
		if len(rows) != 2 || rows[0].Stream != b.name || rows[1].Stream != audit {
			t.Errorf("%+v", rows)
		}
		found, err := b.orch.Lookup(t.Context(), gid)
		sagatest.Must(t, err)
		if found.Branches[0].Kind != message.DefaultKind || found.Branches[1].Kind != "message.audit" {
			t.Errorf("%+v", found.Branches)
		}
		if err := tcc.Register(b.orch, publisher); !errors.Is(err, saga.ErrInvalid) {
			t.Errorf("registered twice: %v", err)
		}
	})
}

// A stream that cannot keep the promise is refused.
func TestUnsafeStream(t *testing.T) {
	t.Parallel()
	js := connect(t)
	name := newStream(t, js)
	_, err := js.Conn().Request("$JS.API.STREAM.CREATE."+name, []byte(`{"name":"`+name+`","subjects":["`+name+`.>"],"no_ack":true,"storage":"file","retention":"limits","num_replicas":1}`), 5e9)
	sagatest.Must(t, err)
	_, err = message.NewPublisher(t.Context(), sqltest.Open(t, "sqlite"), wrap(js), message.Config{Stream: name, Subjects: []string{name + ".>"}})
	if !errors.Is(err, seam.ErrUnsafe) || !strings.Contains(err.Error(), "no_ack") {
		t.Error(err)
	}
}
