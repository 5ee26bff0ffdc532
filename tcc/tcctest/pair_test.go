package tcctest_test

import (
	"context"
	"errors"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
	"github.com/tccsaga/tccsaga/tcc/tcctest"
)

// stale reads the account, computes, and writes back what it has computed.
func stale(lock string, change func(a *account, cents int) error) func(context.Context, *gorm.DB, hold) error {
	return func(ctx context.Context, tx *gorm.DB, in hold) error {
		var a account
		if err := tx.Raw("SELECT free, held, spent FROM account" + lock).Scan(&a).Error; err != nil {
			return err
		}
		if err := change(&a, in.Cents); err != nil {
			return err
		}
		return must(tx, "UPDATE account SET free = ?, held = ?, spent = ?", a.Free, a.Held, a.Spent)
	}
}

func staleTry(a *account, cents int) error {
	if a.Free < cents {
		return tcc.Reject(errors.New("credit is short"))
	}
	a.Free, a.Held = a.Free-cents, a.Held+cents
	return nil
}

func staleConfirm(a *account, cents int) error {
	a.Held, a.Spent = a.Held-cents, a.Spent+cents
	return nil
}

func staleCancel(a *account, cents int) error {
	a.Held, a.Free = a.Held-cents, a.Free+cents
	return nil
}

// What is read and then written back overwrites what another transaction did.
func TestStaleWrites(t *testing.T) {
	t.Parallel()
	const advice = " as one after the other: change in one statement what it depends on, SET free = free - n, or read it with FOR UPDATE, because what was read before may be old when it is written"
	two := func(c *fullCase) { c.Capacity = 0 } // the order with many may find it too, or may not
	for name, c := range map[string]planted{
		"Try": {plant: func(_ testing.TB, _ *gorm.DB, c *credit) { c.try = stale("", staleTry) }, want: two, says: []string{
			"credit.hold, after Try of 3 transactions at once, the first held before its statement 2: the state is {Free:70 Held:30 Spent:0}, want {Free:10 Held:90 Spent:0}" + advice}},
		"Confirm": {plant: func(_ testing.TB, _ *gorm.DB, c *credit) { c.confirm = stale("", staleConfirm) }, want: two, says: []string{
			"credit.hold, after Try of 3 transactions, Confirm of 3 transactions at once, the first held before its statement 2: the state is {Free:10 Held:60 Spent:30}, want {Free:10 Held:0 Spent:90}" + advice}},
		"Cancel": {plant: func(_ testing.TB, _ *gorm.DB, c *credit) { c.cancel = stale("", staleCancel) }, want: two, says: []string{
			"credit.hold, after Try of 3 transactions, Cancel of 3 transactions at once, the first held before its statement 2: the state is {Free:40 Held:60 Spent:0}, want {Free:100 Held:0 Spent:0}" + advice}},
	} {
		for _, dialect := range []string{"mysql", "postgres"} {
			t.Run(name+"/"+dialect, func(t *testing.T) { t.Parallel(); c.check(t, sqltest.Open(t, dialect)) })
		}
	}
}

// A Try that gives up when another one was faster has changed nothing, and is no
// fault.
func TestOptimisticTry(t *testing.T) {
	t.Parallel()
	for _, dialect := range []string{"mysql", "postgres"} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			db := sqltest.Open(t, dialect)
			open(t, db)
			branch, c := newCredit(), thirty()
			c.Capacity = 0 // of several at once, one succeeds
			branch.try = func(ctx context.Context, tx *gorm.DB, in hold) error {
				var a account
				if err := tx.Raw("SELECT free, held, spent FROM account").Scan(&a).Error; err != nil {
					return err
				}
				return change(tx, "UPDATE account SET free = ?, held = ? WHERE free = ? AND held = ?", a.Free-in.Cents, a.Held+in.Cents, a.Free, a.Held)
			}
			tcctest.Exercise(t, db, branch, c)
		})
	}
}

// What is read with a lock is not stale, and a transaction that waits for the
// lock of another one is no fault.
func TestReadsWithALock(t *testing.T) {
	t.Parallel()
	for _, dialect := range []string{"mysql", "postgres"} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			db := sqltest.Connect(t, sqltest.Create(t, dialect), &gorm.Config{PrepareStmt: true})
			migrate(t, db)
			open(t, db)
			branch := newCredit()
			branch.try, branch.confirm, branch.cancel = stale(" FOR UPDATE", staleTry), stale(" FOR UPDATE", staleConfirm), stale(" FOR UPDATE", staleCancel)
			tcctest.Exercise(t, db, branch, thirty())
		})
	}
}
