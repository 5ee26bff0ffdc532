package tcctest_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/tccsaga/tccsaga/saga/schema"

	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc/tcctest"
)

// In a test: the payload, what it works on, what it must leave, and how often
// there is enough of it.
func ExampleExercise() {
	test := func(t *testing.T) {
		db := sqltest.Open(t, "mysql") // a test database of your own
		open(t, db)
		tcctest.Exercise(t, db, newCredit(), tcctest.Case[hold]{
			Payload: hold{Cents: 30},
			Reset: func(ctx context.Context, db *gorm.DB) error {
				return db.WithContext(ctx).Exec("UPDATE account SET free = 100, held = 0, spent = 0").Error
			},
			State: func(ctx context.Context, db *gorm.DB) (any, error) {
				var row account
				err := db.WithContext(ctx).Raw("SELECT free, held, spent FROM account").Scan(&row).Error
				return row, err
			},
			Tried:     account{Free: 70, Held: 30},
			Confirmed: account{Free: 70, Spent: 30},
			Capacity:  3,
		})
	}
	_ = test // func TestCredit(t *testing.T)
}

// The requests of a branch that calls an HTTP service are made to fail.
func ExampleExerciseExternal() {
	test := func(t *testing.T) {
		db := sqltest.Open(t, "sqlite") // for the barrier
		gateway := newFakeGateway(t)
		wire := &tcctest.Transport{}
		branch := &payments{url: gateway.url, client: &http.Client{Transport: wire}}
		tcctest.ExerciseExternal(t, db, branch, tcctest.Case[charge]{
			Payload:   charge{Cents: 30},
			Reset:     func(context.Context, *gorm.DB) error { gateway.reset(); return nil },
			State:     func(context.Context, *gorm.DB) (any, error) { return gateway.account(), nil },
			Tried:     account{Free: 70, Held: 30},
			Confirmed: account{Free: 70, Spent: 30},
			Capacity:  3,
			HTTP:      wire,
		})
	}
	_ = test // func TestPayments(t *testing.T)
}

// printer prints what a test is told. In a test of your own, use its *testing.T.
type printer struct{ testing.TB }

func (printer) Helper()                                {}
func (printer) Context() context.Context               { return context.Background() }
func (printer) Logf(format string, arguments ...any)   {}
func (printer) Errorf(format string, arguments ...any) { fmt.Printf(format+"\n", arguments...) }
func (printer) Fatalf(format string, arguments ...any) { panic(fmt.Sprintf(format, arguments...)) }

// A Confirm that does not look at the rows affected.
func Example() {
	dir, err := os.MkdirTemp("", "tcctest")
	ok(err)
	defer os.RemoveAll(dir)
	db, err := gorm.Open(sqlite.Open(filepath.Join(dir, "test.db")+"?_txlock=immediate&_pragma=busy_timeout(10000)"), &gorm.Config{Logger: logger.Discard})
	ok(err)
	ok(schema.Migrate(context.Background(), db))
	ok(db.Exec("CREATE TABLE account (free INT NOT NULL, held INT NOT NULL, spent INT NOT NULL)").Error)
	ok(db.Exec("INSERT INTO account VALUES (0, 0, 0)").Error)

	branch := newCredit()
	branch.confirm = func(_ context.Context, tx *gorm.DB, in hold) error {
		return tx.Exec("UPDATE account SET held = held - ?, spent = spent + ?", in.Cents, in.Cents).Error
	}
	tcctest.Exercise(printer{}, db, branch, thirty())
	// Output:
	// credit.hold, after Try, Confirm, of which statement 1 (UPDATE account SET held = held - ?, spent = spent + ?) changes no row: Confirm returned nil and the state is {Free:70 Held:30 Spent:0}, want {Free:70 Held:0 Spent:30}: look at the rows affected, and return an error if there are too few
}

func ok(err error) {
	if err != nil {
		panic(err)
	}
}
