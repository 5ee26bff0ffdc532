package action_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/action"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// victim is what a process executes that is killed in the second step.
type victim struct {
	Database sqltest.Database
	Attempts int
}

const victimVariable = "TCCSAGA_TEST_VICTIM"

// slow is an external action that does not return in the process that is killed.
type slow struct {
	*journal
	hangs bool
}

func (s slow) Do(ctx context.Context, _ ask) (done1, error) {
	if s.hangs {
		select {}
	}
	s.note(ctx, "do", "b", "")
	return made("b", 1), nil
}

func (s slow) Compensate(ctx context.Context, _ ask, done *done1) error {
	if done != nil {
		panic("it has a result")
	}
	s.note(ctx, "undo", "b", "nil")
	return nil
}

// killed is the configuration of both processes.
var killed = embedded.Config{Lease: time.Second, CallTimeout: 1500 * time.Millisecond, Retention: embedded.Forever}

// A process is killed in an action. With backward recovery, another one compensates: first the
// action that may have had an effect, then the one before it. With forward recovery, it continues
// with both.
func TestProcessKilledInAnAction(t *testing.T) {
	if text, is := os.LookupEnv(victimVariable); is {
		beKilled(t, text)
	}
	t.Parallel()
	for _, dialect := range []string{"mysql", "postgres"} {
		for name, attempts := range map[string]int{"backward": 0, "forward": saga.Unlimited} {
			t.Run(dialect+", "+name, func(t *testing.T) {
				t.Parallel()
				database := sqltest.Create(t, dialect)
				db := sqltest.Connect(t, database, &gorm.Config{})
				sagatest.Must(t, schema.Migrate(t.Context(), db))
				b := newBench(t, db, killed)
				b.journal.seq = 1000 // after the effects of the other process
				sagatest.Must(t, action.RegisterExternal(b.engine, slow{b.journal, false}))
				text, err := json.Marshal(victim{database, attempts})
				sagatest.Must(t, err)
				process := exec.Command(os.Args[0], "-test.run=^TestProcessKilledInAnAction$")
				process.Env = append(os.Environ(), victimVariable+"="+string(text))
				sagatest.Must(t, process.Start())
				t.Cleanup(func() { process.Process.Kill() })
				sagatest.Eventually(t, "the second action is under way", func() bool {
					var n int
					sagatest.Must(t, db.Raw("SELECT COUNT(*) FROM saga_barrier WHERE branch_id = '02' AND call_op = 'try'").Scan(&n).Error)
					return n == 1
				})
				sagatest.Must(t, process.Process.Kill())
				process.Wait()
				if attempts != 0 {
					b.reaches("g", saga.Confirmed)
					b.did("do a, do b, do c")
					b.knew("do c", "01=a1 02=b1")
					return
				}
				b.reaches("g", saga.Cancelled)
				b.did("do a, undo b, undo b, undo a") // twice, because the request may arrive late
			})
		}
	}
}

// beKilled executes a saga, and never comes back.
func beKilled(t *testing.T, text string) {
	var v victim
	sagatest.Must(t, json.Unmarshal([]byte(text), &v))
	j := newJournal()
	engine := sagatest.Open(t, sqltest.Connect(t, v.Database, &gorm.Config{}), killed)
	sagatest.Must(t, action.Register(engine, local[here]{j, nil, func(in here) string { return in.L }}))
	sagatest.Must(t, action.RegisterExternal(engine, slow{j, true}))
	sagatest.Run(t, engine)
	options := saga.Options{TryAttempts: v.Attempts, Timeout: time.Minute}
	_, err := action.NewSaga("g").Step(here{"a"}).Step(ask{}).Step(here{"c"}).ExecuteWith(t.Context(), engine, options)
	t.Fatalf("not killed: %v", err)
}
