package tcc_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// Whichever COMMIT goes unanswered, made or not made, what the caller is told
// is what happened.
func TestUnansweredCommits(t *testing.T) {
	t.Parallel()
	db, loss := sqltest.OpenLossy(t)
	config := quick
	// Only what the calls themselves do commits; nothing comes in between.
	config.Poll, config.Lease = maxDuration/4, maxDuration/4
	b := newBench(t, db, config)
	for _, d := range []*gorm.DB{b.db, b.other} {
		sqltest.Exec(t, d, "UPDATE accounts SET credit = 100000")
	}
	short := []tcc.Payload{holdAway{1, 1}, hold{1, 1 << 30}}
	all := map[string][]tcc.Payload{"short, here": short[1:], "short, mixed": short}
	for name, plan := range plans {
		all[name] = plan
	}
	for name, plan := range all {
		for _, committed := range []bool{false, true} {
			for nth := 1; ; nth++ {
				lost := loss.Count()
				loss.Arm(nth, committed)
				what := fmt.Sprintf("%s, COMMIT %d, made %t", name, nth, committed)
				b.executeTruthfully(what, plan)
				loss.Arm(0, false)
				if loss.Count() == lost {
					break // there are not so many
				}
			}
		}
	}
	if loss.Count() < 20 {
		t.Errorf("only %d COMMITs were lost", loss.Count())
	}
}

func (b *bench) executeTruthfully(what string, plan []tcc.Payload) {
	t, ctx := b.t, b.t.Context()
	t.Helper()
	before := b.spent()
	gid := sagatest.GID()
	_, err := tcc.Execute(ctx, b.orch, gid, plan...)
	if errors.Is(err, saga.ErrUnknown) {
		_, err = tcc.Execute(ctx, b.orch, gid, plan...)
	}
	// Whoever is left brings it to its end, now rather than at the next turn.
	helper := b.open(quick)
	running := make(chan error)
	stopping, stop := context.WithCancel(ctx)
	sqltest.Exec(t, b.db, "UPDATE saga_transactions SET due_at = created_at, owner = '' WHERE due_at IS NOT NULL AND state <> 'trying'")
	go func() { running <- helper.Run(stopping) }()
	defer func() { stop(); <-running }()
	switch {
	case err == nil:
		b.reaches(gid, saga.Confirmed)
		if got := b.spent() - before; got == 0 {
			t.Errorf("%s: told confirmed, and nothing was spent", what)
		}
	case errors.Is(err, saga.ErrCancelled):
		b.reaches(gid, saga.Cancelled)
		if got := b.spent() - before; got != 0 {
			t.Errorf("%s: told cancelled, and %d was spent", what, got)
		}
	default:
		t.Errorf("%s: %v", what, err)
	}
	for _, d := range []*gorm.DB{b.db, b.other} {
		var held int
		sagatest.Must(t, d.Raw("SELECT SUM(held) FROM accounts").Scan(&held).Error)
		if held != 0 {
			t.Errorf("%s: %d is still held", what, held)
		}
	}
}

// spent adds up what both databases say.
func (b *bench) spent() int {
	b.t.Helper()
	total := 0
	for _, d := range []*gorm.DB{b.db, b.other} {
		var spent int
		sagatest.Must(b.t, d.Raw("SELECT SUM(spent) FROM accounts").Scan(&spent).Error)
		total += spent
	}
	return total
}
