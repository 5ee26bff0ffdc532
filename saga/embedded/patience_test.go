package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// hanging is a branch one of whose transactions hangs in a call, whatever its
// context says, until the gate is open.
type hanging struct {
	*careless
	gid   string
	at    barrier.Op
	gate  chan struct{}
	begun chan struct{}
	once  sync.Once
	hangs atomic.Int64 // calls that hang now
}

func newHanging(t *testing.T, db *gorm.DB, at barrier.Op) *hanging {
	return &hanging{careless: newCareless(t, db, "", 0), gid: "hung", at: at, gate: make(chan struct{}), begun: make(chan struct{})}
}

func (h *hanging) hang(call saga.Call) {
	if strings.HasPrefix(call.GID, h.gid) && call.Op == h.at {
		h.hangs.Add(1)
		defer h.hangs.Add(-1)
		h.once.Do(func() { close(h.begun) })
		<-h.gate
	}
}

func (h *hanging) inside(ctx context.Context, tx *gorm.DB, call saga.Call) error {
	err := h.note(tx, call, 1)
	h.hang(call)
	return errors.Join(err, h.note(tx, call, 2))
}

func (h *hanging) together(ctx context.Context, tx *gorm.DB, op barrier.Op, calls []saga.BatchCall) ([]error, error) {
	for _, call := range calls {
		if err := h.inside(ctx, tx, call.Call); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func (h *hanging) outside(_ context.Context, call saga.Call) (any, error) {
	h.hang(call)
	return nil, nil
}

// Call makes it a service elsewhere.
func (h *hanging) Call(_ context.Context, call saga.Call) error {
	h.hang(call)
	return nil
}

// A call that hangs, and ignores its context, keeps nobody waiting: those who go
// with it, those with little time, and its own caller. When it returns at last,
// nothing is left of it, and what was told is true.
func TestACallThatHangsKeepsNobody(t *testing.T) {
	t.Parallel()
	all := func(h *hanging) map[barrier.Op]saga.Effect {
		return map[barrier.Op]saga.Effect{barrier.Try: h.outside, barrier.Confirm: h.outside, barrier.Cancel: h.outside}
	}
	kinds := map[string]func(h *hanging, home *gorm.DB) spec{
		"plain": func(h *hanging, _ *gorm.DB) spec { return spec{Work: h.inside} },
		"bulk": func(h *hanging, _ *gorm.DB) spec {
			return spec{Work: h.inside, WorkBatch: h.together}
		},
		"sent": func(h *hanging, _ *gorm.DB) spec {
			return spec{Work: h.inside, Effects: map[barrier.Op]saga.Effect{barrier.Confirm: h.outside}}
		},
		"outside": func(h *hanging, _ *gorm.DB) spec { return spec{Effects: all(h)} },
		"away":    func(h *hanging, _ *gorm.DB) spec { return spec{Work: h.inside, Database: h.db} },
		"remote":  func(h *hanging, _ *gorm.DB) spec { return spec{Remote: h} },
	}
	cases := []struct {
		kind, dialect string
		at            barrier.Op
	}{
		{"plain", "mysql", barrier.Try}, {"plain", "postgres", barrier.Try}, {"plain", "mysql", barrier.Confirm},
		{"bulk", "mysql", barrier.Try}, {"bulk", "postgres", barrier.Try}, {"bulk", "postgres", barrier.Confirm},
		{"sent", "mysql", barrier.Confirm}, {"outside", "postgres", barrier.Try}, {"outside", "mysql", barrier.Confirm},
		{"away", "mysql", barrier.Try}, {"remote", "postgres", barrier.Try}, {"remote", "mysql", barrier.Confirm},
	}
	for _, c := range cases {
		t.Run(fmt.Sprintf("%s/%s/%s", c.kind, c.dialect, c.at), func(t *testing.T) {
			t.Parallel()
			home := sqltest.Open(t, c.dialect)
			db := home
			if c.kind == "away" {
				db = sqltest.Open(t, c.dialect)
			}
			h := newHanging(t, db, c.at)
			hung := kinds[c.kind](h, home)
			hung.Kind = "hangs"
			orch := opened(t, home, embedded.Config{CallTimeout: 2 * time.Second}, hung)
			hangs(t, orch, h, home, c.kind == "outside" || c.kind == "remote")
		})
	}
}

func hangs(t *testing.T, orch *embedded.Engine, h *hanging, home *gorm.DB, elsewhere bool) {
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
		if !elsewhere && outcome.State.Finished() {
			h.check(home, gid, outcome.State, 1)
		}
	}
	eventually(t, "the call has returned", func() bool { return h.hangs.Load() == 0 })
	if err := orch.Stop(ctx); err != nil {
		t.Errorf("something is under way: %v", err)
	}
	for _, db := range []*gorm.DB{home, h.db} {
		pool, err := db.DB()
		ok(err)
		eventually(t, "the connections are given back", func() bool { return pool.Stats().InUse == 0 })
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
			callers.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
				defer cancel()
				gid := fmt.Sprintf("hasty-%s-%t", kind, open)
				var err error
				if open {
					ok(orch.Begin(t.Context(), saga.Opening{GID: gid}))
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
