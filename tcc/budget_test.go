package tcc_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// large is a payload of any size, whose branch, in another database, can be held.
type large struct {
	N    int
	Text string
}

func (large) Branch() string { return "test.large" }

type largeBranch struct {
	db        *gorm.DB
	gate      chan struct{} // of Confirms; nil for none
	confirmed atomic.Int64
	waiting   atomic.Int64
}

func (l *largeBranch) Database() *gorm.DB                         { return l.db }
func (l *largeBranch) Try(context.Context, *gorm.DB, large) error { return nil }
func (l *largeBranch) Confirm(ctx context.Context, _ *gorm.DB, _ large) error {
	if l.gate != nil {
		l.waiting.Add(1)
		select {
		case <-l.gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	l.confirmed.Add(1)
	return nil
}
func (l *largeBranch) Cancel(context.Context, *gorm.DB, large) error { return nil }

// An open transaction has at most MaxBranches branches and MaxBytes of payloads, also
// if many Trys come at once; a plan is refused before anything is written.
func TestRoomOfTransactions(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		config := quick
		config.MaxPayload, config.MaxBytes = 4000, 20_000
		b := newBench(t, db, config)
		sagatest.Must(t, tcc.Register(b.orch, &largeBranch{}))
		ctx := t.Context()
		attack := func(n int, step func(i int) saga.Step) (gid string, joined, refused int64) {
			gid = sagatest.GID()
			_, err := tcc.Begin(ctx, b.orch, gid)
			sagatest.Must(t, err)
			var all sync.WaitGroup
			var yes, no atomic.Int64
			slots := make(chan struct{}, 20)
			for i := range n {
				slots <- struct{}{}
				all.Go(func() {
					defer func() { <-slots }()
					switch err := b.orch.Try(ctx, gid, fmt.Sprintf("b-%d", i), step(i)); {
					case err == nil:
						yes.Add(1)
					case errors.Is(err, saga.ErrInvalid) && strings.Contains(err.Error(), "are allowed"):
						no.Add(1)
					default:
						t.Error(err)
					}
				})
			}
			all.Wait()
			return gid, yes.Load(), no.Load()
		}
		gid, joined, refused := attack(saga.MaxBranches+30, func(int) saga.Step { return saga.Step{Kind: "test.large", Input: large{N: 1}} })
		if joined != saga.MaxBranches || refused != 30 {
			t.Errorf("branches: %d joined, %d refused", joined, refused)
		}
		if found, err := b.orch.Lookup(ctx, gid); err != nil || len(found.Branches) != saga.MaxBranches {
			t.Errorf("branches: %d in the log, %v", len(found.Branches), err)
		}
		_, joined, refused = attack(20, func(i int) saga.Step {
			return saga.Step{Kind: "test.large", Input: large{i, strings.Repeat("x", 3000)}}
		})
		if joined != 6 || refused != 14 {
			t.Errorf("bytes: %d joined, %d refused", joined, refused)
		}
		// What is in keeps its place.
		if err := b.orch.Try(ctx, gid, "b-0", saga.Step{Kind: "test.large", Input: large{N: 1}}); err != nil && !strings.Contains(err.Error(), "are allowed") {
			t.Error(err)
		}
		outcome, err := b.orch.Confirm(ctx, gid, saga.Options{})
		sagatest.Must(t, err)
		if outcome.State != saga.Confirmed {
			t.Errorf("%+v", outcome)
		}
		var plan []tcc.Payload
		for i := range 7 {
			plan = append(plan, large{i, strings.Repeat("x", 3000)})
		}
		refusedGID := sagatest.GID()
		if _, err := tcc.Execute(ctx, b.orch, refusedGID, plan...); !errors.Is(err, saga.ErrInvalid) || !strings.Contains(err.Error(), "Config.MaxBytes allows 20000") {
			t.Errorf("a plan: %v", err)
		}
		if _, err := b.orch.Lookup(ctx, refusedGID); !errors.Is(err, saga.ErrNotFound) {
			t.Errorf("it was refused, and is in the log: %v", err)
		}
	})
}

// Recovery of far more bytes than may be in memory, while the branches are slow: the
// payloads are read as they are driven.
func TestRecoveryKeepsTheHeapSmall(t *testing.T) {
	const many, size = 500, 336_000 // 168 MB
	for _, dialect := range []string{"mysql", "postgres"} {
		t.Run(dialect, func(t *testing.T) {
			db := sqltest.Open(t, dialect)
			numbers := map[string]string{"mysql": fmt.Sprintf("(SELECT seq AS n FROM seq_1_to_%d) s", many), "postgres": fmt.Sprintf("generate_series(1, %d) AS s(n)", many)}[dialect]
			sqltest.Exec(t, db, "INSERT INTO saga_transactions (gid, pattern, state, digest, reason, reason_code, reason_branch, decided_by, attention, owner, epoch, failures, created_at, deadline_at, due_at, decided_at) "+
				"SELECT CONCAT('large-', n), 'tcc', 'confirming', 'd', '', '', '', 'caller', '', '', 1, 0, '2020-01-01', '2020-01-01', '2020-01-01', '2020-01-01' FROM "+numbers)
			sqltest.Exec(t, db, fmt.Sprintf(`INSERT INTO saga_branches (gid, branch_id, kind, payload) SELECT CONCAT('large-', n), '01', 'test.large', CONCAT('{"N":1,"Text":"', REPEAT('x', %d), '"}') FROM `, size-20)+numbers)
			config := quick
			config.CallTimeout, config.AttentionAge = 30*time.Second, 100*365*24*time.Hour
			orch := sagatest.Open(t, db, config)
			away := sqltest.Open(t, dialect)
			pool, err := away.DB()
			sagatest.Must(t, err)
			pool.SetMaxOpenConns(300) // so that many calls are under way at once
			sqltest.Exec(t, db, "SELECT 1")
			branch := &largeBranch{db: away, gate: make(chan struct{})}
			sagatest.Must(t, tcc.Register(orch, branch))
			runtime.GC()
			var before, during runtime.MemStats
			runtime.ReadMemStats(&before)
			sqltest.Exec(t, away, "INSERT INTO saga_barrier (gid, branch_id, state, kind, tried_at) "+
				"SELECT CONCAT('large-', n), '01', 'tried', 'test.large', '2020-01-01' FROM "+numbers)
			sagatest.Run(t, orch)
			sagatest.Eventually(t, "Confirms are under way", func() bool { return branch.waiting.Load() >= 30 })
			most := uint64(0)
			for range 20 {
				runtime.GC()
				runtime.ReadMemStats(&during)
				most = max(most, during.HeapAlloc)
			}
			if grown := int64(most) - int64(before.HeapAlloc); grown > 90_000_000 {
				t.Errorf("with %d Confirms under way the heap has grown by %d MB", branch.waiting.Load(), grown>>20)
			} else {
				t.Logf("%d Confirms under way, %d MB", branch.waiting.Load(), grown>>20)
			}
			close(branch.gate)
			sagatest.Eventually(t, "all are confirmed", func() bool { return branch.confirmed.Load() == many })
		})
	}
}
