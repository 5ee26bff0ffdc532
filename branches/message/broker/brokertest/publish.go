package brokertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tccsaga/tccsaga/branches/message/broker"
)

// Publishing tests the promises of [broker.Publisher] and [broker.Stream].
func Publishing(t *testing.T, h Harness) {
	for name, test := range map[string]func(*testing.T, Harness){
		"a stream is created once":               createdOnce,
		"a stream that does not exist":           notCreated,
		"subjects that a stream does not carry":  notCarried,
		"messages are stored as they are":        storedAsTheyAre,
		"messages are stored in their order":     storedInOrder,
		"a repeated id is stored once":           storedOnce,
		"a repeated id with other content":       foreign,
		"a message that can never be stored":     neverStored,
		"one bad message of many hurts no other": oneBad,
		"a context that ends":                    contextEnds,
		"an outage":                              outage,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, h)
		})
	}
}

// stream opens a new stream.
func (h Harness) stream(t *testing.T) (s broker.Stream, name string) {
	t.Helper()
	name = h.Name(t)
	s, err := h.Broker(t).OpenStream(bounded(t), broker.StreamConfig{Name: name, Subjects: []string{name + ".*"}})
	must(t, err)
	return s, name
}

// some returns n messages with ids that begin with word.
func some(stream, word string, n int) (messages []broker.Message) {
	for i := range n {
		messages = append(messages, broker.Message{ID: fmt.Sprint(word, "-", i), Subject: stream + ".a", Data: fmt.Append(nil, word, " ", i)})
	}
	return messages
}

func succeed(t *testing.T, results []broker.Result) {
	t.Helper()
	for i, r := range results {
		if r.Err != nil {
			t.Errorf("number %d: %v", i, r.Err)
		}
	}
}

func createdOnce(t *testing.T, h Harness) {
	b, name := h.Broker(t), h.Name(t)
	config := broker.StreamConfig{Name: name, Subjects: []string{name + ".*"}}
	errs := make(chan error)
	for range 8 {
		go func() {
			_, err := b.OpenStream(bounded(t), config)
			errs <- err
		}()
	}
	for range 8 {
		must(t, <-errs)
	}
	s, err := b.OpenStream(bounded(t), broker.StreamConfig{Name: name})
	must(t, err)
	if info := s.Info(); info.Name != name || !slices.Equal(info.Subjects, config.Subjects) || info.Replicas != 1 || info.Window <= 0 {
		t.Errorf("%+v", info)
	}
	if len(s.Info().Warnings) > 0 {
		t.Errorf("a stream of its own making has warnings: %v", s.Info().Warnings)
	}
}

func notCreated(t *testing.T, h Harness) {
	_, err := h.Broker(t).OpenStream(bounded(t), broker.StreamConfig{Name: h.Name(t)})
	if !errors.Is(err, broker.ErrNotFound) {
		t.Errorf("without subjects: %v", err)
	}
	_, err = h.Broker(t).OpenStream(bounded(t), broker.StreamConfig{})
	if !errors.Is(err, broker.ErrInvalid) {
		t.Errorf("without a name: %v", err)
	}
}

func notCarried(t *testing.T, h Harness) {
	s, name := h.stream(t)
	_, err := h.Broker(t).OpenStream(bounded(t), broker.StreamConfig{Name: name, Subjects: []string{"elsewhere." + name}})
	if !errors.Is(err, broker.ErrInvalid) {
		t.Errorf("open: %v", err)
	}
	if err := s.Check(broker.Message{ID: "x", Subject: "elsewhere." + name}); !errors.Is(err, broker.ErrInvalid) {
		t.Errorf("check: %v", err)
	}
}

func storedAsTheyAre(t *testing.T, h Harness) {
	s, name := h.stream(t)
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	messages := []broker.Message{
		{ID: "1", Subject: name + ".a", Data: every, Headers: map[string][]string{"X-Tag": {"one", "two"}, "x-lower": {"größe"}}},
		{ID: "2", Subject: name + ".b"},
	}
	for _, m := range messages {
		must(t, s.Check(m))
	}
	results := s.Publish(bounded(t), messages)
	succeed(t, results)
	stored := h.Stored(t, name)
	if len(stored) != 2 {
		t.Fatalf("%d are stored", len(stored))
	}
	for i, m := range messages {
		got := stored[i]
		if r := results[i].Receipt; r.Stream != name || r.Sequence != got.Sequence || r.Duplicate {
			t.Errorf("receipt %+v of message %d", r, got.Sequence)
		}
		if got.ID != m.ID || got.Subject != m.Subject || string(got.Data) != string(m.Data) {
			t.Errorf("stored %+v", got)
		}
		for header, values := range m.Headers {
			if !slices.Equal(got.Headers[header], values) {
				t.Errorf("header %s: %q", header, got.Headers[header])
			}
		}
	}
}

func storedInOrder(t *testing.T, h Harness) {
	s, name := h.stream(t)
	messages := some(name, "m", 500)
	results := s.Publish(bounded(t), messages)
	succeed(t, results)
	for i := range results[1:] {
		if results[i].Receipt.Sequence >= results[i+1].Receipt.Sequence {
			t.Fatalf("message %d is behind the next one: %+v", i, results[i:i+2])
		}
	}
	if stored := h.Stored(t, name); len(stored) != len(messages) || string(stored[499].Data) != "m 499" {
		t.Errorf("%d are stored", len(stored))
	}
}

func storedOnce(t *testing.T, h Harness) {
	s, name := h.stream(t)
	messages := some(name, "m", 20)
	first := s.Publish(bounded(t), messages)
	succeed(t, first)
	again := s.Publish(bounded(t), append(messages, some(name, "n", 1)...))
	succeed(t, again)
	for i := range first {
		if got := again[i].Receipt; !got.Duplicate || got.Sequence != first[i].Receipt.Sequence || got.Stream != name {
			t.Errorf("number %d: %+v and %+v", i, first[i], again[i])
		}
	}
	if again[20].Receipt.Duplicate || len(h.Stored(t, name)) != 21 {
		t.Errorf("%+v, %d are stored", again[20], len(h.Stored(t, name)))
	}
}

func foreign(t *testing.T, h Harness) {
	s, name := h.stream(t)
	original := broker.Message{ID: "same", Subject: name + ".a", Data: []byte("ours"), Headers: map[string][]string{"X-Tag": {"one"}}}
	succeed(t, s.Publish(bounded(t), []broker.Message{original}))
	data, header := original, original
	data.Data, header.Headers = []byte("theirs"), map[string][]string{"X-Tag": {"two"}}
	for i, r := range s.Publish(bounded(t), []broker.Message{data, header, original}) {
		if want := i < 2; errors.Is(r.Err, broker.ErrForeign) != want {
			t.Errorf("number %d: %+v", i, r)
		}
	}
	if n := len(h.Stored(t, name)); n != 1 {
		t.Errorf("%d are stored", n)
	}
}

func neverStored(t *testing.T, h Harness) {
	s, name := h.stream(t)
	for what, m := range map[string]broker.Message{
		"no subject":                 {ID: "x"},
		"a header with a line break": {ID: "x", Subject: name + ".a", Headers: map[string][]string{"X-Tag": {"one\r\ntwo"}}},
		"a header without a name":    {ID: "x", Subject: name + ".a", Headers: map[string][]string{"": {"one"}}},
		"too much data":              {ID: "x", Subject: name + ".a", Data: make([]byte, 512<<20)},
	} {
		if err := s.Check(m); !errors.Is(err, broker.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func oneBad(t *testing.T, h Harness) {
	s, name := h.stream(t)
	messages := some(name, "m", 9)
	messages[4].Subject = "elsewhere." + name
	for i, r := range s.Publish(bounded(t), messages) {
		if (r.Err != nil) != (i == 4) {
			t.Errorf("number %d: %+v", i, r)
		}
	}
	if n := len(h.Stored(t, name)); n != 8 {
		t.Errorf("%d are stored", n)
	}
}

func contextEnds(t *testing.T, h Harness) {
	s, name := h.stream(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	messages := some(name, "m", 10)
	results := s.Publish(ended, messages)
	if len(results) != len(messages) {
		t.Fatalf("%d results", len(results))
	}
	succeed(t, s.Publish(bounded(t), messages))
	if n := len(h.Stored(t, name)); n != len(messages) {
		t.Errorf("%d are stored", n)
	}
	if len(s.Publish(bounded(t), nil)) != 0 {
		t.Error("no message has a result")
	}
}

func outage(t *testing.T, h Harness) {
	if h.Break == nil {
		t.Skip("the harness has no Break")
	}
	b, stored, stop, start := h.Break(t)
	name := strings.ReplaceAll("outage"+t.Name(), "/", "_")
	s, err := b.OpenStream(bounded(t), broker.StreamConfig{Name: name, Subjects: []string{name + ".*"}})
	must(t, err)
	messages := some(name, "m", 50)
	succeed(t, s.Publish(bounded(t), messages[:10]))
	stop()
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		for i, r := range s.Publish(ctx, messages) {
			if r.Err == nil {
				t.Errorf("number %d is stored by a broker that is down: %+v", i, r)
			}
		}
		cancel()
	}
	start()
	ctx := bounded(t)
	var results []broker.Result
	for missing := true; missing; {
		if ctx.Err() != nil {
			t.Fatalf("the broker is back, and nothing can be published: %+v", results[0])
		}
		results = s.Publish(ctx, messages)
		missing = slices.ContainsFunc(results, func(r broker.Result) bool { return r.Err != nil })
	}
	all := stored(name)
	ids := map[string]bool{}
	for _, m := range all {
		ids[m.ID] = true
	}
	if len(all) != len(messages) || len(ids) != len(messages) {
		t.Errorf("%d are stored, with %d ids", len(all), len(ids))
	}
}
