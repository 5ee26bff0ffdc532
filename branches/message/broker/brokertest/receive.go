package brokertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/tccsaga/tccsaga/branches/message/broker"
)

// Receiver gives a broker to the tests of receiving. Tests that run in parallel call its
// functions.
type Receiver struct {
	// Broker opens a separate connection to a broker, and returns it with a function
	// that closes it for good.
	Broker func(t *testing.T) (b broker.Broker, closeIt func())

	// Stream creates a new stream for the subjects NAME.>, and returns NAME with a
	// function that deletes the stream and its consumers. It also registers a
	// Cleanup of the test that deletes the stream.
	Stream func(t *testing.T) (name string, remove func())
}

// Receiving tests the promises of [broker.Subscriber], [broker.Subscription],
// [broker.Delivery] and [broker.Archive].
func Receiving(t *testing.T, r Receiver) {
	for name, test := range map[string]func(*receiving, *testing.T){
		"messages come as they are, in their order": (*receiving).asTheyAre,
		"an empty stream":                              (*receiving).empty,
		"what is acknowledged does not come again":     (*receiving).acknowledged,
		"what is asked for again comes again":          (*receiving).again,
		"what nobody settles comes again":              (*receiving).unsettled,
		"what is extended does not come again":         (*receiving).extended,
		"subscriptions with one name share":            (*receiving).shared,
		"each name gets all":                           (*receiving).names,
		"subjects narrow":                              (*receiving).narrowed,
		"starts":                                       (*receiving).starts,
		"closing gives what came meanwhile":            (*receiving).closing,
		"a context that ends loses nothing":            (*receiving).interrupted,
		"the backlog":                                  (*receiving).backlog,
		"a stream that does not exist, and is deleted": (*receiving).deleted,
		"a connection that is closed":                  (*receiving).closed,
		"the archive":                                  (*receiving).archive,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, closeIt := r.Broker(t)
			name, remove := r.Stream(t)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			test(&receiving{ctx, b, closeIt, name, remove}, t)
		})
	}
}

type receiving struct {
	ctx     context.Context
	b       broker.Broker
	closeIt func()
	name    string
	remove  func()
}

// send stores messages on a subject, with their numbers as data.
func (r *receiving) send(t *testing.T, subject string, from, to int) {
	t.Helper()
	s, err := r.b.OpenStream(r.ctx, broker.StreamConfig{Name: r.name, Subjects: []string{r.name + ".>"}})
	fatal(t, err)
	var messages []broker.Message
	for i := from; i < to; i++ {
		messages = append(messages, broker.Message{ID: fmt.Sprint("id-", i), Subject: r.name + "." + subject,
			Headers: map[string][]string{"X-Number": {fmt.Sprint(i)}}, Data: fmt.Append(nil, i)})
	}
	for _, result := range s.Publish(r.ctx, messages) {
		fatal(t, result.Err)
	}
}

func (r *receiving) subscribe(t *testing.T, config broker.SubscriptionConfig) broker.Subscription {
	t.Helper()
	config.Stream = r.name
	if config.Name == "" {
		config.Name = "worker"
	}
	s, err := r.b.Subscribe(r.ctx, config)
	fatal(t, err)
	return s
}

// take fetches until it has n messages.
func (r *receiving) take(t *testing.T, s broker.Subscription, n int) (all []broker.Delivery) {
	t.Helper()
	for len(all) < n {
		some, err := s.Fetch(r.ctx, n-len(all))
		fatal(t, err)
		all = append(all, some...)
	}
	return all
}

func data(deliveries []broker.Delivery) (all []string) {
	for _, d := range deliveries {
		all = append(all, string(d.Message().Data))
	}
	return all
}

func same(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// none checks that nothing comes.
func (r *receiving) none(t *testing.T, s broker.Subscription) {
	t.Helper()
	if got, err := s.Fetch(r.ctx, 10); err != nil || len(got) != 0 {
		t.Errorf("got %v, %v", data(got), err)
	}
}

func (r *receiving) asTheyAre(t *testing.T) {
	r.send(t, "a", 0, 20)
	began := time.Now()
	all := r.take(t, r.subscribe(t, broker.SubscriptionConfig{}), 20)
	for i, d := range all {
		m, at := d.Message(), d.Position()
		if m.ID != fmt.Sprint("id-", i) || m.Subject != r.name+".a" || string(m.Data) != fmt.Sprint(i) || len(m.Headers["X-Number"]) != 1 ||
			at.Stream != r.name || at.Waiting != uint64(19-i) || at.Time.After(began.Add(time.Minute)) || i > 0 && at.Sequence <= all[i-1].Position().Sequence {
			t.Errorf("number %d: %+v at %+v", i, m, at)
		}
	}
}

func (r *receiving) empty(t *testing.T) {
	s := r.subscribe(t, broker.SubscriptionConfig{})
	r.none(t, s)
	r.send(t, "a", 0, 1)
	same(t, data(r.take(t, s, 1)), "0")
}

func (r *receiving) acknowledged(t *testing.T) {
	r.send(t, "a", 0, 3)
	s := r.subscribe(t, broker.SubscriptionConfig{AckWait: 100 * time.Millisecond})
	for _, d := range r.take(t, s, 3) {
		fatal(t, d.Ack())
	}
	fatal(t, s.Flush(r.ctx))
	r.none(t, s)
}

func (r *receiving) again(t *testing.T) {
	r.send(t, "a", 0, 2)
	s := r.subscribe(t, broker.SubscriptionConfig{AckWait: time.Minute})
	first := r.take(t, s, 2)
	fatal(t, first[1].Again(100*time.Millisecond))
	fatal(t, first[0].Again(0))
	second := r.take(t, s, 2)
	same(t, data(second), "0", "1")
	for i, d := range second {
		if d.Position().Sequence != first[i].Position().Sequence || !d.Position().Time.Equal(first[i].Position().Time) {
			t.Errorf("then at %+v, now at %+v", first[i].Position(), d.Position())
		}
	}
}

func (r *receiving) unsettled(t *testing.T) {
	r.send(t, "a", 0, 1)
	s := r.subscribe(t, broker.SubscriptionConfig{AckWait: 200 * time.Millisecond})
	if s.AckWait() != 200*time.Millisecond {
		t.Errorf("the AckWait is %s", s.AckWait())
	}
	r.take(t, s, 1)
	same(t, data(r.take(t, s, 1)), "0")
}

func (r *receiving) extended(t *testing.T) {
	r.send(t, "a", 0, 1)
	s := r.subscribe(t, broker.SubscriptionConfig{AckWait: 2 * time.Second})
	d := r.take(t, s, 1)[0]
	for range 4 { // each Fetch waits for about a second
		fatal(t, d.Extend())
		r.none(t, s)
	}
	fatal(t, d.Ack())
}

func (r *receiving) shared(t *testing.T) {
	r.send(t, "a", 0, 4)
	one, two := r.subscribe(t, broker.SubscriptionConfig{AckWait: time.Minute}), r.subscribe(t, broker.SubscriptionConfig{})
	got := append(data(r.take(t, one, 2)), data(r.take(t, two, 2))...)
	slices.Sort(got)
	same(t, got, "0", "1", "2", "3")
	r.none(t, one)
}

func (r *receiving) names(t *testing.T) {
	r.send(t, "a", 0, 2)
	for _, name := range []string{"one", "two"} {
		same(t, data(r.take(t, r.subscribe(t, broker.SubscriptionConfig{Name: name}), 2)), "0", "1")
	}
}

func (r *receiving) narrowed(t *testing.T) {
	r.send(t, "a", 0, 1)
	r.send(t, "b", 1, 2)
	r.send(t, "c", 2, 3)
	same(t, data(r.take(t, r.subscribe(t, broker.SubscriptionConfig{Subjects: []string{r.name + ".b"}}), 1)), "1")
	s := r.subscribe(t, broker.SubscriptionConfig{Name: "two", Subjects: []string{r.name + ".a", r.name + ".c"}, AckWait: time.Minute})
	same(t, data(r.take(t, s, 2)), "0", "2")
	r.none(t, s)
	if _, err := r.b.Subscribe(r.ctx, broker.SubscriptionConfig{Stream: r.name, Name: "three", Subjects: []string{"elsewhere"}}); !errors.Is(err, broker.ErrInvalid) {
		t.Errorf("a subject that the stream does not carry: %v", err)
	}
}

func (r *receiving) starts(t *testing.T) {
	r.send(t, "a", 0, 3)
	middle := r.take(t, r.subscribe(t, broker.SubscriptionConfig{}), 2)[1].Position()
	fresh := r.subscribe(t, broker.SubscriptionConfig{Name: "new", Start: broker.Start{New: true}})
	same(t, data(r.take(t, r.subscribe(t, broker.SubscriptionConfig{Name: "sequence", Start: broker.Start{Sequence: middle.Sequence}}), 2)), "1", "2")
	same(t, data(r.take(t, r.subscribe(t, broker.SubscriptionConfig{Name: "time", Start: broker.Start{Time: middle.Time}}), 2)), "1", "2")
	r.send(t, "a", 3, 4)
	same(t, data(r.take(t, fresh, 1)), "3")
	// The start of a consumer that exists stays.
	same(t, data(r.take(t, r.subscribe(t, broker.SubscriptionConfig{Name: "later", AckWait: time.Minute}), 1)), "0")
	same(t, data(r.take(t, r.subscribe(t, broker.SubscriptionConfig{Name: "later", Start: broker.Start{New: true}}), 1)), "1")
}

func (r *receiving) closing(t *testing.T) {
	r.send(t, "a", 0, 50)
	s := r.subscribe(t, broker.SubscriptionConfig{AckWait: time.Minute})
	got, err := s.Fetch(r.ctx, 50)
	fatal(t, err)
	rest, err := s.Close(r.ctx)
	fatal(t, err)
	for _, d := range append(got, rest...) {
		fatal(t, d.Again(0))
	}
	fatal(t, s.Flush(r.ctx))
	if all := r.take(t, r.subscribe(t, broker.SubscriptionConfig{}), 50); len(all) != 50 {
		t.Errorf("%d came", len(all))
	}
}

func (r *receiving) interrupted(t *testing.T) {
	s := r.subscribe(t, broker.SubscriptionConfig{AckWait: time.Minute})
	ctx, cancel := context.WithCancel(r.ctx)
	ended := make(chan error)
	go func() {
		_, err := s.Fetch(ctx, 10)
		ended <- err
	}()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Fetch: %v", err)
	}
	r.send(t, "a", 0, 3)
	if got := r.take(t, s, 3); len(got) != 3 {
		t.Errorf("%d came", len(got))
	}
}

func (r *receiving) backlog(t *testing.T) {
	r.send(t, "a", 0, 5)
	s := r.subscribe(t, broker.SubscriptionConfig{AckWait: time.Minute})
	fatal(t, r.take(t, s, 2)[0].Ack())
	fatal(t, s.Flush(r.ctx))
	for { // the broker may note it a little later
		if b, err := s.Backlog(r.ctx); err != nil || b.Unsettled == 1 && b.Waiting == 3 {
			fatal(t, err)
			return
		}
	}
}

func (r *receiving) deleted(t *testing.T) {
	if _, err := r.b.Subscribe(r.ctx, broker.SubscriptionConfig{Stream: r.name + "x", Name: "worker"}); !errors.Is(err, broker.ErrNotFound) {
		t.Errorf("no such stream: %v", err)
	}
	s := r.subscribe(t, broker.SubscriptionConfig{})
	r.none(t, s)
	r.remove()
	for {
		if _, err := s.Fetch(r.ctx, 1); errors.Is(err, broker.ErrNotFound) {
			return
		} else if r.ctx.Err() != nil {
			t.Fatalf("Fetch: %v", err)
		}
	}
}

func (r *receiving) closed(t *testing.T) {
	s := r.subscribe(t, broker.SubscriptionConfig{})
	r.closeIt()
	if _, err := s.Fetch(r.ctx, 1); !errors.Is(err, broker.ErrClosed) {
		t.Errorf("Fetch: %v", err)
	}
	if _, err := r.b.Subscribe(r.ctx, broker.SubscriptionConfig{Stream: r.name, Name: "worker"}); !errors.Is(err, broker.ErrClosed) {
		t.Errorf("Subscribe: %v", err)
	}
}

func (r *receiving) archive(t *testing.T) {
	r.send(t, "a", 0, 2)
	r.send(t, "b", 2, 3)
	first, last, err := r.b.Range(r.ctx, r.name)
	if err != nil || last-first != 2 {
		t.Errorf("Range: %d to %d, %v", first, last, err)
	}
	keeps, err := r.b.Keeps(r.ctx, r.name)
	if err != nil || !keeps {
		t.Errorf("Keeps: %t, %v", keeps, err)
	}
	m, err := r.b.First(r.ctx, r.name, r.name+".b", first)
	if err != nil || string(m.Data) != "2" || m.Sequence != last || m.ID != "id-2" {
		t.Errorf("First: %+v, %v", m, err)
	}
	for range 2 {
		fatal(t, r.b.Remove(r.ctx, r.name, first))
	}
	if m, err := r.b.First(r.ctx, r.name, r.name+".>", first); err != nil || m.Sequence != first+1 {
		t.Errorf("First after Remove: %+v, %v", m, err)
	}
	for name, err := range map[string]error{
		"no message behind": second(r.b.First(r.ctx, r.name, ">", last+1)),
		"no stream":         second(r.b.First(r.ctx, r.name+"x", ">", 1)),
		"no stream to keep": second(r.b.Keeps(r.ctx, r.name+"x")),
	} {
		if !errors.Is(err, broker.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func fatal(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
