package embedded_test

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"sync/atomic"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/sagatest"
)

// careless is a branch with a best-effort statement whose error it ignores. The
// statement loses a deadlock while calls are armed. The branch notes each call in
// the table effects, before that statement and after it.
type careless struct {
	t     *testing.T
	db    *gorm.DB // where it works
	op    barrier.Op
	armed atomic.Int64 // so many calls of op lose a deadlock
	lost  atomic.Int64 // and so many have
	last  bool         // it is the last statement
	named bool         // its WorkBatch reports the deadlock as the failure of one item
	kinds []string     // only branches of these kinds lose one; nil is all
}

var lanes atomic.Int64

func newCareless(t *testing.T, db *gorm.DB, op barrier.Op, armed int64) *careless {
	t.Helper()
	sagatest.Must(t, db.Exec("CREATE TABLE IF NOT EXISTS effects (gid VARCHAR(64), branch VARCHAR(8), op VARCHAR(8), part INT)").Error)
	sagatest.Must(t, db.Exec("CREATE TABLE IF NOT EXISTS lanes (id INT PRIMARY KEY, n INT NOT NULL)").Error)
	c := &careless{t: t, db: db, op: op}
	c.armed.Store(armed)
	return c
}

func (c *careless) note(tx *gorm.DB, call saga.Call, part int) error {
	return tx.Exec("INSERT INTO effects VALUES (?, ?, ?, ?)", call.GID, call.BranchID, string(call.Op), part).Error
}

func (c *careless) inside(_ context.Context, tx *gorm.DB, call saga.Call) error {
	if err := c.note(tx, call, 1); err != nil {
		return err
	}
	if c.last {
		if err := c.note(tx, call, 2); err != nil {
			return err
		}
	}
	if c.meets(call) {
		_ = c.deadlock(tx)
	}
	if c.last {
		return nil
	}
	return c.note(tx, call, 2)
}

func (c *careless) meets(call saga.Call) bool {
	return call.Op == c.op && (c.kinds == nil || slices.Contains(c.kinds, call.Kind)) && c.armed.Add(-1) >= 0
}

func (c *careless) together(_ context.Context, tx *gorm.DB, op barrier.Op, calls []saga.BatchCall) ([]error, error) {
	failures := make([]error, len(calls))
	for i, call := range calls {
		err := c.note(tx, call.Call, 1)
		if i == len(calls)/2 && c.meets(call.Call) {
			if lost := c.deadlock(tx); c.named {
				failures[i] = lost
				continue
			}
		}
		if err := errors.Join(err, c.note(tx, call.Call, 2)); err != nil {
			if !c.named {
				return nil, err
			}
			failures[i] = err
		}
	}
	return failures, nil
}

// deadlock lets the local transaction that has tx lose a deadlock: the other one
// has done more work, so that MySQL does not choose it.
func (c *careless) deadlock(tx *gorm.DB) error {
	lane := 1000 * lanes.Add(1)
	if err := c.db.Exec("INSERT INTO lanes VALUES (?, 0), (?, 0)", lane, lane+1).Error; err != nil {
		c.t.Error(err)
		return err
	}
	if err := tx.Exec("UPDATE lanes SET n = n + 1 WHERE id = ?", lane).Error; err != nil {
		c.armed.Add(1) // the batch was too slow, and its local transaction is over: another call loses one
		return err
	}
	other := c.db.Begin()
	defer other.Rollback()
	more := other.Exec("INSERT INTO lanes SELECT ? + seq, 0 FROM seq_10_to_900", lane).Error
	if err := errors.Join(more, other.Exec("UPDATE lanes SET n = n + 1 WHERE id = ?", lane+1).Error); err != nil {
		c.t.Error(err)
		return err
	}
	met := make(chan error, 1)
	go func() { met <- other.Exec("UPDATE lanes SET n = n + 1 WHERE id = ?", lane).Error }()
	err := tx.Exec("UPDATE lanes SET n = n + 1 WHERE id = ?", lane+1).Error
	if other := <-met; err == nil || other != nil {
		c.t.Errorf("the branch should have lost the deadlock: %v; the other one: %v", err, other)
	}
	c.lost.Add(1)
	return err
}

// check checks that what was told of a transaction is in the log, in the barrier and
// in the tables of the branches. It looks at the committed rows directly.
func (c *careless) check(log *gorm.DB, gid string, told saga.State, branches int) {
	c.t.Helper()
	var state string
	c.read(log, &state, "SELECT COALESCE(MAX(state), 'absent') FROM saga_transactions WHERE gid = ?", gid)
	if state != string(told) {
		c.t.Errorf("%s: told %q, and the log has it %q", gid, told, state)
	}
	want := map[saga.State]map[string]int64{
		saga.Confirmed: {"try": 1, "confirm": 1}, saga.Cancelled: {"try": 1, "cancel": 1},
	}[told]
	for n := range branches {
		id := saga.BranchID(n + 1)
		var row string
		c.read(c.db, &row, "SELECT COALESCE(MAX(state), 'absent') FROM saga_barrier WHERE gid = ? AND branch_id = ?", gid, id)
		effects := map[string]int64{}
		for _, op := range []string{"try", "confirm", "cancel"} {
			for part := range 2 {
				var n int64
				c.read(c.db, &n, "SELECT COUNT(*) FROM effects WHERE gid = ? AND branch = ? AND op = ? AND part = ?", gid, id, op, part+1)
				if part == 1 && n != effects[op] {
					c.t.Errorf("%s/%s: %s has %d first halves and %d second ones", gid, id, op, effects[op], n)
				}
				effects[op] = n
			}
		}
		if told == saga.Cancelled && (row == "absent" || row == "suspended") && effects["try"] == 0 && effects["cancel"] == 0 {
			continue // it was rolled back as a whole, or never came
		}
		if row != string(told) {
			c.t.Errorf("%s/%s: told %q, and the barrier says %q", gid, id, told, row)
		}
		for _, op := range []string{"try", "confirm", "cancel"} {
			if effects[op] != want[op] {
				c.t.Errorf("%s/%s is told %q, and %s had its effect %d times", gid, id, told, op, effects[op])
			}
		}
	}
}

// barred is check without a log.
func (c *careless) barred(gid string, told saga.State) {
	c.t.Helper()
	var row sql.NullString
	var effects int64
	c.read(c.db, &row, "SELECT MAX(state) FROM saga_barrier WHERE gid = ?", gid)
	c.read(c.db, &effects, "SELECT COUNT(*) FROM effects WHERE gid = ?", gid)
	if row.String != string(told) || effects != 4 {
		c.t.Errorf("%s: told %s, and the barrier says %q, with %d effects of 4", gid, told, row.String, effects)
	}
}

// read scans what a query returns; it may be called from any goroutine.
func (c *careless) read(db *gorm.DB, into any, query string, arguments ...any) {
	c.t.Helper()
	if err := db.Raw(query, arguments...).Scan(into).Error; err != nil {
		c.t.Error(err)
	}
}
