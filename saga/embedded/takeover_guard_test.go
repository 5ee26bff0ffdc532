package embedded_test

import (
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/participant"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// An execution whose process was paused past its lease, and which another instance
// has cancelled, calls nothing any more: the other one drives it.
func TestAnExecutionThatWasTakenOver(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		p := idlePots(t, db, still)
		other := sagatest.Open(t, db, still)
		tried, cancelling := make(chan struct{}), make(chan struct{})
		tryEnds, cancelEnds := make(chan struct{}), make(chan struct{})
		free := sync.OnceFunc(func() { close(cancelEnds) })
		t.Cleanup(free)
		var cancels atomic.Int64
		count := func(saga.Call) error { cancels.Add(1); return nil }
		sagatest.Must(t, register(p.orch, outside("first", func(call saga.Call) error {
			if call.Op == barrier.Cancel {
				return count(call)
			}
			return nil
		})))
		sagatest.Must(t, register(p.orch, spec{Kind: "second", Encode: func(any) ([]byte, error) { return []byte("{}"), nil }, Remote: remote(func(call saga.Call) error {
			if call.Op == barrier.Cancel {
				return count(call)
			}
			close(tried)
			<-tryEnds
			return errors.New("on purpose")
		})}))
		sagatest.Must(t, register(other, outside("first", func(saga.Call) error { close(cancelling); <-cancelEnds; return nil })))
		sagatest.Must(t, register(other, spec{Kind: "second", Encode: func(any) ([]byte, error) { return []byte("{}"), nil }, Remote: remote(func(saga.Call) error { return nil })}))
		told := make(chan error, 1)
		go func() {
			_, err := p.execute("taken", take{}, "first", "second")
			told <- err
		}()
		<-tried
		p.lose(p.orch, "taken")
		sagatest.Run(t, other)
		<-cancelling
		close(tryEnds)
		if err := <-told; !errors.Is(err, saga.ErrCancelled) {
			t.Errorf("Execute: %v", err)
		}
		if n := cancels.Load(); n != 0 {
			t.Errorf("the instance that has lost it has called Cancel %d times", n)
		}
		free()
		sagatest.Eventually(t, "the other instance ends it", func() bool { return p.state("taken") == saga.Cancelled })
	})
}

// A Try that is repeated after the decision succeeds only if it is the same, and the
// decision was to confirm.
func TestRepeatsAfterTheDecision(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		p := idlePots(t, db, still)
		step := saga.Step{Kind: "plain", Input: take{N: 1}}
		for _, gid := range []string{"confirmed", "cancelled"} {
			sagatest.Must(t, p.orch.Begin(t.Context(), saga.Opening{GID: gid}))
			sagatest.Must(t, p.orch.Try(t.Context(), gid, "01", step))
		}
		_, err := p.orch.Confirm(t.Context(), "confirmed", saga.Options{})
		sagatest.Must(t, err)
		_, err = p.orch.Cancel(t.Context(), "cancelled", "on purpose")
		sagatest.Must(t, err)
		for _, c := range []struct {
			what, gid, branch string
			step              saga.Step
			want              error
		}{
			{"the same", "confirmed", "01", step, nil},
			{"another payload", "confirmed", "01", saga.Step{Kind: "plain", Input: take{N: 2}}, saga.ErrMismatch},
			{"another kind", "confirmed", "01", saga.Step{Kind: "bulk", Input: take{N: 1}}, saga.ErrMismatch},
			{"another branch", "confirmed", "02", step, saga.ErrNotOpen},
			{"the same of a cancelled one", "cancelled", "01", step, saga.ErrNotOpen},
			{"another payload of a cancelled one", "cancelled", "01", saga.Step{Kind: "plain", Input: take{N: 2}}, saga.ErrMismatch},
		} {
			if err := p.orch.Try(t.Context(), c.gid, c.branch, c.step); !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Errorf("%s: %v, want %v", c.what, err, c.want)
			}
		}
		p.books(0, 999, 0, 1)
	})
}

// A call from elsewhere is never one of an engine in the same database, whatever name
// it gives.
func TestACallFromElsewhereIsNobodyElses(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		p := idlePots(t, db, still)
		sagatest.Must(t, p.orch.Begin(t.Context(), saga.Opening{GID: "ours"}))
		sagatest.Must(t, p.orch.Try(t.Context(), "ours", "01", saga.Step{Kind: "plain", Input: take{N: 1}}))
		host, err := participant.New(t.Context(), db, participant.Config{})
		sagatest.Must(t, err)
		sagatest.Must(t, register(host, spec{Kind: "plain", Encode: func(any) ([]byte, error) { return nil, nil }, Work: p.inside}))
		var logID string
		sagatest.Must(t, db.Raw("SELECT log_id FROM saga_schema").Scan(&logID).Error)
		payload, err := json.Marshal(take{N: 1})
		sagatest.Must(t, err)
		for _, op := range []barrier.Op{barrier.Confirm, barrier.Cancel} {
			err = host.Call(t.Context(), saga.Call{GID: "ours", BranchID: "01", Kind: "plain", Op: op, Caller: logID, Payload: payload})
			if !errors.Is(err, barrier.ErrConflict) {
				t.Errorf("%s: %v", op, err)
			}
		}
		p.books(0, 999, 1, 0)
	})
}
