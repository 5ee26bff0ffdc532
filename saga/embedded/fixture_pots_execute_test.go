package embedded_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
)

func (p *pots) plan(gid string, t take, kinds ...string) saga.Plan {
	plan := saga.Plan{GID: gid, Pattern: "test"}
	for _, kind := range kinds {
		plan.Steps = append(plan.Steps, saga.Step{Kind: kind, Input: t})
	}
	return plan
}

func (p *pots) execute(gid string, t take, kinds ...string) (saga.Outcome, error) {
	return p.orch.Execute(p.t.Context(), p.plan(gid, t, kinds...))
}

// executeBatch executes n transactions on as many pots, in one batch; those whose
// number is in the list have the fault.
func (p *pots) executeBatch(name string, n int, bad fault, faulty []int, kinds ...string) (outcomes []saga.Outcome, errs []error) {
	p.orch.GatherDecisions(p.plan("x", take{}, kinds...), n)
	outcomes, errs = make([]saga.Outcome, n), make([]error, n)
	var callers sync.WaitGroup
	for i := range n {
		what := take{Pot: i, N: 1}
		if slices.Contains(faulty, i) {
			what.Fault = bad
		}
		callers.Go(func() { outcomes[i], errs[i] = p.execute(fmt.Sprintf("%s-%02d", name, i), what, kinds...) })
	}
	callers.Wait()
	return outcomes, errs
}

// finishes executes five transactions whose last commits wait for each other; when
// four are there, meanwhile is called, and then the fifth comes.
func (p *pots) finishes(meanwhile func()) (outcomes [5]saga.Outcome) {
	p.t.Helper()
	p.orch.GatherFinishes(p.plan("x", take{}, "bulk", "sent"), 5)
	var callers sync.WaitGroup
	execute := func(i int) {
		callers.Go(func() {
			var err error
			if outcomes[i], err = p.execute(fmt.Sprint("finish-", i), take{Pot: i, N: 1}, "bulk", "sent"); err != nil {
				p.t.Errorf("number %d: %v", i, err)
			}
		})
	}
	for i := range 4 {
		execute(i)
	}
	for i := range 4 {
		sagatest.Eventually(p.t, "it is decided", func() bool { return p.state(fmt.Sprint("finish-", i)) == saga.Confirming })
	}
	meanwhile()
	execute(4)
	callers.Wait()
	return outcomes
}

// lose lets everybody else believe that an instance has gone, as after a pause
// longer than its lease, and that one of its transactions is due.
func (p *pots) lose(orch *embedded.Engine, gid string) {
	sagatest.Must(p.t, p.db.Exec("UPDATE saga_instances SET lease_until = '2020-01-01 00:00:00' WHERE instance = ?", orch.Instance()).Error)
	sagatest.Must(p.t, p.db.Exec("UPDATE saga_transactions SET due_at = created_at WHERE gid = ?", gid).Error)
}

func (p *pots) state(gid string) saga.State {
	found, err := p.orch.Lookup(p.t.Context(), gid)
	if errors.Is(err, saga.ErrNotFound) {
		return ""
	}
	sagatest.Must(p.t, err)
	return found.State
}

func (p *pots) books(pot, free, held, sold int) {
	p.t.Helper()
	var row struct{ Free, Held, Sold int }
	sagatest.Must(p.t, p.db.Raw("SELECT free, held, sold FROM pots WHERE id = ?", pot).Scan(&row).Error)
	if row.Free != free || row.Held != held || row.Sold != sold {
		p.t.Errorf("pot %d: %d free, %d held, %d sold; want %d, %d, %d", pot, row.Free, row.Held, row.Sold, free, held, sold)
	}
}
