package tcctest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
	"github.com/tccsaga/tccsaga/tcc/tcctest"
)

// hold holds cents of an account.
type hold struct{ Cents int }

func (hold) Branch() string { return "credit.hold" }

// credit is a branch without fault, whose parts the planted faults replace.
type credit struct {
	try, confirm, cancel func(ctx context.Context, tx *gorm.DB, in hold) error
}

func newCredit() *credit {
	return &credit{
		try: func(ctx context.Context, tx *gorm.DB, in hold) error {
			return change(tx, "UPDATE account SET free = free - ?, held = held + ? WHERE free >= ?", in.Cents, in.Cents, in.Cents)
		},
		confirm: func(ctx context.Context, tx *gorm.DB, in hold) error {
			return must(tx, "UPDATE account SET held = held - ?, spent = spent + ?", in.Cents, in.Cents)
		},
		cancel: func(ctx context.Context, tx *gorm.DB, in hold) error {
			return must(tx, "UPDATE account SET held = held - ?, free = free + ?", in.Cents, in.Cents)
		},
	}
}

func change(tx *gorm.DB, statement string, arguments ...any) error {
	result := tx.Exec(statement, arguments...)
	if result.Error == nil && result.RowsAffected == 0 {
		return tcc.Reject(errors.New("credit is short"))
	}
	return result.Error
}

// must makes a statement that has to change the account.
func must(tx *gorm.DB, statement string, arguments ...any) error {
	result := tx.Exec(statement, arguments...)
	if result.Error == nil && result.RowsAffected != 1 {
		return errors.New("the account is gone")
	}
	return result.Error
}

func (c *credit) Try(ctx context.Context, tx *gorm.DB, in hold) error { return c.try(ctx, tx, in) }
func (c *credit) Confirm(ctx context.Context, tx *gorm.DB, in hold) error {
	return c.confirm(ctx, tx, in)
}
func (c *credit) Cancel(ctx context.Context, tx *gorm.DB, in hold) error {
	return c.cancel(ctx, tx, in)
}

type account struct{ Free, Held, Spent int }

func open(t testing.TB, db *gorm.DB) {
	t.Helper()
	if err := db.Exec("CREATE TABLE account (free INT NOT NULL, held INT NOT NULL, spent INT NOT NULL)").Error; err != nil {
		t.Fatal(err)
	}
	if err := db.Exec("INSERT INTO account VALUES (0, 0, 0)").Error; err != nil {
		t.Fatal(err)
	}
}

func read(ctx context.Context, db *gorm.DB) (a account, err error) {
	return a, db.WithContext(ctx).Raw("SELECT free, held, spent FROM account").Scan(&a).Error
}

// thirty is the case of 30 cents of a hundred.
func thirty() tcctest.Case[hold] {
	return tcctest.Case[hold]{
		Name:    "thirty",
		Payload: hold{30},
		Reset: func(ctx context.Context, db *gorm.DB) error {
			return db.WithContext(ctx).Exec("UPDATE account SET free = 100, held = 0, spent = 0").Error
		},
		State: func(ctx context.Context, db *gorm.DB) (any, error) { return read(ctx, db) },
		Holds: func(ctx context.Context, db *gorm.DB) error {
			if a, err := read(ctx, db); err != nil || a.Free+a.Held+a.Spent != 100 || a.Free < 0 {
				return errors.Join(fmt.Errorf("%+v does not add up to 100, or is negative", a), err)
			}
			return nil
		},
		Tried: account{70, 30, 0}, Confirmed: account{70, 0, 30},
		Capacity: 3,
	}
}

func TestBranchWithoutFault(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		open(t, db)
		tcctest.Exercise(t, db, newCredit(), thirty())
	})
}

// recorder is a test that may fail.
type recorder struct {
	testing.TB
	mu    sync.Mutex
	fails []string
}

func (r *recorder) Errorf(format string, arguments ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fails = append(r.fails, fmt.Sprintf(format, arguments...))
}

func (r *recorder) Fatalf(format string, arguments ...any) {
	r.Errorf(format, arguments...)
	panic(r)
}

// record runs exercise and returns what it complains of.
func record(t testing.TB, exercise func(t testing.TB)) string {
	t.Helper()
	r := &recorder{TB: t}
	func() {
		defer func() {
			if p := recover(); p != nil && p != any(r) {
				panic(p)
			}
		}()
		exercise(r)
	}()
	return strings.Join(r.fails, "\n")
}

// What cannot be exercised is refused with a word.
func TestUselessCases(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "sqlite")
	open(t, db)
	empty := sqltest.Connect(t, sqltest.Create(t, "sqlite"), &gorm.Config{})
	whole := thirty()
	for says, exercise := range map[string]func(t testing.TB){
		"there is no case":      func(t testing.TB) { tcctest.Exercise(t, db, newCredit()) },
		"Case.Reset is nil":     func(t testing.TB) { tcctest.Exercise(t, db, newCredit(), tcctest.Case[hold]{State: whole.State}) },
		"Case.State is nil":     func(t testing.TB) { tcctest.Exercise(t, db, newCredit(), tcctest.Case[hold]{Reset: whole.Reset}) },
		"run schema.Migrate":    func(t testing.TB) { tcctest.Exercise(t, empty, newCredit(), whole) },
		"the branch is nil":     func(t testing.TB) { tcctest.Exercise[hold](t, db, nil, whole) },
		"Case.Capacity is nega": func(t testing.TB) { bad := whole; bad.Capacity = -1; tcctest.Exercise(t, db, newCredit(), bad) },
	} {
		if got := record(t, exercise); !strings.Contains(got, says) {
			t.Errorf("said:\n%s\nwant:\n%s", got, says)
		}
	}
}
