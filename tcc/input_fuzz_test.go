package tcc_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// note takes whatever JSON does.
type note struct {
	Text   string
	Number float64
	Bytes  []byte
}

func (note) Branch() string { return "test.note" }

// notes keeps what it was given.
type notes struct{}

func (notes) Try(ctx context.Context, tx *gorm.DB, in note) error {
	return tx.Exec("INSERT INTO notes VALUES (?, ?)", tcc.CallOf(ctx).Key().String(), in.Text).Error
}
func (notes) Confirm(context.Context, *gorm.DB, note) error { return nil }
func (notes) Cancel(context.Context, *gorm.DB, note) error  { return nil }

// openNotes returns an engine that knows notes, without Run.
func openNotes(f *testing.F) (*gorm.DB, *embedded.Engine) {
	db := sqltest.Open(f, "sqlite")
	sqltest.Exec(f, db, "CREATE TABLE notes (id TEXT PRIMARY KEY, text TEXT NOT NULL)")
	orch := sagatest.Open(f, db, embedded.Config{Lease: 24 * time.Hour, MaxPayload: 2000})
	sagatest.Must(f, tcc.Register(orch, notes{}))
	return db, orch
}

// written counts every row of the tables that a transaction writes.
func written(t *testing.T, db *gorm.DB) string {
	t.Helper()
	var counts []string
	for _, table := range []string{"saga_transactions", "saga_branches", "saga_attempts", "saga_barrier", "saga_acts", "saga_kinds", "notes"} {
		var n int
		sagatest.Must(t, db.Raw("SELECT COUNT(*) FROM "+table).Scan(&n).Error)
		counts = append(counts, fmt.Sprintf("%s %d", table, n))
	}
	return strings.Join(counts, ", ")
}

var oddTexts = []string{"", "a", "order-1", "a b", "a/b", "ü", "\x00", "\xff\xfe", "'; DROP TABLE notes; --", "%s%d", "🛒", "\ufffd", `\ufffd`, `\\ufffd`, `\` + "\xff",
	strings.Repeat("x", 32), strings.Repeat("x", 33), strings.Repeat("x", 128), strings.Repeat("x", 129), strings.Repeat("x", 4000)}

// Whatever ids, payloads and timeouts a plan has: it is refused with ErrInvalid
// and nothing is written, or it is confirmed with what was given.
func FuzzExecute(f *testing.F) {
	db, orch := openNotes(f)
	for i, text := range oddTexts {
		f.Add(text, "text", 1.5, []byte(text), int64(0), 1)
		f.Add(fmt.Sprint("gid-", i), text, float64(i), []byte(nil), int64(i)*1e12, 1)
	}
	f.Add("many", "", 0.0, []byte{}, int64(1e9), 100)
	f.Add("none", "", 0.0, []byte{}, int64(1e9), 0)
	f.Add("late", "", 0.0, []byte{}, int64(-1), 1)
	f.Fuzz(func(t *testing.T, gid, text string, number float64, bytes []byte, timeout int64, branches int) {
		before := written(t, db)
		payloads := make([]tcc.Payload, min(max(branches, 0), 120))
		for i := range payloads {
			payloads[i] = note{text, number, bytes}
		}
		outcome, err := tcc.ExecuteWith(t.Context(), orch, gid, saga.Options{Timeout: time.Duration(timeout)}, payloads...)
		switch {
		case errors.Is(err, saga.ErrInvalid):
			if after := written(t, db); after != before {
				t.Errorf("refused with %v, and written: %s, before: %s", err, after, before)
			}
		case errors.Is(err, saga.ErrMismatch): // two inputs with one gid
		case (errors.Is(err, saga.ErrCancelled) || errors.Is(err, saga.ErrUnknown)) && timeout > 0 && timeout < int64(time.Second): // too short
		case err != nil || outcome.State != saga.Confirmed:
			t.Errorf("%s, %v", outcome.State, err)
		default:
			var got string
			sagatest.Must(t, db.Raw("SELECT text FROM notes WHERE id = ?", gid+"/01").Scan(&got).Error)
			if got != text {
				t.Errorf("Try was given %q, want %q", got, text)
			}
		}
	})
}

// The same for an open transaction, branch by branch, and for operators.
func FuzzOpenTransaction(f *testing.F) {
	db, orch := openNotes(f)
	for i, text := range oddTexts {
		f.Add(text, "01", "text", "alice", "because")
		f.Add(fmt.Sprint("gid-", i), text, "text", "alice", text)
		f.Add(fmt.Sprint("gid-", i), "01", text, text, "because")
	}
	f.Fuzz(func(t *testing.T, gid, branchID, text, who, why string) {
		before := written(t, db)
		refused := func(what string, err error) bool {
			if errors.Is(err, saga.ErrInvalid) {
				if after := written(t, db); after != before {
					t.Errorf("%s was refused with %v, and written: %s, before: %s", what, err, after, before)
				}
				return true
			}
			before = written(t, db)
			return false
		}
		ctx := t.Context()
		err := orch.Begin(ctx, saga.Opening{GID: gid, Pattern: "tcc"})
		if refused("Begin", err) {
			if barrier.ValidateGID(gid) == nil {
				t.Errorf("a valid gid: %v", err)
			}
			return
		}
		sagatest.Must(t, err)
		tried := orch.Try(ctx, gid, branchID, saga.Step{Kind: "test.note", Input: note{Text: text}})
		if !refused("Try", tried) && tried != nil && !errors.Is(tried, saga.ErrMismatch) && !errors.Is(tried, saga.ErrNotOpen) {
			t.Errorf("Try: %v", tried)
		}
		by := saga.Operator{Who: who, Why: why}
		for what, act := range map[string]func() error{
			"Pause":      func() error { return orch.Pause(ctx, gid, by) },
			"Resume":     func() error { return orch.Resume(ctx, gid, by) },
			"Retry":      func() error { return orch.Retry(ctx, gid, by) },
			"ResumeKind": func() error { return orch.ResumeKind(ctx, text, by) },
			"PauseKind": func() error {
				err := orch.PauseKind(ctx, text, by)
				return errors.Join(err, db.Exec("DELETE FROM saga_kinds").Error) // other inputs need the kind
			},
		} {
			if err := act(); !refused(what, err) && err != nil && !errors.Is(err, saga.ErrRefused) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if _, err := orch.Decide(ctx, gid, saga.Cancelling, by); !refused("Decide", err) && err != nil && !errors.Is(err, saga.ErrConfirmed) && !errors.Is(err, saga.ErrRefused) {
			t.Errorf("Decide: %v", err)
		}
		if _, err := orch.Lookup(ctx, gid); err != nil {
			t.Errorf("Lookup: %v", err)
		}
		if _, err := orch.List(ctx, saga.Filter{Prefix: text, Pattern: who, After: why}); err != nil && !errors.Is(err, saga.ErrInvalid) {
			t.Errorf("List: %v", err)
		}
	})
}

// A config is refused, or the engine works.
func FuzzConfig(f *testing.F) {
	db := sqltest.Open(f, "sqlite")
	sagatest.Must(f, db.Exec("CREATE TABLE notes (id TEXT PRIMARY KEY, text TEXT NOT NULL)").Error)
	for _, d := range []int64{0, 1, -1, 1e8, 1e9, 1 << 62, -1 << 63} {
		f.Add(d, int64(0), int64(0), int64(0), 0, 0, 0.0, "a")
		f.Add(int64(0), d, int64(0), int64(0), 0, 0, 0.0, "b")
		f.Add(int64(0), int64(0), d, int64(0), int(d), 0, 0.0, "c")
		f.Add(int64(0), int64(0), int64(0), d, 0, int(d), float64(d), "d")
	}
	n := 0
	f.Fuzz(func(t *testing.T, lease, poll, retry, retention int64, drivers, attempts int, rate float64, text string) {
		orch, err := embedded.Open(t.Context(), db, embedded.Config{Lease: time.Duration(lease), Poll: time.Duration(poll),
			MinBackoff: time.Duration(retry), MaxBackoff: time.Duration(retry), Retention: time.Duration(retention), MaxWorkers: drivers,
			AttentionAttempts: attempts, Limits: embedded.Limits{Rate: rate, Failures: attempts, Cooldown: time.Duration(retry)},
			Logger: quiet})
		if errors.Is(err, saga.ErrInvalid) {
			return
		}
		sagatest.Must(t, err)
		defer orch.Stop(t.Context())
		sagatest.Must(t, tcc.Register(orch, notes{}))
		n++
		if _, err := tcc.Execute(t.Context(), orch, fmt.Sprint("config-", n), note{Text: text}); err != nil {
			t.Errorf("it was accepted, and then: %v", err)
		}
	})
}
