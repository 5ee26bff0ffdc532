package tcctest_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
	"github.com/tccsaga/tccsaga/tcc/tcctest"
)

// planted is a fault of a branch, and what is said of it: each sentence, and no
// other.
type planted struct {
	plant func(t testing.TB, db *gorm.DB, c *credit)
	want  func(c *tcctest.Case[hold]) // changes the case; may be nil
	says  []string
}

func (p planted) check(t *testing.T, db *gorm.DB) {
	t.Helper()
	open(t, db)
	branch, c := newCredit(), thirty()
	p.plant(t, db, branch)
	if p.want != nil {
		p.want(&c)
	}
	got := record(t, func(t testing.TB) { tcctest.Exercise(t, db, branch, c) })
	t.Logf("said:\n%s", got)
	for _, says := range p.says {
		if !strings.Contains(got, says) {
			t.Errorf("it does not say:\n%s", says)
		}
	}
	if lines := strings.Count(got, "\n") + 1; lines != len(p.says) {
		t.Errorf("it says %d sentences, want %d", lines, len(p.says))
	}
}

type fullCase = tcctest.Case[hold]

// Each fault is found, and the message says what is wrong, where and what to do.
func TestPlantedFaults(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]planted{
		"Cancel gives back another amount": {plant: func(_ testing.TB, _ *gorm.DB, c *credit) {
			c.cancel = func(ctx context.Context, tx *gorm.DB, in hold) error {
				return must(tx, "UPDATE account SET held = 0, free = free + ?, spent = spent + 5", in.Cents-5)
			}
		}, says: []string{"credit.hold, after Try, Cancel: the state is {Free:95 Held:0 Spent:5}, want {Free:100 Held:0 Spent:0}: let Cancel give back exactly what Try has reserved, or state what it leaves as Case.Cancelled if that is right"}},

		"Confirm changes the wrong column": {plant: func(_ testing.TB, _ *gorm.DB, c *credit) {
			c.confirm = func(ctx context.Context, tx *gorm.DB, in hold) error {
				return must(tx, "UPDATE account SET free = free - ?, spent = spent + ?", in.Cents, in.Cents)
			}
		}, says: []string{"credit.hold, after Try, Confirm: the state is {Free:40 Held:30 Spent:30}, want {Free:70 Held:0 Spent:30}: that is not Case.Confirmed: look for a wrong column, amount or condition"}},

		"Try changes the wrong column": {plant: func(_ testing.TB, _ *gorm.DB, c *credit) {
			c.try = func(ctx context.Context, tx *gorm.DB, in hold) error {
				return change(tx, "UPDATE account SET free = free - ?, spent = spent + ? WHERE free >= ?", in.Cents, in.Cents, in.Cents)
			}
		}, says: []string{"credit.hold, after Try: the state is {Free:70 Held:0 Spent:30}, want {Free:70 Held:30 Spent:0}: that is not Case.Tried"}},

		"Confirm gives back": {plant: func(_ testing.TB, _ *gorm.DB, c *credit) { c.confirm = c.cancel }, want: func(c *fullCase) { c.Confirmed = nil },
			says: []string{"credit.hold, after Try, Confirm: the state is {Free:100 Held:0 Spent:0} again, as before Try: let Confirm use what Try has reserved, or state this as Case.Confirmed if it is right"}},

		"a wanted state is of another type": {plant: func(testing.TB, *gorm.DB, *credit) {}, want: func(c *fullCase) { c.Tried = &account{70, 30, 0} },
			says: []string{"credit.hold, after Try: the state is {Free:70 Held:30 Spent:0}, want &{Free:70 Held:30 Spent:0}"}},

		"Try oversells": {plant: func(_ testing.TB, _ *gorm.DB, c *credit) {
			c.try = func(ctx context.Context, tx *gorm.DB, in hold) error {
				return change(tx, "UPDATE account SET free = free - ?, held = held + ?", in.Cents, in.Cents)
			}
		}, says: []string{"credit.hold, after Try of 10 transactions at once: what must hold does not: {Free:-200 Held:300 Spent:0} does not add up to 100, or is negative: check and change in one statement"}},

		"Try fails when there is too little": {plant: func(_ testing.TB, _ *gorm.DB, c *credit) {
			try := c.try
			c.try = func(ctx context.Context, tx *gorm.DB, in hold) error {
				var no *saga.Rejection
				if err := try(ctx, tx, in); errors.As(err, &no) {
					return errors.New("too little")
				} else {
					return err
				}
			}
		}, says: []string{"credit.hold, after Try of 10 transactions at once: 7 of them failed without a rejection: too little: return tcc.Reject when there is too little"}},

		"Confirm keeps state in memory": {plant: func(_ testing.TB, _ *gorm.DB, c *credit) {
			done := map[string]bool{}
			confirm := c.confirm
			c.confirm = func(ctx context.Context, tx *gorm.DB, in hold) error {
				key := tcc.CallOf(ctx).Key().String()
				if done[key] {
					return nil
				}
				done[key] = true
				return confirm(ctx, tx, in)
			}
		}, says: []string{
			"credit.hold, after Try, Confirm, and a crash before its commit, Confirm: the state is {Free:70 Held:30 Spent:0}, want {Free:70 Held:0 Spent:30}: do all work with the tx that the method is given, and keep nothing in memory",
		}},

		"Try ignores an error of the database": {plant: func(_ testing.TB, _ *gorm.DB, c *credit) {
			try := c.try
			c.try = func(ctx context.Context, tx *gorm.DB, in hold) error {
				var no *saga.Rejection
				if err := try(ctx, tx, in); errors.As(err, &no) {
					return err
				}
				return nil
			}
		}, says: []string{"credit.hold, after Try, of which statement 1 fails: Try returned nil, want the error of statement 1 (UPDATE account SET free = free - ?, held = held + ? WHERE free >= ?): return the error of every statement, because the database may have rolled all back, and what follows would commit alone"}},

		"Confirm ignores the error of a statement that it takes for dispensable": {plant: func(_ testing.TB, _ *gorm.DB, c *credit) {
			confirm := c.confirm
			c.confirm = func(ctx context.Context, tx *gorm.DB, in hold) error {
				_ = tx.Exec("UPDATE account SET free = free + 0").Error
				return confirm(ctx, tx, in)
			}
		}, says: []string{"credit.hold, after Try, Confirm, of which statement 1 fails: Confirm returned nil, want the error of statement 1 (UPDATE account SET free = free + 0)"}},

		"Confirm does not look at the rows affected": {plant: func(_ testing.TB, _ *gorm.DB, c *credit) {
			c.confirm = func(ctx context.Context, tx *gorm.DB, in hold) error {
				return tx.Exec("UPDATE account SET held = held - ?, spent = spent + ? WHERE held >= ?", in.Cents, in.Cents, in.Cents).Error
			}
		}, says: []string{"credit.hold, after Try, Confirm, of which statement 1 (UPDATE account SET held = held - ?, spent = spent + ? WHERE held >= ?) changes no row: Confirm returned nil and the state is {Free:70 Held:30 Spent:0}, want {Free:70 Held:0 Spent:30}: look at the rows affected, and return an error if there are too few"}},

		"Cancel does not look at the rows affected": {plant: func(_ testing.TB, _ *gorm.DB, c *credit) {
			c.cancel = func(ctx context.Context, tx *gorm.DB, in hold) error {
				return tx.Table("account").Where("held >= ?", in.Cents).Updates(map[string]any{
					"held": gorm.Expr("held - ?", in.Cents), "free": gorm.Expr("free + ?", in.Cents)}).Error
			}
		}, says: []string{"changes no row: Cancel returned nil and the state is {Free:70 Held:30 Spent:0}, want {Free:100 Held:0 Spent:0}: look at the rows affected"}},

		"Confirm commits by itself": {plant: func(_ testing.TB, _ *gorm.DB, c *credit) {
			confirm := c.confirm
			c.confirm = func(ctx context.Context, tx *gorm.DB, in hold) error {
				return errors.Join(confirm(ctx, tx, in), tx.Commit().Error)
			}
		}, says: []string{"credit.hold, after Try, Confirm: Confirm commits or rolls back its tx: leave that to the framework, and return an error to roll back"}},

		"Try rejects everybody": {plant: func(_ testing.TB, _ *gorm.DB, c *credit) {
			c.try = func(context.Context, *gorm.DB, hold) error { return tcc.Reject(errors.New("no")) }
		}, says: []string{"credit.hold, after Try: Try failed: no: Case.Payload has to be one that Try accepts after Case.Reset"}},

		"nothing is changed": {plant: func(_ testing.TB, _ *gorm.DB, c *credit) {
			nothing := func(context.Context, *gorm.DB, hold) error { return nil }
			c.try, c.confirm, c.cancel = nothing, nothing, nothing
		}, want: func(c *fullCase) { c.Tried, c.Confirmed = nil, nil },
			says: []string{"credit.hold, after Try, Confirm: neither Try nor Confirm changes the state, {Free:100 Held:0 Spent:0}, so that nothing can be judged by it: let Case.State return all that the branch works on"}},
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); c.check(t, sqltest.Open(t, "sqlite")) })
	}
}

// A branch that does not end with its context does not hold up the test.
func TestContextsThatAreIgnored(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]planted{
		"a statement": {plant: func(_ testing.TB, _ *gorm.DB, c *credit) {
			confirm := c.confirm
			c.confirm = func(_ context.Context, tx *gorm.DB, in hold) error {
				ctx := context.Background()
				return confirm(ctx, tx.WithContext(ctx), in)
			}
		}, says: []string{"credit.hold, after Try, Confirm, whose context ends during statement 1: statement 1 (UPDATE account SET held = held - "}},

		"all of it": {plant: func(t testing.TB, _ *gorm.DB, c *credit) {
			forever := make(chan struct{})
			t.Cleanup(func() { close(forever) })
			c.confirm = func(context.Context, *gorm.DB, hold) error { <-forever; return nil }
		}, want: func(c *fullCase) { c.Limit = 300 * time.Millisecond },
			says: []string{"credit.hold, after Try, Confirm: Confirm has not returned 300ms after its context had ended, and the exercise is over: hand the ctx on to all that waits, and return when it ends"}},

		"waits now and then": {plant: func(t testing.TB, _ *gorm.DB, c *credit) {
			forever := make(chan struct{})
			t.Cleanup(func() { close(forever) })
			cancel, calls := c.cancel, 0
			c.cancel = func(ctx context.Context, tx *gorm.DB, in hold) error {
				if calls++; calls > 5 {
					<-forever
				}
				return cancel(ctx, tx, in)
			}
		}, want: func(c *fullCase) { c.Limit = 2 * time.Second },
			says: []string{"Cancel has not returned 2s after its context had ended"}},
	} {
		for _, dialect := range sqltest.Dialects {
			t.Run(name+"/"+dialect, func(t *testing.T) { t.Parallel(); c.check(t, sqltest.Open(t, dialect)) })
		}
	}
}
