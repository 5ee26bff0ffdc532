package sagatest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/tcc"
)

// A test of a transaction. It locks stock, and the engine confirms the lock.
func Example() {
	test := func(t testing.TB) { // func TestOrder(t *testing.T)
		db := openDatabase(t)
		shelf := stock.New(db)
		sagatest.Must(t, shelf.Put(t.Context(), "phone", 3))
		engine := sagatest.Open(t, db, embedded.Config{})
		sagatest.Must(t, tcc.Register(engine, shelf))
		sagatest.Run(t, engine)

		gid := sagatest.GID()
		_, err := tcc.Execute(t.Context(), engine, gid, stock.Lock{Items: []stock.Item{{SKU: "phone", Quantity: 1}}})
		sagatest.Must(t, err)
		sagatest.Reach(t, engine, gid, saga.Confirmed)
		level, err := shelf.Get(t.Context(), "phone")
		sagatest.Must(t, err)
		fmt.Printf("%d available, %d sold\n", level.Available, level.Sold)
	}
	fmt.Println("failures:", record(test))
	// Output:
	// 2 available, 1 sold
	// failures: []
}

// openDatabase returns a new database of the test, with the schema.
func openDatabase(t testing.TB) *gorm.DB {
	t.Helper()
	dir, err := os.MkdirTemp("", "sagatest")
	sagatest.Must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	db, err := gorm.Open(sqlite.Open(filepath.Join(dir, "test.db")+"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)"),
		&gorm.Config{Logger: logger.Discard})
	sagatest.Must(t, err)
	sagatest.Must(t, schema.Migrate(t.Context(), db))
	return db
}
