package message_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
	seam "github.com/tccsaga/tccsaga/branches/message/broker"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// A consumer that an operator has made or tuned keeps what the operator has set.
func TestOperatorsTuningIsKept(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"))
	b.send("a", "old", nil)
	_, err := b.js.CreateConsumer(t.Context(), b.name, jetstream.ConsumerConfig{Durable: "worker", Description: "ask ann", AckPolicy: jetstream.AckExplicitPolicy,
		DeliverPolicy: jetstream.DeliverNewPolicy, AckWait: 17 * time.Second, MaxAckPending: 3, MaxDeliver: 4, FilterSubject: b.name + ".*"})
	sagatest.Must(t, err)
	var seen journal
	note := func(_ context.Context, _ *gorm.DB, m message.Received) error {
		seen.note(m)
		return nil
	}
	c := b.consume(message.ConsumerConfig{}, note)
	b.send("a", "new", nil)
	if m := seen.reaches(t, 1)[0]; string(m.Data) != "new" {
		t.Errorf("handled %s", m.Data)
	}
	sagatest.Must(t, c.Stop(t.Context()))
	kept := func() jetstream.ConsumerConfig {
		consumer, err := b.js.Consumer(t.Context(), b.name, "worker")
		sagatest.Must(t, err)
		return consumer.CachedInfo().Config
	}
	if k := kept(); k.Description != "ask ann" || k.AckWait != 17*time.Second || k.MaxAckPending != 3 || k.FilterSubject != b.name+".*" || k.MaxDeliver != -1 {
		t.Errorf("the consumer is %+v", k)
	}
	// A program that asks for something gets it.
	c = b.consume(message.ConsumerConfig{AckWait: 9 * time.Second, MaxAckPending: 7, Description: "ask bob", Subjects: []string{b.name + ".a", b.name + ".b"}}, note)
	sagatest.Must(t, c.Stop(t.Context()))
	if k := kept(); k.Description != "ask bob" || k.AckWait != 9*time.Second || k.MaxAckPending != 7 || len(k.FilterSubjects) != 2 || k.DeliverPolicy != jetstream.DeliverNewPolicy {
		t.Errorf("the consumer is %+v", k)
	}
	_, err = b.js.CreateConsumer(t.Context(), b.name, jetstream.ConsumerConfig{Durable: "careless", AckPolicy: jetstream.AckNonePolicy})
	sagatest.Must(t, err)
	_, err = message.Consume(t.Context(), b.db, wrap(b.js), message.ConsumerConfig{Stream: b.name, Name: "careless"}, note)
	if !errors.Is(err, seam.ErrUnsafe) || !strings.Contains(err.Error(), "AckPolicy") {
		t.Errorf("a consumer without acknowledgements: %v", err)
	}
}

func TestStart(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"))
	for i := range 3 {
		b.send("a", fmt.Sprint(i+1), nil)
	}
	second := read(t, b.js, b.name, 2).Time
	for name, c := range map[string]struct {
		start seam.Start
		want  []string
	}{
		"first":    {seam.Start{}, []string{"1", "2", "3", "4"}},
		"sequence": {seam.Start{Sequence: 3}, []string{"3", "4"}},
		"time":     {seam.Start{Time: second}, []string{"2", "3", "4"}},
		"new":      {seam.Start{New: true}, []string{"4"}},
	} {
		c := c
		var seen journal
		b.consume(message.ConsumerConfig{Name: name, Start: c.start}, func(_ context.Context, _ *gorm.DB, m message.Received) error {
			seen.note(m)
			return nil
		})
		defer func() {
			var got []string
			for _, m := range seen.reaches(t, len(c.want)) {
				got = append(got, string(m.Data))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%s: %v", name, got)
			}
		}()
	}
	b.send("a", "4", nil)
	_, err := message.Consume(t.Context(), b.db, wrap(b.js), message.ConsumerConfig{Stream: b.name, Name: "both", Start: seam.Start{New: true, Sequence: 2}},
		func(context.Context, *gorm.DB, message.Received) error { return nil })
	if !errors.Is(err, message.ErrInvalid) {
		t.Errorf("two starts: %v", err)
	}
}
