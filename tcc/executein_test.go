package tcc_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// letters is a branch whose Confirm sends.
type letters struct {
	mu   sync.Mutex
	sent []string
}

func (l *letters) branch() saga.Branch {
	return saga.NewLocal("letter", json.Marshal, saga.Local{
		Work: func(context.Context, *gorm.DB, saga.Call) error { return nil },
		Effects: map[barrier.Op]saga.Effect{barrier.Confirm: func(_ context.Context, c saga.Call) (any, error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.sent = append(l.sent, c.GID+" "+string(c.Payload))
			return nil, nil
		}},
	})
}

// all returns what was sent, in the order of the gids.
func (l *letters) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(slices.Values(l.sent))
}

func letter(gid, text string) saga.Plan {
	return saga.Plan{GID: gid, Pattern: "tcc", Steps: []saga.Step{{Kind: "letter", Input: text}}}
}

// A gid that was rolled back is new again, and what follows its commit is of the plan that
// was committed.
func TestExecuteInAgainAfterARollback(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		config := quick
		config.Poll = time.Hour // nothing is found by polls
		b := newBench(t, db, config)
		l := &letters{}
		sagatest.Must(t, b.orch.Register(l.branch()))
		gid, errBack := sagatest.GID(), errors.New("the caller rolls back")
		for _, c := range []struct {
			text string
			end  error
		}{{"first", errBack}, {"second", errBack}, {"third", nil}} {
			if err := db.Transaction(func(tx *gorm.DB) error {
				_, err := b.orch.ExecuteIn(t.Context(), tx, letter(gid, c.text))
				return errors.Join(err, c.end)
			}); !errors.Is(err, c.end) {
				t.Fatal(err)
			}
		}
		b.reaches(gid, saga.Confirmed)
		if want := []string{gid + ` "third"`}; !slices.Equal(l.all(), want) {
			t.Errorf("sent %q, want %q", l.all(), want)
		}
	})
}

// More transactions than may be driven at once are left to recovery, and none is lost or made
// twice.
func TestExecuteInOfMoreThanTheWorkers(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		config := quick
		config.MaxWorkers = 2
		b := newBench(t, db, config)
		l := &letters{}
		sagatest.Must(t, b.orch.Register(l.branch()))
		var gids, want []string
		sagatest.Must(t, db.Transaction(func(tx *gorm.DB) error {
			for range 10 {
				gid := sagatest.GID()
				gids, want = append(gids, gid), append(want, gid+` "text"`)
				if _, err := b.orch.ExecuteIn(t.Context(), tx, letter(gid, "text")); err != nil {
					return err
				}
			}
			return nil
		}))
		for _, gid := range gids {
			b.reaches(gid, saga.Confirmed)
		}
		slices.Sort(want)
		if !slices.Equal(l.all(), want) {
			t.Errorf("sent %q, want %q", l.all(), want)
		}
	})
}

// A gid that another local transaction has taken since the snapshot of this one is in use, and
// known to the next one.
func TestExecuteInUnderAnOldSnapshot(t *testing.T) {
	for _, name := range []string{"mysql", "postgres"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := sqltest.Open(t, name)
			b := newBench(t, db, quick)
			sagatest.Must(t, b.orch.Register((&letters{}).branch()))
			gid := sagatest.GID()
			execute := func(tx *gorm.DB) error {
				outcome, err := b.orch.ExecuteIn(t.Context(), tx, letter(gid, "text"))
				if err == nil && outcome.State == "" {
					err = fmt.Errorf("%+v", outcome)
				}
				return err
			}
			err := db.Transaction(func(tx *gorm.DB) error {
				var n int64
				sagatest.Must(t, tx.Raw("SELECT COUNT(*) FROM saga_transactions").Scan(&n).Error) // the snapshot begins
				sagatest.Must(t, db.Transaction(execute))
				return execute(tx)
			}, &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
			if !errors.Is(err, saga.ErrInUse) {
				t.Errorf("under an old snapshot: %v", err)
			}
			sagatest.Must(t, db.Transaction(execute))
		})
	}
}
