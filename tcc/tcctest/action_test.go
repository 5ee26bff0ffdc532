package tcctest_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/action"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc/tcctest"
)

// spend spends cents of an account.
type spend struct{ Cents int }

func (spend) Branch() string { return "credit.spend" }

// spent is the result.
type spent struct{ Cents int }

// spending is an action without fault, whose parts the planted faults replace.
type spending struct {
	do         func(ctx context.Context, tx *gorm.DB, in spend) (spent, error)
	compensate func(ctx context.Context, tx *gorm.DB, in spend, done spent) error
}

func newSpending() *spending {
	return &spending{
		do: func(ctx context.Context, tx *gorm.DB, in spend) (spent, error) {
			return spent(in), change(tx, "UPDATE account SET free = free - ?, spent = spent + ? WHERE free >= ?", in.Cents, in.Cents, in.Cents)
		},
		compensate: func(ctx context.Context, tx *gorm.DB, in spend, done spent) error {
			return must(tx, "UPDATE account SET spent = spent - ?, free = free + ?", done.Cents, done.Cents)
		},
	}
}

func (s *spending) Do(ctx context.Context, tx *gorm.DB, in spend) (spent, error) {
	return s.do(ctx, tx, in)
}

func (s *spending) Compensate(ctx context.Context, tx *gorm.DB, in spend, done spent) error {
	return s.compensate(ctx, tx, in, done)
}

func spendThirty() tcctest.Case[spend] {
	like := thirty()
	return tcctest.Case[spend]{
		Name: "thirty", Payload: spend{30}, Reset: like.Reset, State: like.State, Holds: like.Holds, Tried: account{70, 0, 30}, Capacity: 3,
	}
}

func TestActionWithoutFault(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		open(t, db)
		tcctest.ExerciseAction(t, db, newSpending(), spendThirty())
	})
}

// Each planted fault is reported, in the words of actions.
func TestFaultsOfActions(t *testing.T) {
	t.Parallel()
	kept := 0
	for name, c := range map[string]struct {
		plant func(*spending)
		says  string
	}{
		"Do changes a wrong column": {func(s *spending) {
			s.do = func(ctx context.Context, tx *gorm.DB, in spend) (spent, error) {
				return spent(in), change(tx, "UPDATE account SET free = free - ?, held = held + ? WHERE free >= ?", in.Cents, in.Cents, in.Cents)
			}
		}, "credit.spend, after Do: the state is"},
		"Do has no result": {func(s *spending) {
			do := s.do
			s.do = func(ctx context.Context, tx *gorm.DB, in spend) (spent, error) {
				_, err := do(ctx, tx, in)
				return spent{}, err
			}
		}, "after Do, Compensate: the state is"},
		"Compensate gives back what was in memory": {func(s *spending) {
			do := s.do
			s.do = func(ctx context.Context, tx *gorm.DB, in spend) (spent, error) {
				kept += in.Cents
				return do(ctx, tx, in)
			}
			s.compensate = func(ctx context.Context, tx *gorm.DB, in spend, done spent) error {
				cents := kept
				kept = 0
				return must(tx, "UPDATE account SET spent = spent - ?, free = free + ?", cents, cents)
			}
		}, "Compensate"},
		"Compensate does not look at the rows": {func(s *spending) {
			s.compensate = func(ctx context.Context, tx *gorm.DB, in spend, done spent) error {
				return tx.Exec("UPDATE account SET spent = spent - ?, free = free + ?", done.Cents, done.Cents).Error
			}
		}, "Compensate returned nil and the state is"},
		"Do ignores an error": {func(s *spending) {
			s.do = func(ctx context.Context, tx *gorm.DB, in spend) (spent, error) {
				err := change(tx, "UPDATE account SET free = free - ?, spent = spent + ? WHERE free >= ?", in.Cents, in.Cents, in.Cents)
				if !errors.Is(err, errShort(err)) {
					err = nil
				}
				return spent(in), err
			}
		}, "Do returned nil, want the error of statement 1"},
	} {
		t.Run(name, func(t *testing.T) {
			db := sqltest.Open(t, "sqlite")
			open(t, db)
			s := newSpending()
			c.plant(s)
			got := record(t, func(t testing.TB) { tcctest.ExerciseAction(t, db, s, spendThirty()) })
			if !strings.Contains(got, c.says) || strings.Contains(got, "Try") || strings.Contains(got, "Cancel ") {
				t.Errorf("said:\n%s\nwant:\n%s", got, c.says)
			}
		})
	}
}

// errShort returns err if it is a rejection.
func errShort(err error) error {
	if err != nil && strings.Contains(err.Error(), "credit is short") {
		return err
	}
	return errors.New("another one")
}

// spendOut is the same without a database.
type spendOut struct{ Cents int }

func (spendOut) Branch() string { return "gateway.spend" }

// spendingOut is an external action without fault, unless one is planted.
type spendingOut struct {
	*gateway
	blind bool // gives back what was never spent
}

func (s spendingOut) Do(ctx context.Context, in spendOut) (spent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.free < in.Cents {
		return spent{}, action.Reject(errors.New("credit is short"))
	}
	s.free, s.spent = s.free-in.Cents, s.spent+in.Cents
	s.by[keyOf(ctx)] = "spent"
	return spent(in), nil
}

func (s spendingOut) Compensate(ctx context.Context, in spendOut, done *spent) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if key := keyOf(ctx); s.blind || s.by[key] == "spent" {
		delete(s.by, key)
		s.free, s.spent = s.free+in.Cents, s.spent-in.Cents
	}
	return nil
}

func TestExternalActions(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "sqlite")
	for _, blind := range []bool{false, true} {
		s := spendingOut{&gateway{}, blind}
		got := record(t, func(t testing.TB) {
			tcctest.ExerciseExternalAction(t, db, s, tcctest.Case[spendOut]{
				Payload:  spendOut{30},
				Reset:    func(context.Context, *gorm.DB) error { s.reset(); return nil },
				State:    func(context.Context, *gorm.DB) (any, error) { return s.account(), nil },
				Tried:    account{70, 0, 30},
				Capacity: 3,
			})
		})
		if (got != "") != blind || blind && !strings.Contains(got, "Do, marked and never sent because of a crash, Compensate") {
			t.Errorf("gives back blindly: %t, said:\n%s", blind, got)
		}
	}
}
