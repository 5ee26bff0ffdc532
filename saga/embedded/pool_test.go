package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"
	naming "gorm.io/gorm/schema"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
)

// Under load every execution ends, with every configuration of gorm and pools of
// every size, though a call outside of the database fails every other time.
func TestLoadInEveryConfiguration(t *testing.T) {
	t.Parallel()
	strategy := naming.NamingStrategy{TablePrefix: "app_", SingularTable: true}
	cases := []struct {
		name        string
		config      gorm.Config
		resolved    bool
		connections []int
	}{
		{"prepared", gorm.Config{PrepareStmt: true}, false, []int{2, 10, 0}},
		{"everything", gorm.Config{PrepareStmt: true, SkipDefaultTransaction: true, TranslateError: true, NamingStrategy: strategy}, true, []int{10}},
		{"everything else", gorm.Config{SkipDefaultTransaction: true, TranslateError: true, NamingStrategy: strategy}, true, []int{2, 0}},
	}
	for _, dialect := range []string{"mysql", "postgres"} {
		for _, c := range cases {
			for _, connections := range c.connections {
				t.Run(fmt.Sprintf("%s/%s/%d connections", dialect, c.name, connections), func(t *testing.T) {
					if connections > 0 { // the servers have enough for one without a limit at a time
						t.Parallel()
					}
					db, _ := configured(t, dialect, c.config, c.resolved, connections)
					loaded(t, db)
				})
			}
		}
	}
}

func loaded(t *testing.T, db *gorm.DB) {
	const callers, each = 200, 1
	var sends atomic.Int64
	p := newPots(t, db, embedded.Config{})
	sagatest.Must(t, register(p.orch, spec{Kind: "outside", Encode: encode, Effects: map[barrier.Op]saga.Effect{
		barrier.Try: sending, barrier.Cancel: sending,
		barrier.Confirm: func(context.Context, saga.Call) (any, error) {
			if sends.Add(1)%2 == 0 {
				return nil, errors.New("on purpose")
			}
			return nil, nil
		},
	}}))
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for n := range each {
				gid := fmt.Sprintf("load-%d-%d", i, n)
				plan := p.plan(gid, take{Pot: i % potCount, N: 1}, []string{"plain", "bulk"}[i%2], "outside")
				if i%4 == 3 {
					plan.Steps[1].Kind = "sent"
				}
				if _, err := p.orch.Execute(ctx, plan); err != nil {
					t.Errorf("%s: %v", gid, err)
				}
			}
		})
	}
	wg.Wait()
	sagatest.Eventually(t, "all end", func() bool {
		var left int64
		sagatest.Must(t, db.Raw("SELECT COUNT(*) FROM saga_transactions WHERE state <> 'confirmed'").Scan(&left).Error)
		return left == 0
	})
}

// Many kinds of slow branches, and many callers of each, leave connections for the
// heartbeat and for the user's own queries.
func TestSlowKindsLeaveConnections(t *testing.T) {
	t.Parallel()
	const kinds, callers = 12, 240
	for _, dialect := range []string{"mysql", "postgres"} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			db, _ := configured(t, dialect, gorm.Config{}, false, 10)
			var failed atomic.Int64
			config := embedded.Config{Lease: 3 * time.Second, Logger: slog.New(counted{slog.DiscardHandler, "heartbeat failed", &failed}), Timeout: time.Minute}
			slow := func(ctx context.Context, tx *gorm.DB, call saga.Call) error {
				if call.Op == barrier.Try {
					timer := time.NewTimer(50 * time.Millisecond) // it is the subject of the test
					defer timer.Stop()
					<-timer.C
				}
				return nil
			}
			var branches []spec
			for n := range kinds {
				branches = append(branches, spec{Kind: fmt.Sprintf("slow-%d", n), Work: slow})
			}
			orch := opened(t, db, config, branches...)
			var executing sync.WaitGroup
			for i := range callers {
				executing.Go(func() {
					kind := fmt.Sprintf("slow-%d", i%kinds)
					for n := range 2 {
						if _, err := orch.Execute(t.Context(), planOf(fmt.Sprintf("slow-%d-%d", i, n), kind)); err != nil {
							t.Error(err)
						}
					}
				})
			}
			ended := make(chan struct{})
			go func() { executing.Wait(); close(ended) }()
			longest, queries := time.Duration(0), 0
			for over := false; !over; queries++ {
				began := time.Now()
				sagatest.Must(t, db.Exec("SELECT 1").Error)
				longest = max(longest, time.Since(began))
				select {
				case <-ended:
					over = true
				default:
				}
			}
			if failed.Load() > 0 {
				t.Errorf("%d heartbeats failed", failed.Load())
			}
			if longest > 3*time.Second {
				t.Errorf("a query of the user's own took %s", longest)
			}
			t.Logf("%d queries, the longest %s", queries, longest)
		})
	}
}

// Pools of every size have their connections back as they were, and while the
// engine works, too.
func TestConnectionsStayAsTheyAre(t *testing.T) {
	t.Parallel()
	for _, dialect := range []string{"mysql", "postgres"} {
		for _, connections := range []int{1, 2, 4, 8, 10} {
			t.Run(fmt.Sprintf("%s/%d", dialect, connections), func(t *testing.T) {
				t.Parallel()
				db, plain := configured(t, dialect, gorm.Config{}, false, connections)
				waits := func(ctx context.Context, tx *gorm.DB, call saga.Call) error {
					if call.Op == barrier.Try && strings.HasPrefix(call.GID, "conn-4-") {
						<-ctx.Done()
						return ctx.Err()
					}
					return nil
				}
				p := newPots(t, db, embedded.Config{CallTimeout: 300 * time.Millisecond})
				sagatest.Must(t, register(p.orch, spec{Kind: "waits", Work: waits, Encode: encode}))
				holder := plain.Begin()
				defer holder.Rollback()
				sagatest.Must(t, holder.Exec("UPDATE pots SET free = free - 1 WHERE id = 4").Error)
				var executing sync.WaitGroup
				for i := range 40 {
					executing.Go(func() {
						kind := []string{"bulk", "plain", "waits", "waits"}[i/10]
						for n := range 3 {
							// Those of pot 4 fail, in the midst of a batch, and those who wait.
							p.execute(fmt.Sprintf("conn-%d-%d", i%10, 100*i+n), take{Pot: i % potCount, N: 1}, kind)
						}
					})
				}
				ended := make(chan struct{})
				go func() { executing.Wait(); close(ended) }()
				for over := false; !over; {
					if err := unchanged(db); err != nil {
						t.Error(err)
					}
					select {
					case <-ended:
						over = true
					default:
					}
				}
				sagatest.Must(t, p.orch.Stop(t.Context())) // the heartbeat has a connection of its own until then
				if err := unlimited(db); err != nil {
					t.Error(err)
				}
			})
		}
	}
}
