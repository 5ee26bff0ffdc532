package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// A call that hangs, and ignores its context, keeps nobody waiting: those who go
// with it, those with little time, and its own caller. When it returns at last,
// nothing is left of it, and what was told is true.
func TestACallThatHangsKeepsNobody(t *testing.T) {
	t.Parallel()
	all := func(h *hanging) map[barrier.Op]saga.Effect {
		return map[barrier.Op]saga.Effect{barrier.Try: h.outside, barrier.Confirm: h.outside, barrier.Cancel: h.outside}
	}
	type kind struct {
		name   string
		branch func(h *hanging) spec
		away   bool // in a database of its own
		traced bool // by rows in its database
	}
	plain := kind{name: "plain", traced: true, branch: func(h *hanging) spec { return spec{Work: h.inside} }}
	bulk := kind{name: "bulk", traced: true, branch: func(h *hanging) spec { return spec{Work: h.inside, WorkBatch: h.together} }}
	sent := kind{name: "sent", traced: true, branch: func(h *hanging) spec {
		return spec{Work: h.inside, Effects: map[barrier.Op]saga.Effect{barrier.Confirm: h.outside}}
	}}
	outside := kind{name: "outside", branch: func(h *hanging) spec { return spec{Effects: all(h)} }}
	away := kind{name: "away", traced: true, away: true, branch: func(h *hanging) spec { return spec{Work: h.inside, Database: h.db} }}
	elsewhere := kind{name: "remote", branch: func(h *hanging) spec { return spec{Remote: h} }}
	cases := []struct {
		kind    kind
		dialect string
		at      barrier.Op
	}{
		{plain, "mysql", barrier.Try}, {plain, "postgres", barrier.Try}, {plain, "mysql", barrier.Confirm},
		{bulk, "mysql", barrier.Try}, {bulk, "postgres", barrier.Try}, {bulk, "postgres", barrier.Confirm},
		{sent, "mysql", barrier.Confirm}, {outside, "postgres", barrier.Try}, {outside, "mysql", barrier.Confirm},
		{away, "mysql", barrier.Try}, {elsewhere, "postgres", barrier.Try}, {elsewhere, "mysql", barrier.Confirm},
	}
	for _, c := range cases {
		t.Run(fmt.Sprintf("%s/%s/%s", c.kind.name, c.dialect, c.at), func(t *testing.T) {
			t.Parallel()
			home := sqltest.Open(t, c.dialect)
			db := home
			if c.kind.away {
				db = sqltest.Open(t, c.dialect)
			}
			h := newHanging(t, db, c.at)
			hung := c.kind.branch(h)
			hung.Kind = "hangs"
			orch := opened(t, home, embedded.Config{CallTimeout: 2 * time.Second}, hung)
			hangs(t, orch, h, home, c.kind.traced)
		})
	}
}

func hangs(t *testing.T, orch *embedded.Engine, h *hanging, home *gorm.DB, traced bool) {
	const others = 6
	plan := planOf("x", "hangs")
	if orch.SharesAtAll(plan) {
		orch.GatherDecisions(plan, 2*others+1)
	}
	began := time.Now()
	var told sync.Map
	var hasty, patient, itself sync.WaitGroup
	execute := func(group *sync.WaitGroup, ctx context.Context, gid string) {
		group.Go(func() {
			outcome, err := orch.Execute(ctx, planOf(gid, "hangs"))
			told.Store(gid, outcome.State)
			if err != nil && !errors.Is(err, saga.ErrUnknown) && !errors.Is(err, saga.ErrCancelled) {
				t.Errorf("%s: %+v, %v", gid, outcome, err)
			}
		})
	}
	execute(&itself, t.Context(), h.gid)
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	for i := range others {
		execute(&hasty, short, fmt.Sprintf("hasty-%d", i))
		execute(&patient, t.Context(), fmt.Sprintf("patient-%d", i))
	}
	hasty.Wait()
	if took := time.Since(began); took > 3500*time.Millisecond { // 1.3 s, and what a busy machine needs
		t.Errorf("who had 300 ms was answered after %s", took)
	}
	patient.Wait()
	<-h.begun
	if h.hangs.Load() == 0 {
		t.Error("the others have waited for the end of the call")
	}
	for i := range others {
		gid := fmt.Sprintf("patient-%d", i)
		if state, _ := told.Load(gid); state != saga.Confirmed {
			t.Errorf("%s is %v", gid, state)
		}
	}
	itself.Wait() // CallTimeout, and a second
	if h.hangs.Load() == 0 {
		t.Error("its own caller has waited for the end of the call")
	}
	close(h.gate)
	gids := []string{h.gid}
	for i := range others {
		gids = append(gids, fmt.Sprintf("patient-%d", i), fmt.Sprintf("hasty-%d", i))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, gid := range gids {
		outcome, err := orch.Wait(ctx, gid)
		said, _ := told.Load(gid)
		if errors.Is(err, saga.ErrNotFound) && said == saga.State("") {
			continue // nothing was begun, and nothing was told
		}
		if said == saga.Confirmed && outcome.State != saga.Confirmed || said == saga.Cancelled && outcome.State != saga.Cancelled ||
			said == saga.Confirming && outcome.State != saga.Confirmed || !outcome.State.Finished() {
			t.Errorf("%s was told %q, and is %+v, %v", gid, said, outcome, err)
		}
		if traced && outcome.State.Finished() {
			h.check(home, gid, outcome.State, 1)
		}
	}
	sagatest.Eventually(t, "the call has returned", func() bool { return h.hangs.Load() == 0 })
	if err := orch.Stop(ctx); err != nil {
		t.Errorf("something is under way: %v", err)
	}
	for _, db := range []*gorm.DB{home, h.db} {
		pool, err := db.DB()
		sagatest.Must(t, err)
		sagatest.Eventually(t, "the connections are given back", func() bool { return pool.Stats().InUse == 0 })
	}
}

// Who has little time is answered although the own branch hangs in a call that may
// take a minute.
func TestAHastyCallerIsAnswered(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "mysql")
	other := sqltest.Open(t, "mysql")
	h := newHanging(t, db, barrier.Try)
	h.gid = "hasty"
	newCareless(t, other, "", 0)
	outside := map[barrier.Op]saga.Effect{barrier.Try: h.outside, barrier.Confirm: sending, barrier.Cancel: sending}
	orch := opened(t, db, embedded.Config{CallTimeout: time.Minute}, spec{Kind: "plain", Work: h.inside},
		spec{Kind: "outside", Effects: outside}, spec{Kind: "away", Work: h.inside, Database: other}, spec{Kind: "remote", Remote: h})
	var callers sync.WaitGroup
	for _, kind := range []string{"plain", "outside", "away", "remote"} {
		for _, open := range []bool{false, true} {
			gid := fmt.Sprintf("hasty-%s-%t", kind, open)
			if open {
				sagatest.Must(t, orch.Begin(t.Context(), saga.Opening{GID: gid}))
			}
			callers.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
				defer cancel()
				var err error
				if open {
					err = orch.Try(ctx, gid, "01", saga.Step{Kind: kind})
				} else {
					_, err = orch.Execute(ctx, planOf(gid, kind))
				}
				if err == nil {
					t.Errorf("%s has succeeded", gid)
				}
			})
		}
	}
	answered := make(chan struct{})
	go func() { callers.Wait(); close(answered) }()
	limit := time.NewTimer(20 * time.Second)
	defer limit.Stop()
	select {
	case <-answered:
	case <-limit.C:
		t.Error("they wait for the end of the calls")
	}
	close(h.gate)
	callers.Wait()
}
