package message_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mysqldriver "github.com/go-sql-driver/mysql"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// publishIn publishes messages in a local transaction of their own.
func (b *bench) publishIn(p *message.Publisher, messages ...message.Publish) {
	b.t.Helper()
	sagatest.Must(b.t, b.outbox.Transaction(func(tx *gorm.DB) error { return p.PublishIn(b.t.Context(), tx, messages...) }))
}

// drained waits until nothing waits to be published.
func (b *bench) drained() {
	b.t.Helper()
	sagatest.Eventually(b.t, "nothing is left to publish", func() bool { return b.delayed() == 0 })
}

// The messages and a row of the caller's own are there together, or not at all.
func TestPublishIn(t *testing.T) {
	outboxes(t, func(t *testing.T, b *bench) {
		sqltest.Exec(t, b.outbox, "DROP TABLE IF EXISTS orders")
		sqltest.Exec(t, b.outbox, "CREATE TABLE orders (id VARCHAR(64) PRIMARY KEY)")
		errBack := errors.New("the caller rolls back")
		place := func(id string, end error, messages ...message.Publish) {
			t.Helper()
			err := b.outbox.Transaction(func(tx *gorm.DB) error {
				if err := tx.Exec("INSERT INTO orders VALUES (?)", id).Error; err != nil {
					return err
				}
				return errors.Join(b.publisher.PublishIn(t.Context(), tx, messages...), end)
			})
			if !errors.Is(err, end) {
				t.Fatal(err)
			}
		}
		place("1", errBack, b.publish("placed", "rolled back"), b.publish("paid", "rolled back"))
		data := []byte("first")
		sagatest.Must(t, b.outbox.Transaction(func(tx *gorm.DB) error {
			err := b.publisher.PublishIn(t.Context(), tx, message.Publish{Subject: b.name + ".placed", Data: data, Headers: map[string][]string{"X-Tag": {"one", "two"}}})
			copy(data, "later") // the caller may use it again
			return err
		}))
		b.drained()
		place("2", nil)
		place("3", nil, b.publish("many", "1"), b.publish("many", "2"), b.publish("paid", ""), b.publish("many", "3"))
		b.drained()
		if got := b.stored("many"); !slices.Equal(got, []string{"1", "2", "3"}) {
			t.Errorf("stored %q", got)
		}
		b.holds(b.name, 5)
		msg := read(t, b.js, b.name, 1)
		if id := msg.Header.Get(message.HeaderID); string(msg.Data) != "first" || len(id) < 26 || !slices.Equal(msg.Header.Values("X-Tag"), []string{"one", "two"}) {
			t.Errorf("%v: %s", msg.Header, msg.Data)
		}
		var orders int64
		sagatest.Must(t, b.outbox.Raw("SELECT COUNT(*) FROM orders").Scan(&orders).Error)
		if orders != 2 {
			t.Errorf("%d orders", orders)
		}
	})
}

func TestPublishInSQL(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db)
		pool, err := db.DB()
		sagatest.Must(t, err)
		for _, end := range []string{"commit", "rollback", "commit"} {
			tx, err := pool.BeginTx(t.Context(), nil)
			sagatest.Must(t, err)
			sagatest.Must(t, b.publisher.PublishInSQL(t.Context(), tx, b.publish("a", end), b.publish("b", end)))
			if end == "commit" {
				sagatest.Must(t, tx.Commit())
			} else {
				sagatest.Must(t, tx.Rollback())
			}
		}
		b.drained()
		b.holds(b.name, 4)
	})
}

// What cannot be published is refused at once.
func TestPublishInRefusals(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"))
	other := sqltest.Open(t, "sqlite")
	in := func(db *gorm.DB, messages ...message.Publish) error {
		return db.Transaction(func(tx *gorm.DB) error { return b.publisher.PublishIn(t.Context(), tx, messages...) })
	}
	good := b.publish("a", "1")
	keyed, delayed, kind, big := good, good, good, good
	keyed.Key, delayed.After, kind.Kind, big.Data = "k", -1, "another", make([]byte, 2<<20)
	headers := good
	headers.Headers = map[string][]string{"Tccsaga-Id": {"mine"}}
	for says, err := range map[string]error{
		"not in a local transaction: give":         b.publisher.PublishIn(t.Context(), b.db, good),
		"not in a local transaction":               b.publisher.PublishIn(t.Context(), nil, good),
		"is not in a local transaction":            b.publisher.PublishInSQL(t.Context(), nil, good),
		"of another pool":                          in(other, good),
		"use tcc.ExecuteIn":                        in(b.db, keyed),
		"between 0 and ten years":                  in(b.db, delayed),
		`"another" is of another publisher`:        in(b.db, kind),
		"the broker takes":                         in(b.db, big),
		"is reserved":                              in(b.db, headers),
		"message 2: ":                              in(b.db, good, big),
		"does not carry the subject \"elsewhere\"": in(b.db, message.Publish{Subject: "elsewhere"}),
	} {
		if !errors.Is(err, message.ErrInvalid) || !strings.Contains(err.Error(), says) || !strings.HasPrefix(err.Error(), "message: publish in a local transaction: ") {
			t.Errorf("%v, want %q", err, says)
		}
	}
	sagatest.Must(t, in(b.db)) // nothing to publish
	sagatest.Must(t, b.publisher.Stop(t.Context()))
	if err := in(b.db, good); err == nil || !strings.Contains(err.Error(), "the publisher has stopped") {
		t.Error(err)
	}
	b.holds(b.name, 0)
	if b.delayed() != 0 {
		t.Error("a refused message is in the outbox")
	}
}

// No message is published before the commit, even if the pool reads what is not committed.
func TestPublishInBeforeTheCommit(t *testing.T) {
	t.Parallel()
	database := sqltest.Create(t, "mysql")
	config, err := mysqldriver.ParseDSN(database.DSN)
	sagatest.Must(t, err)
	config.Params = map[string]string{"tx_isolation": "'READ-UNCOMMITTED'"}
	database.DSN = config.FormatDSN()
	db := sqltest.Connect(t, database, &gorm.Config{})
	sagatest.Must(t, schema.Migrate(t.Context(), db))
	b := newBench(t, db)
	open := db.Begin()
	sagatest.Must(t, b.publisher.PublishIn(t.Context(), open, b.publish("a", "open")))
	for i := range 20 { // each is found by a look after the one before
		b.publishIn(b.publisher, b.publish("b", fmt.Sprint(i)))
		sagatest.Eventually(t, "it is published", func() bool { return len(b.stored("b")) == i+1 })
	}
	if got := b.stored("a"); len(got) != 0 {
		t.Errorf("stored %q", got)
	}
	sagatest.Must(t, open.Rollback().Error)
	b.drained()
	b.holds(b.name, 20)
}

// Delayed messages wait until they are due, and do not hold up the others of the call.
func TestPublishInDelayed(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db)
		later := b.publish("a", "later")
		later.After = 240 * time.Hour
		b.publishIn(b.publisher, b.publish("a", "1"), later, b.publish("a", "2"))
		sagatest.Eventually(t, "one is left", func() bool { return b.delayed() == 1 })
		if got := b.stored("a"); !slices.Equal(got, []string{"1", "2"}) {
			t.Errorf("stored %q", got)
		}
		past, _ := longAgo(db)
		sqltest.Exec(t, db, "UPDATE saga_outbox_delayed SET due_at = "+past)
		b.drained()
		if got := b.stored("a"); !slices.Equal(got, []string{"1", "2", "later"}) {
			t.Errorf("stored %q", got)
		}
	})
}

// Many callers of two Publishers, each with its own pool: every message of a commit is
// stored once, in the order of its call, and none of a rollback.
func TestPublishInOfTwoInstances(t *testing.T) {
	for _, dialect := range sqltest.Dialects {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			database := sqltest.Create(t, dialect)
			db := sqltest.Connect(t, database, &gorm.Config{})
			sagatest.Must(t, schema.Migrate(t.Context(), db))
			b := newBench(t, db)
			db2 := sqltest.Connect(t, database, &gorm.Config{})
			second, err := message.NewPublisher(t.Context(), db2, wrap(connect(t)), message.Config{Stream: b.name, Subjects: []string{b.name + ".>"}})
			sagatest.Must(t, err)
			stopAtEnd(t, second)
			errBack := errors.New("the caller rolls back")
			const callers, calls = 8, 25
			var all sync.WaitGroup
			for c := range callers {
				publisher := map[bool]*message.Publisher{true: b.publisher, false: second}[c%2 == 0]
				all.Go(func() {
					for i := range calls {
						subject := fmt.Sprintf("c%d.%d", c, i)
						err := publisher.Database().Transaction(func(tx *gorm.DB) error {
							if err := publisher.PublishIn(t.Context(), tx, b.publish(subject, "1"), b.publish(subject, "2")); err != nil {
								return err
							}
							if i%5 == 0 {
								return errBack
							}
							return nil
						})
						if err != nil && !errors.Is(err, errBack) {
							t.Error(err)
						}
					}
				})
			}
			all.Wait()
			b.drained()
			b.holds(b.name, callers*calls*4/5*2)
			for c := range callers {
				for i := range calls {
					want := []string{"1", "2"}
					if i%5 == 0 {
						want = nil
					}
					if got := b.stored(fmt.Sprintf("c%d.%d", c, i)); i < 7 && !slices.Equal(got, want) {
						t.Errorf("call %d of caller %d has stored %q", i, c, got)
					}
				}
			}
		})
	}
}

// A handler publishes in its own local transaction: for each message that is handled, not for
// a failed attempt.
func TestPublishInOfAHandler(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db)
		var mu sync.Mutex
		attempts := map[string]int{}
		b.send("in.1", "1", nil)
		b.send("in.2", "2", nil)
		b.consume(message.ConsumerConfig{Subjects: []string{b.name + ".in.>"}}, func(ctx context.Context, tx *gorm.DB, m message.Received) error {
			if err := b.publisher.PublishIn(ctx, tx, b.publish("out", string(m.Data))); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if attempts[m.ID]++; attempts[m.ID] == 1 {
				return errors.New("the first attempt fails")
			}
			return nil
		})
		sagatest.Eventually(t, "both are handled and published", func() bool { return len(b.stored("out")) >= 2 })
		b.drained()
		got := b.stored("out")
		slices.Sort(got)
		mu.Lock()
		defer mu.Unlock()
		if !slices.Equal(got, []string{"1", "2"}) || !slices.Equal(slices.Collect(maps.Values(attempts)), []int{2, 2}) {
			t.Errorf("stored %q, attempts %v", got, attempts)
		}
	})
}
