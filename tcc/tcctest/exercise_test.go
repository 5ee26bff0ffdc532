package tcctest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
			return tx.Exec("UPDATE account SET held = held - ?, spent = spent + ?", in.Cents, in.Cents).Error
		},
		cancel: func(ctx context.Context, tx *gorm.DB, in hold) error {
			return tx.Exec("UPDATE account SET held = held - ?, free = free + ?", in.Cents, in.Cents).Error
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

// Each fault is found, and the message names the order of calls.
func TestPlantedFaults(t *testing.T) {
	t.Parallel()
	var db *gorm.DB
	cases := map[string]struct {
		plant func(*credit)
		says  string
	}{
		"Cancel gives back another amount": {func(c *credit) {
			c.cancel = func(ctx context.Context, tx *gorm.DB, in hold) error {
				return tx.Exec("UPDATE account SET held = 0, free = free + ?, spent = spent + 5", in.Cents-5).Error
			}
		}, "credit.hold, after Try, Cancel: the state is {Free:95 Held:0 Spent:5}, want {Free:100 Held:0 Spent:0}"},
		"Try oversells": {func(c *credit) {
			c.try = func(ctx context.Context, tx *gorm.DB, in hold) error {
				return tx.Exec("UPDATE account SET free = free - ?, held = held + ?", in.Cents, in.Cents).Error
			}
		}, "after Try of 10 transactions at once: what must hold does not: {Free:-200 Held:300 Spent:0}"},
		"Cancel ignores an empty rollback, outside the barrier": {func(c *credit) {
			cancel := c.cancel
			c.cancel = func(ctx context.Context, tx *gorm.DB, in hold) error { return cancel(ctx, tx, in) }
			c.try = func(ctx context.Context, tx *gorm.DB, in hold) error { return nil }
		}, "after Try, Cancel"},
		"Confirm keeps state in memory": {func(c *credit) {
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
		}, "after Try, Confirm, and a crash before its commit, Confirm: the state is {Free:70 Held:30 Spent:0}"},
		"Try ignores an error of the database": {func(c *credit) {
			try := c.try
			c.try = func(ctx context.Context, tx *gorm.DB, in hold) error {
				if err := try(ctx, tx, in); err != nil {
					var no interface{ Rejected() bool }
					if !errors.As(err, &no) {
						return nil
					}
					return err
				}
				return nil
			}
		}, "after Try, of which statement 1 fails: Try says that it succeeded. A statement failed: return its error"},
		"Confirm commits by itself": {func(c *credit) {
			confirm := c.confirm
			c.confirm = func(ctx context.Context, tx *gorm.DB, in hold) error {
				return errors.Join(confirm(ctx, tx, in), tx.Commit().Error)
			}
		}, "after Try, Confirm: Confirm failed"},
		"Try says no to everybody": {func(c *credit) {
			c.try = func(context.Context, *gorm.DB, hold) error { return tcc.Reject(errors.New("no")) }
		}, "after Try: Try failed: no"},
		"nothing is changed": {func(c *credit) {
			nothing := func(context.Context, *gorm.DB, hold) error { return nil }
			c.try, c.confirm, c.cancel = nothing, nothing, nothing
		}, "nothing can be judged by it"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			db = sqltest.Open(t, "sqlite")
			open(t, db)
			branch := newCredit()
			c.plant(branch)
			got := record(t, func(t testing.TB) { tcctest.Exercise(t, db, branch, thirty()) })
			if !strings.Contains(got, c.says) {
				t.Errorf("said:\n%s\nwant:\n%s", got, c.says)
			}
		})
	}
}

// bulk is the branch with a bulk interface, without fault unless one is planted.
type bulk struct {
	*credit
	tryAll     func(ctx context.Context, tx *gorm.DB, items []tcc.Item[hold]) ([]error, error)
	confirmAll func(ctx context.Context, tx *gorm.DB, items []tcc.Item[hold]) error
}

func newBulk() *bulk {
	b := &bulk{credit: newCredit()}
	b.tryAll = func(ctx context.Context, tx *gorm.DB, items []tcc.Item[hold]) ([]error, error) {
		a := account{}
		if err := tx.Raw("SELECT free FROM account").Scan(&a).Error; err != nil {
			return nil, err
		}
		failures, sum := make([]error, len(items)), 0
		for i, item := range items {
			if sum+item.In.Cents > a.Free {
				failures[i] = tcc.Reject(errors.New("credit is short"))
				continue
			}
			sum += item.In.Cents
		}
		return failures, tx.Exec("UPDATE account SET free = free - ?, held = held + ?", sum, sum).Error
	}
	b.confirmAll = func(ctx context.Context, tx *gorm.DB, items []tcc.Item[hold]) error {
		sum := 0
		for _, item := range items {
			sum += item.In.Cents
		}
		return tx.Exec("UPDATE account SET held = held - ?, spent = spent + ?", sum, sum).Error
	}
	return b
}

func (b *bulk) TryAll(ctx context.Context, tx *gorm.DB, items []tcc.Item[hold]) ([]error, error) {
	return b.tryAll(ctx, tx, items)
}

func (b *bulk) ConfirmAll(ctx context.Context, tx *gorm.DB, items []tcc.Item[hold]) error {
	return b.confirmAll(ctx, tx, items)
}

func TestBulkBranches(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "sqlite")
	open(t, db)
	tcctest.Exercise(t, db, newBulk(), thirty())
	for name, c := range map[string]struct {
		plant func(*bulk)
		says  string
	}{
		"TryAll takes the first only": {func(b *bulk) {
			all := b.tryAll
			b.tryAll = func(ctx context.Context, tx *gorm.DB, items []tcc.Item[hold]) ([]error, error) {
				return all(ctx, tx, items[:1])
			}
		}, "TryAll of 3 returned 1 failures"},
		"ConfirmAll takes the first only": {func(b *bulk) {
			all := b.confirmAll
			b.confirmAll = func(ctx context.Context, tx *gorm.DB, items []tcc.Item[hold]) error { return all(ctx, tx, items[:1]) }
		}, "ConfirmAll of 3 transactions: the state is {Free:10 Held:60 Spent:30}, want {Free:10 Held:0 Spent:90}"},
		"TryAll oversells": {func(b *bulk) {
			b.tryAll = func(ctx context.Context, tx *gorm.DB, items []tcc.Item[hold]) ([]error, error) {
				sum := len(items) * 30
				return nil, tx.Exec("UPDATE account SET free = free - ?, held = held + ?", sum, sum).Error
			}
		}, "TryAll of 5 transactions: what must hold does not: {Free:-50 Held:150 Spent:0}"},
		"TryAll rejects all if one is too much": {func(b *bulk) {
			all := b.tryAll
			b.tryAll = func(ctx context.Context, tx *gorm.DB, items []tcc.Item[hold]) ([]error, error) {
				if len(items) > 3 {
					return slices.Repeat([]error{tcc.Reject(errors.New("credit is short"))}, len(items)), nil
				}
				return all(ctx, tx, items)
			}
		}, "5 were rejected, and Case.Capacity is 3"},
		"TryAll is refused by the database": {func(b *bulk) {
			b.tryAll = func(ctx context.Context, tx *gorm.DB, items []tcc.Item[hold]) ([]error, error) {
				return nil, errors.New("no such column")
			}
		}, "TryAll failed: no such column"},
		"TryAll works elsewhere": {func(b *bulk) {
			b.tryAll = func(ctx context.Context, tx *gorm.DB, items []tcc.Item[hold]) ([]error, error) {
				return nil, errors.Join(tx.Exec("UPDATE account SET free = free - 90, held = held + 90").Error, tx.Commit().Error)
			}
		}, "a crash before the commit"},
	} {
		t.Run(name, func(t *testing.T) {
			db := sqltest.Open(t, "sqlite")
			open(t, db)
			branch := newBulk()
			c.plant(branch)
			got := record(t, func(t testing.TB) { tcctest.Exercise(t, db, branch, thirty()) })
			if !strings.Contains(got, c.says) {
				t.Errorf("said:\n%s\nwant:\n%s", got, c.says)
			}
		})
	}
}

// A branch that works on a connection of its own escapes the barrier.
func TestOwnConnection(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "mysql")
	open(t, db)
	branch := newCredit()
	try := branch.try
	branch.try = func(ctx context.Context, _ *gorm.DB, in hold) error { return try(ctx, db.WithContext(ctx), in) }
	got := record(t, func(t testing.TB) { tcctest.Exercise(t, db, branch, thirty()) })
	says := "after Try, and a crash before its commit: the state is {Free:70 Held:30 Spent:0}, want {Free:100 Held:0 Spent:0}"
	if !strings.Contains(got, says) {
		t.Errorf("said:\n%s\nwant:\n%s", got, says)
	}
}

// gateway is the other side of a branch without a database.
type gateway struct {
	mu                sync.Mutex
	free, held, spent int
	by                map[string]string // what was done, by key
}

type charge struct{ Cents int }

func (charge) Branch() string { return "gateway.charge" }

// external is a branch without fault, unless one is planted.
type external struct {
	*gateway
	blindCancel bool // gives back what was never reserved
	noKey       bool // confirms again when it is called again
	oversells   bool
}

func (e external) Try(ctx context.Context, in charge) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.free < in.Cents && !e.oversells {
		return tcc.Reject(errors.New("credit is short"))
	}
	e.free, e.held = e.free-in.Cents, e.held+in.Cents
	e.by[tcc.CallOf(ctx).Key().String()] = "held"
	return nil
}

func (e external) Confirm(ctx context.Context, in charge) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if key := tcc.CallOf(ctx).Key().String(); e.noKey || e.by[key] == "held" {
		e.by[key] = "spent"
		e.held, e.spent = e.held-in.Cents, e.spent+in.Cents
	}
	return nil
}

func (e external) Cancel(ctx context.Context, in charge) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if key := tcc.CallOf(ctx).Key().String(); e.blindCancel || e.by[key] == "held" {
		e.by[key] = "free"
		e.held, e.free = e.held-in.Cents, e.free+in.Cents
	}
	return nil
}

func exerciseGateway(t testing.TB, db *gorm.DB, branch external) {
	g := branch.gateway
	tcctest.ExerciseExternal(t, db, branch, tcctest.Case[charge]{
		Payload: charge{30},
		Reset: func(context.Context, *gorm.DB) error {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.free, g.held, g.spent, g.by = 100, 0, 0, map[string]string{}
			return nil
		},
		State: func(context.Context, *gorm.DB) (any, error) {
			g.mu.Lock()
			defer g.mu.Unlock()
			return account{g.free, g.held, g.spent}, nil
		},
		Capacity: 3,
	})
}

func TestExternalBranches(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "sqlite")
	exerciseGateway(t, db, external{gateway: &gateway{}})
	for says, branch := range map[string]external{
		"after Try, marked and never sent because of a crash, Cancel: the state is {Free:130 Held:-30 Spent:0}": {blindCancel: true},
		"after Try, Confirm, of which the reply is lost, Confirm: the state is {Free:70 Held:-30 Spent:60}":     {noKey: true},
		"10 Trys succeeded, and Case.Capacity is 3":                                                             {oversells: true},
	} {
		branch.gateway = &gateway{}
		if got := record(t, func(t testing.TB) { exerciseGateway(t, db, branch) }); !strings.Contains(got, says) {
			t.Errorf("said:\n%s\nwant:\n%s", got, says)
		}
	}
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
		"run sql.Migrate":       func(t testing.TB) { tcctest.Exercise(t, empty, newCredit(), whole) },
		"the branch is nil":     func(t testing.TB) { tcctest.Exercise[hold](t, db, nil, whole) },
		"Case.Capacity is nega": func(t testing.TB) { bad := whole; bad.Capacity = -1; tcctest.Exercise(t, db, newCredit(), bad) },
	} {
		if got := record(t, exercise); !strings.Contains(got, says) {
			t.Errorf("said:\n%s\nwant:\n%s", got, says)
		}
	}
}
