package message_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
	seam "github.com/tccsaga/tccsaga/branches/message/broker"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// around is a real broker with a call around each publish.
type around struct {
	seam.Publisher
	publish func(stream seam.Stream, ctx context.Context, messages []seam.Message) []seam.Result
}

func (a around) OpenStream(ctx context.Context, config seam.StreamConfig) (seam.Stream, error) {
	s, err := a.Publisher.OpenStream(ctx, config)
	return aroundStream{s, a.publish}, err
}

type aroundStream struct {
	seam.Stream
	publish func(stream seam.Stream, ctx context.Context, messages []seam.Message) []seam.Result
}

func (a aroundStream) Publish(ctx context.Context, messages []seam.Message) []seam.Result {
	return a.publish(a.Stream, ctx, messages)
}

// on returns a publisher of the bench's stream.
func (b *bench) on(db *gorm.DB, broker seam.Publisher) *message.Publisher {
	b.t.Helper()
	p, err := message.NewPublisher(b.t.Context(), db, broker, message.Config{Stream: b.name, Subjects: []string{b.name + ".>"}, Logger: quiet})
	sagatest.Must(b.t, err)
	stopAtEnd(b.t, p)
	return p
}

// releaseClaims ends the claims of a process that is gone.
func (b *bench) releaseClaims() {
	b.t.Helper()
	past, _ := longAgo(b.outbox)
	sqltest.Exec(b.t, b.outbox, "UPDATE saga_outbox_delayed SET claimed_until = "+past)
}

// The process dies between the commit and the publishing, or between the publishing and the
// removal of the rows. Another one publishes the messages, with the same ids, in their order.
func TestPublishInOfADeadProcess(t *testing.T) {
	if stream := os.Getenv("TCCSAGA_KILLED_PUBLISHER"); stream != "" {
		killedPublisher(t, stream)
		return
	}
	t.Parallel()
	for _, dialect := range sqltest.Dialects {
		for _, when := range []string{"before", "after"} {
			t.Run(dialect+"/"+when, func(t *testing.T) {
				t.Parallel()
				database := sqltest.Create(t, dialect)
				db := sqltest.Connect(t, database, &gorm.Config{})
				sagatest.Must(t, schema.Migrate(t.Context(), db))
				b := newBenchOn(t, sqltest.Open(t, "sqlite"), sqltest.Open(t, "sqlite"), connect(t))
				b.outbox = db
				out, err := child(t, "-test.run=^TestPublishInOfADeadProcess$", "TCCSAGA_KILLED_PUBLISHER="+b.name, "TCCSAGA_KILLED_WHEN="+when,
					"TCCSAGA_KILLED_DIALECT="+dialect, "TCCSAGA_KILLED_DSN="+database.DSN).CombinedOutput()
				if err == nil || b.delayed() != 3 {
					t.Fatalf("%v, %d are left\n%s", err, b.delayed(), out)
				}
				b.holds(b.name, map[string]uint64{"before": 0, "after": 1}[when])
				var ids []string
				sagatest.Must(t, db.Raw("SELECT message_id FROM saga_outbox_delayed ORDER BY message_id").Scan(&ids).Error)
				b.on(db, wrap(b.js))
				b.releaseClaims()
				b.drained()
				b.holds(b.name, 3)
				for i, id := range ids {
					if msg := read(t, b.js, b.name, uint64(i+1)); msg.Header.Get(message.HeaderID) != id || string(msg.Data) != fmt.Sprint(i+1) {
						t.Errorf("message %d: %v %s, want %s", i+1, msg.Header, msg.Data, id)
					}
				}
			})
		}
	}
}

func killedPublisher(t *testing.T, stream string) {
	db := sqltest.Connect(t, sqltest.Database{Dialect: os.Getenv("TCCSAGA_KILLED_DIALECT"), DSN: os.Getenv("TCCSAGA_KILLED_DSN")}, &gorm.Config{})
	b := &bench{t: t, outbox: db, name: stream, js: connect(t)}
	p := b.on(db, around{wrap(b.js), func(stream seam.Stream, ctx context.Context, messages []seam.Message) []seam.Result {
		if os.Getenv("TCCSAGA_KILLED_WHEN") == "after" {
			stream.Publish(ctx, messages)
		}
		os.Exit(7)
		return nil
	}})
	b.publishIn(p, b.publish("a", "1"), b.publish("a", "2"), b.publish("a", "3"))
	<-t.Context().Done()
}

// Messages outlast an outage of the broker, also those that are written meanwhile.
func TestPublishInInAnOutage(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		broker := newBroker(t)
		b := newBenchOn(t, db, db, connectTo(t, broker.server.ClientURL()))
		broker.stop()
		for i := range 10 { // needs no broker
			b.publishIn(b.publisher, b.publish(fmt.Sprint(i), "1"), b.publish(fmt.Sprint(i), "2"))
		}
		sagatest.Eventually(t, "a failed attempt", func() bool {
			var failures int
			sagatest.Must(t, db.Raw("SELECT COALESCE(MAX(failures), 0) FROM saga_outbox_delayed").Scan(&failures).Error)
			return failures > 0
		})
		broker.start()
		b.drained()
		for i := range 10 {
			if got := b.stored(fmt.Sprint(i)); !slices.Equal(got, []string{"1", "2"}) {
				t.Errorf("stored %q", got)
			}
		}
	})
}

// A message that cannot be published holds up the later ones of its call and subject, and no
// others.
func TestPublishInOrderAfterAFailure(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db)
		sagatest.Must(t, b.publisher.Stop(t.Context()))
		var works atomic.Bool
		p := b.on(db, around{wrap(b.js), func(stream seam.Stream, ctx context.Context, messages []seam.Message) []seam.Result {
			results := make([]seam.Result, len(messages))
			for i, m := range messages {
				if string(m.Data) == "1" && !works.Load() {
					results[i].Err = errors.New("no room")
					continue
				}
				results[i] = stream.Publish(ctx, messages[i:i+1])[0]
			}
			return results
		}})
		b.publishIn(p, b.publish("a", "1"), b.publish("a", "2"), b.publish("b", "free"), b.publish("a", "3"))
		sagatest.Eventually(t, "the relay has failed too", func() bool {
			var failures int
			sagatest.Must(t, db.Raw("SELECT COALESCE(MAX(failures), 0) FROM saga_outbox_delayed").Scan(&failures).Error)
			return failures > 1
		})
		if a, free := b.stored("a"), b.stored("b"); len(a) != 0 || len(free) != 1 || b.delayed() != 3 {
			t.Errorf("stored %q and %q, %d are left", a, free, b.delayed())
		}
		works.Store(true)
		b.drained()
		if got := b.stored("a"); !slices.Equal(got, []string{"1", "2", "3"}) {
			t.Errorf("stored %q", got)
		}
	})
}

// The earlier message of a call is in the hands of another relay: the later ones wait.
func TestPublishInBehindAnotherRelay(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db)
		sagatest.Must(t, b.publisher.Stop(t.Context()))
		dead := b.on(db, around{wrap(b.js), func(_ seam.Stream, _ context.Context, messages []seam.Message) []seam.Result {
			results := make([]seam.Result, len(messages))
			for i := range results {
				results[i].Err = errors.New("no room")
			}
			return results
		}})
		b.publishIn(dead, b.publish("a", "1"), b.publish("a", "2"), b.publish("a", "3"))
		sagatest.Must(t, dead.Stop(t.Context()))
		b.releaseClaims()
		sqltest.Exec(t, db, "UPDATE saga_outbox_delayed SET claimed_by = '' WHERE after_id <> ''")
		sqltest.Exec(t, db, "UPDATE saga_outbox_delayed SET claimed_by = 'another', claimed_until = '2999-01-01 00:00:00' WHERE after_id = ''")
		b.on(db, wrap(b.js))
		sagatest.Eventually(t, "the relay has looked at both and left them", func() bool {
			var n int
			sagatest.Must(t, db.Raw("SELECT COUNT(*) FROM saga_outbox_delayed WHERE after_id <> '' AND claimed_by <> ''").Scan(&n).Error)
			return n == 2
		})
		b.publishIn(b.on(db, wrap(b.js)), b.publish("b", "another call"))
		sagatest.Eventually(t, "another call is published", func() bool { return len(b.stored("b")) == 1 })
		if got := b.stored("a"); len(got) != 0 {
			t.Errorf("stored %q", got)
		}
		b.releaseClaims()
		b.drained()
		if got := b.stored("a"); !slices.Equal(got, []string{"1", "2", "3"}) {
			t.Errorf("stored %q", got)
		}
	})
}

// Stop publishes what is committed, and removes the rows.
func TestPublishInAndStop(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db)
		holding, let := make(chan struct{}, 100), make(chan struct{})
		p := b.on(db, around{wrap(b.js), func(stream seam.Stream, ctx context.Context, messages []seam.Message) []seam.Result {
			holding <- struct{}{}
			<-let
			return stream.Publish(ctx, messages)
		}})
		b.publishIn(p, b.publish("a", "held"))
		<-holding
		for i := range 10 {
			b.publishIn(p, b.publish("b", fmt.Sprint(i, ".1")), b.publish("b", fmt.Sprint(i, ".2")))
		}
		stopped := make(chan error, 1)
		go func() { stopped <- p.Stop(context.Background()) }()
		sagatest.Eventually(t, "it stops", func() bool {
			tx := db.Begin()
			defer tx.Rollback()
			return p.PublishIn(t.Context(), tx, b.publish("c", "refused")) != nil
		})
		close(let)
		sagatest.Must(t, <-stopped)
		b.holds(b.name, 21)
		if n := b.delayed(); n != 0 {
			t.Errorf("%d messages are left", n)
		}
	})
}

// While a Publisher has the claim of its own messages, no other one publishes them.
func TestPublishInClaim(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db) // its relay runs
		holding, let := make(chan struct{}, 10), make(chan struct{})
		p := b.on(db, around{wrap(b.js), func(stream seam.Stream, ctx context.Context, messages []seam.Message) []seam.Result {
			if slices.ContainsFunc(messages, func(m seam.Message) bool { return string(m.Data) == "held" }) {
				holding <- struct{}{}
				<-let
			}
			return stream.Publish(ctx, messages)
		}})
		b.publishIn(p, b.publish("a", "held"))
		<-holding
		in := b.publish("b", "due by the relay")
		in.After = time.Microsecond
		b.publishIn(b.publisher, in)
		sagatest.Eventually(t, "a relay has published", func() bool { return len(b.stored("b")) == 1 })
		var claimant string
		sagatest.Must(t, db.Raw("SELECT claimed_by FROM saga_outbox_delayed WHERE subject = ?", b.name+".a").Scan(&claimant).Error)
		if got := b.stored("a"); len(got) != 0 || claimant != "" {
			t.Errorf("stored %q, claimed by %q", got, claimant)
		}
		close(let)
		b.drained()
		b.holds(b.name, 2)
	})
}

// A relay has claimed a message, because the local transaction has lasted longer than the
// claim of its own Publisher. That one leaves the message alone.
func TestPublishInTakenByAnother(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db)
		sagatest.Must(t, db.Transaction(func(tx *gorm.DB) error {
			return errors.Join(b.publisher.PublishIn(t.Context(), tx, b.publish("a", "taken")),
				tx.Exec("UPDATE saga_outbox_delayed SET claimed_by = 'another', claimed_until = '2999-01-01 00:00:00'").Error)
		}))
		for i := range 5 { // each is found by a look after the one before
			b.publishIn(b.publisher, b.publish("b", fmt.Sprint(i)))
			sagatest.Eventually(t, "it is published", func() bool { return len(b.stored("b")) == i+1 })
		}
		if got := b.stored("a"); len(got) != 0 {
			t.Errorf("stored %q", got)
		}
		b.releaseClaims()
		b.drained()
		b.holds(b.name, 6)
	})
}

// What has no room in memory is published by the relay.
func TestPublishInWithoutRoom(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"))
	var large []message.Publish
	for range 20 {
		large = append(large, b.publish("large", string(make([]byte, 900_000))))
	}
	var unclaimed int
	sagatest.Must(t, b.outbox.Transaction(func(tx *gorm.DB) error {
		return errors.Join(b.publisher.PublishIn(t.Context(), tx, large...), b.publisher.PublishIn(t.Context(), tx, b.publish("small", "1")),
			tx.Raw("SELECT COUNT(*) FROM saga_outbox_delayed WHERE claimed_until IS NULL").Scan(&unclaimed).Error)
	}))
	if unclaimed != 1 {
		t.Errorf("%d are left to the relay, want 1", unclaimed)
	}
	b.drained()
	b.holds(b.name, 21)
}
