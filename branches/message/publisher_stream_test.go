package message_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

func TestNewPublisherCreatesOrChecksTheStream(t *testing.T) {
	t.Parallel()
	js, db := connect(t), sqltest.Open(t, "sqlite")
	ctx := t.Context()
	create := func(name string, subjects ...string) error {
		_, err := message.NewPublisher(ctx, db, wrap(js), message.Config{Stream: name, Subjects: subjects})
		return err
	}
	name := newStream(t, js)
	sagatest.Must(t, create(name, name+".a.*", name+".b.>"))
	stream, err := js.Stream(ctx, name)
	sagatest.Must(t, err)
	config := stream.CachedInfo().Config
	if !slices.Equal(config.Subjects, []string{name + ".a.*", name + ".b.>"}) || config.Storage != jetstream.FileStorage || config.Replicas != 1 {
		t.Errorf("created %+v", config)
	}

	// One that is there is taken as it is.
	config.Description = "untouched"
	_, err = js.UpdateStream(ctx, config)
	sagatest.Must(t, err)
	for subject, carried := range map[string]bool{
		name + ".a.x": true, name + ".a.*": true, name + ".b.x": true, name + ".b.x.y": true, name + ".b.*": true,
		name + ".b.>": true, name + ".b.*.y": true,
		name + ".a": false, name + ".a.x.y": false, name + ".a.>": false, name + ".b": false, name + ".>": false,
		name + ".*.x": false, name: false, ">": false, "*": false,
	} {
		err := create(name, name+".a.1", subject)
		if carried && err != nil || !carried && (!errors.Is(err, message.ErrInvalid) || !strings.Contains(err.Error(), "it carries")) {
			t.Errorf("%s: %v", subject, err)
		}
	}
	stream, err = js.Stream(ctx, name)
	sagatest.Must(t, err)
	if got := stream.CachedInfo().Config; got.Description != "untouched" || !slices.Equal(got.Subjects, config.Subjects) {
		t.Errorf("changed to %+v", got)
	}
	if err := create(newStream(t, js), name+".b.x"); err == nil || !strings.Contains(err.Error(), "overlap") {
		t.Errorf("a subject of another stream: %v", err)
	}

	// Many processes start at once, and all find the stream.
	name = newStream(t, js)
	errs := make(chan error)
	for range 8 {
		go func() { errs <- create(name, name+".>") }()
	}
	for range 8 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestNewPublisherRefusesBadInput(t *testing.T) {
	t.Parallel()
	js, db := connect(t), sqltest.Open(t, "sqlite")
	for name, c := range map[string]struct {
		db     *gorm.DB
		js     jetstream.JetStream
		config message.Config
	}{
		"no database": {nil, js, message.Config{Stream: "s", Subjects: []string{"s.>"}}},
		"no broker":   {db, nil, message.Config{Stream: "s", Subjects: []string{"s.>"}}},
		"no stream":   {db, js, message.Config{Subjects: []string{"s.>"}}},
		"no subjects": {db, js, message.Config{Stream: "s"}},
	} {
		if _, err := message.NewPublisher(t.Context(), c.db, wrap(c.js), c.config); !errors.Is(err, message.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := message.NewPublisher(t.Context(), db, wrap(js), message.Config{Stream: "a.b", Subjects: []string{"s.>"}}); err == nil {
		t.Error("a stream's name with a dot was taken")
	}

	broker := newBroker(t)
	down := connectTo(t, broker.server.ClientURL())
	broker.stop()
	sagatest.Eventually(t, "the connection is lost", func() bool { return down.Conn().Status() == nats.RECONNECTING })
	down.Conn().Close()
	if _, err := message.NewPublisher(t.Context(), db, wrap(down), message.Config{Stream: "s", Subjects: []string{"s.>"}}); err == nil ||
		!strings.Contains(err.Error(), "is the NATS server running") {
		t.Errorf("without a broker: %v", err)
	}
}

// A stream may take less than the broker does.
func TestMessageTooLargeForItsStream(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"))
	name := b.name + "_small"
	_, err := b.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{name + ".>"}, MaxMsgSize: 4096})
	sagatest.Must(t, err)
	t.Cleanup(func() { b.js.DeleteStream(context.Background(), name) })
	publisher, err := message.NewPublisher(t.Context(), b.db, wrap(b.js), message.Config{Stream: name, Subjects: []string{name + ".>"}})
	sagatest.Must(t, err)
	orch := sagatest.Open(t, b.db, embedded.Config{})
	sagatest.Must(t, tcc.Register(orch, publisher))
	for size, want := range map[int]error{3000: nil, 3500: saga.ErrCancelled} {
		payload := message.Publish{Subject: name + ".a", Data: bytes.Repeat([]byte("x"), size)}
		if _, err := tcc.Execute(t.Context(), orch, fmt.Sprintf("%s-%d", name, size), payload); !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	sagatest.Must(t, orch.Stop(t.Context()))
}

// What Try takes, the broker and the tables take as well, with the longest gid
// and headers that there can be.
func TestLargestMessage(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db)
		headers := map[string][]string{}
		size := 0
		for i := range 40 {
			name := fmt.Sprintf("X-%d", i)
			headers[name] = []string{strings.Repeat("x", 1000)}
			size += len(name) + 1000 + 4
		}
		data := strings.Repeat("x", int(b.js.Conn().MaxPayload())-4096-size)
		gid := strings.Repeat("g", 128)
		outcome, err := tcc.Execute(t.Context(), b.orch, gid,
			message.Publish{Subject: b.name + "." + strings.Repeat("s", 254-len(b.name)), Data: []byte(data), Headers: headers})
		if err != nil || outcome.State != saga.Confirmed {
			t.Fatalf("%+v, %v", outcome, err)
		}
		if got := len(read(t, b.js, b.name, 1).Data); got != len(data) {
			t.Errorf("%d bytes came, %d were sent", got, len(data))
		}
	})
}
