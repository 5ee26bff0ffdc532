package barrier_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

func migrate(t *testing.T, database sqltest.Database) {
	t.Helper()
	if err := schema.Migrate(t.Context(), sqltest.Connect(t, database, &gorm.Config{})); err != nil {
		t.Fatal(err)
	}
}

// A team that opens its own local transaction calls the barrier first in it.
func ExampleCall() {
	dir, _ := os.MkdirTemp("", "barrier")
	defer os.RemoveAll(dir)
	db, err := gorm.Open(sqlite.Open(filepath.Join(dir, "example.db")))
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	if err := schema.Migrate(ctx, db); err != nil {
		panic(err)
	}
	for range 2 {
		err := db.Transaction(func(tx *gorm.DB) error {
			verdict, err := barrier.Call(ctx, tx, barrier.Request{Key: barrier.Key{GID: "order-1001", BranchID: "01"}, Op: barrier.Try})
			if err != nil {
				return err
			}
			fmt.Println(verdict)
			if verdict == barrier.Run {
				// reserve here, with tx
			}
			return nil // commits the row and the reservation together
		})
		if err != nil {
			panic(err)
		}
	}
	rows, err := barrier.Look(ctx, db, "order-1001")
	if err != nil {
		panic(err)
	}
	fmt.Println(rows[0].Explain())
	// Output:
	// run
	// duplicate
	// Try has run; neither Confirm nor Cancel has run yet; calls turned away as repeated, late or in conflict: 1
}
