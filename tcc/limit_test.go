package tcc_test

import (
	"sync"
	"testing"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// A service that is down is not hammered by the retries of all transactions;
// the first call that succeeds lets them through.
func TestServiceThatIsDown(t *testing.T) {
	t.Parallel()
	const many, opening = 50, 5
	config := quick
	config.KindLimits = map[string]embedded.Limits{"credit.out": {Failures: opening, Cooldown: time.Hour}}
	b := newBench(t, sqltest.Open(t, "sqlite"), config)
	b.out.fail(barrier.Confirm, 1000, errOnPurpose)
	execute := func() {
		if _, err := tcc.Execute(t.Context(), b.orch, sagatest.GID(), hold{1, 1}, holdOut{1, 1}); err != nil {
			t.Error(err)
		}
	}
	// Those that open the circuit fail together, so that none of them is
	// repeated while the others are still on their way.
	gate := b.out.hold(barrier.Confirm)
	var first sync.WaitGroup
	for range opening {
		first.Go(execute)
	}
	sagatest.Eventually(t, "those that open the circuit are called", func() bool { return b.out.called(barrier.Confirm) == opening })
	close(gate)
	first.Wait()
	for range many - opening {
		execute()
	}
	sagatest.Eventually(t, "each was looked at again", func() bool {
		listed, err := b.orch.List(t.Context(), saga.Filter{Unfinished: true})
		sagatest.Must(t, err)
		for _, s := range listed {
			if s.Epoch == 1 {
				return false
			}
		}
		return true
	})
	// At most those until the circuit opened, besides the first calls.
	if n := b.out.called(barrier.Confirm); n > many+10 {
		t.Errorf("%d calls for %d transactions", n, many)
	}
	b.books(b.db, 1, 100-many, 0, many) // the other kind is not held up
	b.out.fail(barrier.Confirm, 0, nil)
	_, err := tcc.Execute(t.Context(), b.orch, sagatest.GID(), holdOut{1, 1})
	sagatest.Must(t, err)
	sagatest.Eventually(t, "all are finished", func() bool {
		left, err := b.orch.List(t.Context(), saga.Filter{Unfinished: true})
		return err == nil && len(left) == 0
	})
}

func TestLimitsOfAnUnknownKind(t *testing.T) {
	t.Parallel()
	config := quick
	config.KindLimits = map[string]embedded.Limits{"credit.typo": {}}
	b := &bench{t: t, db: sqltest.Open(t, "sqlite"), other: sqltest.Open(t, "sqlite")}
	if err := b.open(config).Run(t.Context()); err == nil {
		t.Error("Run has accepted it")
	}
}
