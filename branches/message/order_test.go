package message_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// stored returns the data of all messages on a subject of the bench's stream, in
// the order of the stream.
func (b *bench) stored(last string) (data []string) {
	b.t.Helper()
	s, err := b.js.Stream(b.t.Context(), b.name)
	sagatest.Must(b.t, err)
	for next := uint64(1); ; next++ {
		msg, err := s.GetMsg(b.t.Context(), next, jetstream.WithGetMsgSubject(b.name+"."+last))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return data
		}
		sagatest.Must(b.t, err)
		data, next = append(data, string(msg.Data)), msg.Sequence
	}
}

// Messages of one plan on one subject go out in the order of the plan, also with
// many callers at once.
func TestOrderOfThePlan(t *testing.T) {
	outboxes(t, func(t *testing.T, b *bench) {
		const callers, each, parts = 16, 10, 3
		var all sync.WaitGroup
		for range callers {
			all.Go(func() {
				for range each {
					gid := sagatest.GID()
					var plan []tcc.Payload
					for part := range parts {
						plan = append(plan, b.publish("a", fmt.Sprint(gid, " ", part)))
					}
					if _, err := tcc.Execute(t.Context(), b.orch, gid, plan...); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		next := map[string]int{}
		for _, data := range b.stored("a") {
			var gid string
			var part int
			_, err := fmt.Sscan(data, &gid, &part)
			sagatest.Must(t, err)
			if part != next[gid] {
				t.Errorf("message %d of %s came as number %d", part, gid, next[gid])
			}
			next[gid]++
		}
		if len(next) != callers*each {
			t.Errorf("messages of %d transactions", len(next))
		}
		b.holds(b.name, callers*each*parts)
	})
}

// withKey asks for a message with an ordering key.
func (b *bench) withKey(key, data string) message.Publish {
	in := b.publish("k", data)
	in.Key = key
	return in
}

// Messages of one key go out in the order in which their transactions were
// decided, not in that of their Trys.
func TestOrderOfTheDecisions(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		for name, outage := range map[string]bool{"at once": false, "after an outage": true} {
			t.Run(name, func(t *testing.T) {
				broker := newBroker(t)
				b := newBenchOn(t, db, db, connectTo(t, broker.server.ClientURL()))
				var open []*tcc.Transaction
				for i := range 5 {
					tx, err := tcc.Begin(t.Context(), b.orch, sagatest.GID())
					sagatest.Must(t, err)
					sagatest.Must(t, tx.Try(t.Context(), b.withKey("order-1", fmt.Sprint(i))))
					open = append(open, tx)
				}
				if outage {
					broker.stop()
				}
				for _, i := range []int{3, 1, 4, 0} {
					_, err := open[i].Confirm(t.Context())
					sagatest.Must(t, err)
				}
				_, err := open[2].Cancel(t.Context(), "on purpose")
				sagatest.Must(t, err)
				if outage {
					broker.start()
				}
				for _, i := range []int{3, 1, 4, 0} {
					b.reaches(open[i].GID(), saga.Confirmed)
				}
				if got := b.stored("k"); strings.Join(got, " ") != "3 1 4 0" {
					t.Errorf("stored %v", got)
				}
				var left int
				sagatest.Must(t, db.Raw("SELECT COUNT(*) FROM saga_outbox_order").Scan(&left).Error)
				if left != 0 {
					t.Errorf("%d messages still wait for each other", left)
				}
			})
		}
	})
}

// The order of a key is that of the decisions also after an outage of the broker
// in which thousands of attempts fail, with two instances, one of which goes.
func TestOrderAcrossAnOutage(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		broker := newBroker(t)
		b := newBenchOn(t, db, db, connectTo(t, broker.server.ClientURL()))
		other, stop := b.another(connectTo(t, broker.server.ClientURL()))
		const keys, each = 4, 20
		send := func(from, to int) {
			var all sync.WaitGroup
			for key := range keys {
				all.Go(func() {
					for i := from; i < to; i++ {
						// One caller for each key, by turns at both instances.
						orch := []*embedded.Engine{b.orch, other}[i%2]
						_, err := tcc.Execute(t.Context(), orch, sagatest.GID(), b.withKey(fmt.Sprint("key-", key), fmt.Sprint(key, " ", i)))
						if err != nil {
							t.Error(err)
						}
					}
				})
			}
			all.Wait()
		}
		send(0, each)
		broker.stop()
		send(each, 2*each)
		stop()
		other = b.orch
		broker.start()
		send(2*each, 3*each)
		sagatest.Eventually(t, "all are finished", func() bool {
			left, err := b.orch.List(t.Context(), saga.Filter{Unfinished: true})
			return err == nil && len(left) == 0
		})
		next := make([]int, keys)
		for _, data := range b.stored("k") {
			var key, i int
			_, err := fmt.Sscan(data, &key, &i)
			sagatest.Must(t, err)
			if next[key] != i {
				t.Fatalf("key %d: message %d came as number %d", key, i, next[key])
			}
			next[key]++
		}
		b.holds(b.name, keys*each*3)
	})
}

// another opens a second instance on the bench's database.
func (b *bench) another(js jetstream.JetStream) (orch *embedded.Engine, stop func()) {
	b.t.Helper()
	orch = sagatest.Open(b.t, b.db, embedded.Config{Lease: time.Second})
	publisher, err := message.NewPublisher(b.t.Context(), b.outbox, wrap(js), message.Config{Stream: b.name, Subjects: []string{b.name + ".>"}, Logger: quiet})
	sagatest.Must(b.t, err)
	sagatest.Must(b.t, tcc.Register(orch, publisher))
	ended := make(chan error, 1)
	go func() { ended <- orch.Run(context.WithoutCancel(b.t.Context())) }()
	return orch, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := errors.Join(orch.Stop(ctx), publisher.Stop(ctx), <-ended); err != nil {
			b.t.Error(err)
		}
	}
}

// A message waits for the earlier one of its key that cannot be published, and
// says for which.
func TestBehindAMessageThatFails(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db)
		first, err := tcc.Begin(t.Context(), b.orch, sagatest.GID())
		sagatest.Must(t, err)
		sagatest.Must(t, first.Try(t.Context(), b.withKey("x", "1")))
		sqltest.Exec(t, db, "UPDATE saga_outbox SET subject = 'unheard.of' WHERE gid = ?", first.GID())
		outcome, err := first.Confirm(t.Context())
		if err != nil || outcome.State != saga.Confirming {
			t.Fatalf("%+v, %v", outcome, err)
		}
		second := sagatest.GID()
		outcome, err = tcc.Execute(t.Context(), b.orch, second, b.withKey("x", "2"))
		if err != nil || outcome.State != saga.Confirming {
			t.Fatalf("%+v, %v", outcome, err)
		}
		b.execute(b.withKey("y", "3")) // another key goes on
		found, err := b.orch.Lookup(t.Context(), second)
		sagatest.Must(t, err)
		if attempts := found.Branches[0].Attempts; len(attempts) == 0 || !strings.Contains(attempts[0].Error, "the earlier message "+first.GID()+"/01/") {
			t.Errorf("attempts %+v", attempts)
		}
		sqltest.Exec(t, db, "UPDATE saga_outbox SET subject = ? WHERE gid = ?", b.name+".k", first.GID())
		b.reaches(second, saga.Confirmed)
		b.reaches(first.GID(), saga.Confirmed)
		if got := b.stored("k"); !slices.Equal(got, []string{"3", "1", "2"}) {
			t.Errorf("stored %v", got)
		}
	})
}

// A key needs the outbox where the decisions are.
func TestKeyNeedsTheEnginesDatabase(t *testing.T) {
	t.Parallel()
	b := newBenchOn(t, sqltest.Open(t, "sqlite"), sqltest.Open(t, "sqlite"), connect(t))
	_, err := tcc.Execute(t.Context(), b.orch, sagatest.GID(), b.withKey("x", "1"))
	if !errors.Is(err, saga.ErrCancelled) || !strings.Contains(err.Error(), "give NewPublisher the engine's database") {
		t.Error(err)
	}
}
