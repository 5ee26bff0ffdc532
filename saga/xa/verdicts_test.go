package xa_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

const (
	try     = barrier.Try
	confirm = barrier.Confirm
	cancel  = barrier.Cancel
)

// The verdicts of a branch: what it is, by the calls so far, and what each call returns.
const (
	isNew       = "new"
	isPrepared  = "prepared"
	isConfirmed = "confirmed"
	isCancelled = "cancelled"
	isSuspended = "suspended"
)

type verdict struct {
	then string // what the branch is afterwards
	want error
}

var verdicts = map[string]map[barrier.Op]verdict{
	isNew:       {try: {isPrepared, nil}, confirm: {isNew, barrier.ErrConflict}, cancel: {isSuspended, nil}},
	isPrepared:  {try: {isPrepared, nil}, confirm: {isConfirmed, nil}, cancel: {isCancelled, nil}},
	isConfirmed: {try: {isConfirmed, nil}, confirm: {isConfirmed, nil}, cancel: {isConfirmed, barrier.ErrConflict}},
	isCancelled: {try: {isCancelled, barrier.ErrSuspended}, confirm: {isCancelled, barrier.ErrConflict}, cancel: {isCancelled, nil}},
	isSuspended: {try: {isSuspended, barrier.ErrSuspended}, confirm: {isSuspended, barrier.ErrConflict}, cancel: {isSuspended, nil}},
}

// sequences returns all sequences of up to n calls.
func sequences(n int) (all [][]barrier.Op) {
	if n == 0 {
		return [][]barrier.Op{nil}
	}
	all = sequences(n - 1)
	for _, s := range all {
		if len(s) == n-1 {
			for _, op := range []barrier.Op{try, confirm, cancel} {
				all = append(all, append(s[:len(s):len(s)], op))
			}
		}
	}
	return all
}

// Every sequence of three calls, also repeated, late and in the wrong order, on the connection
// that has prepared the transaction, and on another one.
func TestVerdicts(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		id := 100
		for name, elsewhere := range map[string]bool{"one process": false, "each call in another process": true} {
			d := open(t, db)
			if elsewhere {
				d.Close() // prepared transactions are not held
			}
			for _, calls := range sequences(3) {
				if len(calls) < 3 {
					continue // they begin longer ones
				}
				id++
				sqltest.Exec(t, db, "INSERT INTO numbers VALUES (?, 0)", id)
				runs := new(atomic.Int32)
				c := newCaller(t, d, adder{before: func(context.Context, *gorm.DB, add) error { runs.Add(1); return nil }}, gidOf(t, db))
				c.in = add{id, 5}
				t.Run(fmt.Sprintf("%s: %v", name, calls), func(t *testing.T) {
					t.Parallel()
					c.t = t
					followed(t, db, c, calls)
					// A repeated Try does not do the work again.
					if did := slices.Contains(calls, try) && (!slices.Contains(calls, cancel) || slices.Index(calls, try) < slices.Index(calls, cancel)); did != (runs.Load() == 1) {
						t.Errorf("the work ran %d times", runs.Load())
					}
				})
			}
		}
	})
}

// followed makes the calls and compares with the verdicts.
func followed(t *testing.T, db *gorm.DB, c *caller, calls []barrier.Op) {
	is := isNew
	for i, op := range calls {
		want := verdicts[is][op]
		if err := c.call(t.Context(), op); !errors.Is(err, want.want) || err != nil && want.want == nil {
			t.Errorf("call %d: %v, want %v", i+1, err, want.want)
		}
		is = want.then
	}
	added, row := 0, barrier.State(is)
	switch is {
	case isConfirmed:
		added = 5
	case isNew, isPrepared:
		row = ""
	}
	if got := number(t, db, c.in.ID); got != added {
		t.Errorf("added %d, want %d", got, added)
	}
	if got := state(t, db, c.gid); got != row {
		t.Errorf("the row is %q, want %q", got, row)
	}
	if is == isPrepared != (len(prepared(t, db, c.gid)) == 1) || is == isPrepared != locked(db, c.in.ID) {
		t.Errorf("prepared are %v", prepared(t, db, c.gid))
	}
	if is == isPrepared {
		c.must(cancel)
	}
}
