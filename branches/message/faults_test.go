package message_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
	seam "github.com/tccsaga/tccsaga/branches/message/broker"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// One durable name on two streams with equal ids: each message is handled.
func TestEqualIDsOfTwoStreams(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		one, two := newBench(t, db), newBench(t, sqltest.Open(t, "sqlite"))
		two.db = db
		one.effects()
		for _, b := range []*bench{one, two} {
			b.consume(message.ConsumerConfig{}, func(_ context.Context, tx *gorm.DB, m message.Received) error { return effect(tx, m.Stream, m.ID) })
			b.send("a", "x", nats.Header{message.HeaderID: {"m"}})
		}
		for _, b := range []*bench{one, two} {
			b.settled("worker")
			one.had(b.name, "m", 1)
		}
	})
}

// A stream that is deleted and made again repeats its sequences; its messages are
// others. The consumer takes them, without being started again.
func TestStreamMadeAgain(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db)
		var seen journal
		c := b.consume(message.ConsumerConfig{}, func(_ context.Context, _ *gorm.DB, m message.Received) error {
			seen.note(m)
			return nil
		})
		b.send("a", "old", nil)
		b.send("a", "named", nats.Header{message.HeaderID: {"m"}})
		seen.reaches(t, 2)
		sagatest.Must(t, b.js.DeleteStream(t.Context(), b.name))
		sagatest.Eventually(t, "the consumer says that it waits", func() bool {
			s := c.State(t.Context())
			return s.Status == message.WaitingForBroker && errors.Is(s.LastError, seam.ErrNotFound)
		})
		_, err := b.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: b.name, Subjects: []string{b.name + ".>"}})
		sagatest.Must(t, err)
		b.send("a", "new", nil)
		b.send("a", "named", nats.Header{message.HeaderID: {"m"}}) // the same message, published again
		entries := seen.reaches(t, 3)
		b.settled("worker")
		if m := entries[2]; string(m.Data) != "new" || m.Sequence != 1 || len(seen.all()) != 3 {
			t.Errorf("handled %+v", seen.all())
		}
		if s := c.State(t.Context()); s.Status != message.Running || s.Lag != 0 || s.Handled != 3 {
			t.Errorf("the state is %+v", s)
		}
	})
}

// The consumer ends where it cannot go on, and says so.
func TestConnectionClosedForGood(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"))
	js := connect(t)
	c, err := message.Consume(t.Context(), b.db, wrap(js), message.ConsumerConfig{Stream: b.name, Name: "worker", Logger: quiet},
		func(context.Context, *gorm.DB, message.Received) error { return nil })
	sagatest.Must(t, err)
	if err := c.Err(); err != nil {
		t.Errorf("while it runs: %v", err)
	}
	js.Conn().Close()
	<-c.Done()
	if err := c.Err(); !errors.Is(err, seam.ErrClosed) {
		t.Errorf("Err: %v", err)
	}
	if s := c.State(t.Context()); s.Status != message.Stopped || s.LastError == nil {
		t.Errorf("the state is %+v", s)
	}
	sagatest.Must(t, c.Stop(t.Context()))
}

// A handler that ends its goroutine has failed, and nothing more.
func TestHandlerEndsItsGoroutine(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db)
		b.effects()
		b.consume(message.ConsumerConfig{}, func(_ context.Context, tx *gorm.DB, m message.Received) error {
			if err := effect(tx, "worker", m.ID); err != nil {
				return err
			}
			if m.Attempt == 1 {
				runtime.Goexit()
			}
			return nil
		})
		b.send("a", "x", nats.Header{message.HeaderID: {"m"}})
		b.settled("worker")
		b.had("worker", "m", 1)
	})
}

// A database without the schema is refused at the start, and no message is touched.
func TestNoSchema(t *testing.T) {
	t.Parallel()
	for _, dialect := range sqltest.Dialects {
		b := newBench(t, sqltest.Open(t, "sqlite"))
		bare := sqltest.Connect(t, sqltest.Create(t, dialect), &gorm.Config{})
		_, err := message.Consume(t.Context(), bare, wrap(b.js), message.ConsumerConfig{Stream: b.name, Name: "worker"},
			func(context.Context, *gorm.DB, message.Received) error { return nil })
		if !errors.Is(err, schema.ErrNotMigrated) {
			t.Errorf("%s: %v", dialect, err)
		}
		if _, err := b.js.Consumer(t.Context(), b.name, "worker"); !errors.Is(err, jetstream.ErrConsumerNotFound) {
			t.Errorf("%s: the consumer was made: %v", dialect, err)
		}
	}
}

// While the database is away under load, no message spends an attempt, none is
// asked for, and all are handled once when it is back.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	direct, db, p := throughProxy(t)
	b := newBenchOn(t, sqltest.Open(t, "sqlite"), sqltest.Open(t, "sqlite"), connect(t))
	b.db = direct
	b.effects()
	b.db = db
	const messages = 300
	var calls atomic.Int64
	started := make(chan struct{})
	c := b.consume(message.ConsumerConfig{Workers: 4, Attempts: 2}, func(_ context.Context, tx *gorm.DB, m message.Received) error {
		if calls.Add(1) == 20 {
			close(started)
		}
		if err := effect(tx, "worker", m.ID); err != nil {
			return errors.New("could not store it") // and not the driver's error
		}
		return nil
	})
	go func() {
		for i := range messages {
			b.send("a", "x", nats.Header{message.HeaderID: {fmt.Sprint("m", i)}})
		}
	}()
	<-started
	p.set(true)
	sagatest.Eventually(t, "the consumer waits for the database", func() bool { return c.State(t.Context()).Status == message.WaitingForDatabase })
	during := calls.Load()
	for range 20 { // it goes on waiting, which takes a while to see
		sagatest.Eventually(t, "another look", func() bool { return c.State(t.Context()).Status == message.WaitingForDatabase })
	}
	if calls.Load() > during+50 {
		t.Errorf("%d calls without a database", calls.Load()-during)
	}
	p.set(false)
	sagatest.Eventually(t, "all are handled", func() bool {
		var n int64
		return direct.Raw("SELECT COUNT(DISTINCT id) FROM effects").Scan(&n).Error == nil && n == messages
	})
	b.settled("worker")
	var n, attempts int64
	sagatest.Must(t, direct.Raw("SELECT COUNT(*) FROM effects").Scan(&n).Error)
	sagatest.Must(t, direct.Raw("SELECT COALESCE(SUM(attempts), 0) FROM saga_inbox").Scan(&attempts).Error)
	if n != messages || attempts != 0 || count(t, b.js, b.name+"_dead") != 0 {
		t.Errorf("%d effects, %d attempts, %d dead letters", n, attempts, count(t, b.js, b.name+"_dead"))
	}
	if s := c.State(t.Context()); s.Failed != 0 || s.Buried != 0 || s.Status != message.Running {
		t.Errorf("the state is %+v", s)
	}
}

// A database that hangs lets the time of handlers run out, which spends no attempt.
func TestDatabaseHangs(t *testing.T) {
	t.Parallel()
	direct, db, p := throughProxy(t)
	b := newBenchOn(t, sqltest.Open(t, "sqlite"), sqltest.Open(t, "sqlite"), connect(t))
	b.db = direct
	b.effects()
	b.db = db
	var once sync.Once
	c := b.consume(message.ConsumerConfig{Attempts: 1, Timeout: 500 * time.Millisecond}, func(_ context.Context, tx *gorm.DB, m message.Received) error {
		once.Do(p.gate.Lock)
		if err := effect(tx, "worker", m.ID); err != nil {
			return errors.New("could not store it")
		}
		return nil
	})
	for i := range 3 {
		b.send("a", "x", nats.Header{message.HeaderID: {fmt.Sprint("m", i)}})
	}
	// Once the consumer has noted why it goes no further, it is too late to count.
	sagatest.Eventually(t, "the time of the handler is over", func() bool { return c.State(t.Context()).LastError != nil })
	p.gate.Unlock()
	b.settled("worker")
	b.db = direct
	for i := range 3 {
		b.had("worker", fmt.Sprint("m", i), 1)
	}
	if s := c.State(t.Context()); s.Failed != 0 || s.Buried != 0 {
		t.Errorf("the state is %+v", s)
	}
}

// COMMIT without an answer: the message is handled once, and spends no attempt.
func TestCommitUnknown(t *testing.T) {
	t.Parallel()
	for _, committed := range []bool{true, false} {
		db, loss := sqltest.OpenLossy(t)
		b := newBenchOn(t, sqltest.Open(t, "sqlite"), sqltest.Open(t, "sqlite"), connect(t))
		b.db = db
		b.effects()
		var once sync.Once
		c := b.consume(message.ConsumerConfig{Attempts: 1}, func(_ context.Context, tx *gorm.DB, m message.Received) error {
			once.Do(func() { loss.Arm(1, committed) })
			return effect(tx, "worker", m.ID)
		})
		b.send("a", "x", nats.Header{message.HeaderID: {"m"}})
		b.settled("worker")
		b.had("worker", "m", 1)
		if s := c.State(t.Context()); loss.Count() != 1 || s.Buried != 0 || s.Failed != 0 {
			t.Errorf("committed %t: %d lost, %+v", committed, loss.Count(), s)
		}
	}
}

// A handler that keeps a deadlock to itself is run again on MySQL, and its message
// is never acknowledged without its work.
func TestSwallowedDeadlock(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "mysql")
	b := newBench(t, db)
	b.effects()
	sqltest.Exec(t, db, "CREATE TABLE things (id INT PRIMARY KEY, n INT NOT NULL)")
	sqltest.Exec(t, db, "INSERT INTO things VALUES (1, 0), (2, 0)")
	var runs atomic.Int64
	b.consume(message.ConsumerConfig{}, func(_ context.Context, tx *gorm.DB, m message.Received) error {
		if err := effect(tx, "worker", m.ID); err != nil {
			return err
		}
		if runs.Add(1) == 1 {
			loseDeadlock(t, db, tx)
		}
		_ = effect(tx, "late", m.ID)
		return nil
	})
	b.send("a", "x", nats.Header{message.HeaderID: {"m"}})
	b.settled("worker")
	b.had("worker", "m", 1)
	b.had("late", "m", 1)
	if runs.Load() != 2 {
		t.Errorf("%d runs", runs.Load())
	}
}

// loseDeadlock lets tx lose a deadlock, and keeps the error to itself.
func loseDeadlock(t *testing.T, db, tx *gorm.DB) {
	t.Helper()
	sagatest.Must(t, tx.Exec("UPDATE things SET n = n + 1 WHERE id = 1").Error)
	other := db.Begin()
	defer other.Rollback()
	for i := range 20 { // it has done more, and so MySQL lets it win
		sagatest.Must(t, other.Exec("INSERT INTO things VALUES (?, 0)", 100+i).Error)
	}
	sagatest.Must(t, other.Exec("UPDATE things SET n = n + 1 WHERE id = 2").Error)
	met := make(chan error, 1)
	go func() { met <- other.Exec("UPDATE things SET n = n + 1 WHERE id = 1").Error }()
	if err := tx.Exec("UPDATE things SET n = n + 1 WHERE id = 2").Error; err == nil {
		t.Error("there was no deadlock")
	}
	<-met
}

// A message whose handler ends the process is put aside after its attempts; those
// that waited behind it spend none.
func TestHandlerKillsTheProcess(t *testing.T) {
	if stream := os.Getenv("TCCSAGA_KILLED_STREAM"); stream != "" {
		killedProcess(t, stream)
		return
	}
	t.Parallel()
	for _, dialect := range sqltest.Dialects {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			database := sqltest.Create(t, dialect)
			db := sqltest.Connect(t, database, &gorm.Config{})
			sagatest.Must(t, schema.Migrate(t.Context(), db))
			b := newBenchOn(t, sqltest.Open(t, "sqlite"), sqltest.Open(t, "sqlite"), connect(t))
			b.db = db
			for i := range 5 {
				b.send("a", "good", nats.Header{message.HeaderID: {fmt.Sprint("good", i)}})
			}
			b.send("a", "kill", nats.Header{message.HeaderID: {"bad"}})
			for i := range 5 {
				b.send("a", "good", nats.Header{message.HeaderID: {fmt.Sprint("good", 5+i)}})
			}
			calls := filepath.Join(t.TempDir(), "calls")
			for run := 1; ; run++ {
				command := child(t, "-test.run=^TestHandlerKillsTheProcess$", "TCCSAGA_KILLED_STREAM="+b.name, "TCCSAGA_KILLED_CALLS="+calls,
					"TCCSAGA_KILLED_DIALECT="+dialect, "TCCSAGA_KILLED_DSN="+database.DSN)
				out, err := command.CombinedOutput()
				if err == nil {
					break
				}
				if command.ProcessState.ExitCode() != 7 || run > 3 {
					t.Fatalf("run %d: %v\n%s", run, err, out)
				}
			}
			text, err := os.ReadFile(calls)
			sagatest.Must(t, err)
			if n := strings.Count(string(text), "bad"); n != 3 {
				t.Errorf("handled %d times", n)
			}
			letters := b.buried(message.LetterFilter{})
			if len(letters) != 1 || letters[0].Message.ID != "bad" || letters[0].Attempts != 3 || !strings.Contains(letters[0].Reason, "process ended") {
				t.Errorf("letters %+v", letters)
			}
			var attempts, handled int64
			sagatest.Must(t, db.Raw("SELECT COALESCE(SUM(attempts), 0) FROM saga_inbox WHERE message_id <> 'bad'").Scan(&attempts).Error)
			sagatest.Must(t, db.Raw("SELECT COUNT(*) FROM saga_inbox WHERE handled_at IS NOT NULL").Scan(&handled).Error)
			if attempts != 0 || handled != 10 {
				t.Errorf("%d attempts of others, %d handled", attempts, handled)
			}
		})
	}
}

func child(t *testing.T, run string, environment ...string) *osexec.Cmd {
	t.Helper()
	self, err := os.Executable()
	sagatest.Must(t, err)
	command := osexec.CommandContext(t.Context(), self, run, "-test.timeout=60s")
	command.Env = append(os.Environ(), environment...)
	return command
}

func killedProcess(t *testing.T, stream string) {
	db := sqltest.Connect(t, sqltest.Database{Dialect: os.Getenv("TCCSAGA_KILLED_DIALECT"), DSN: os.Getenv("TCCSAGA_KILLED_DSN")}, &gorm.Config{})
	js := connect(t)
	c, err := message.Consume(t.Context(), db, wrap(js), message.ConsumerConfig{Stream: stream, Name: "worker", Attempts: 3, AckWait: time.Second, Logger: quiet},
		func(_ context.Context, _ *gorm.DB, m message.Received) error {
			if m.ID != "bad" {
				return nil
			}
			f, err := os.OpenFile(os.Getenv("TCCSAGA_KILLED_CALLS"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
			if err != nil {
				return err
			}
			fmt.Fprintln(f, m.ID)
			f.Close()
			os.Exit(7)
			return nil
		})
	sagatest.Must(t, err)
	sagatest.Eventually(t, "all is settled", func() bool {
		info, err := js.Consumer(t.Context(), stream, "worker")
		return err == nil && info.CachedInfo().AckFloor.Stream == 11
	})
	sagatest.Must(t, c.Stop(t.Context()))
}
