package barrier_test

import (
	"fmt"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// LookOf returns the rows of one caller, and those of version 1 of the schema, which have none.
func TestLookOf(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		for i := range 20 {
			sqltest.Exec(t, db, "INSERT INTO saga_barrier (gid, branch_id, state, caller) VALUES ('g', ?, 'tried', ?)", fmt.Sprintf("%02d", i), []string{"log", "other", "-", "", "LOG"}[i%5])
		}
		for caller, want := range map[string]string{"log": "[00 03 05 08 10 13 15 18]", "other": "[01 03 06 08 11 13 16 18]", "nobody": "[03 08 13 18]", "%": "[03 08 13 18]"} {
			rows, err := barrier.LookOf(t.Context(), db, "g", caller, 20)
			if err != nil {
				t.Fatal(err)
			}
			var ids []string
			for _, r := range rows {
				ids = append(ids, r.BranchID)
			}
			if fmt.Sprint(ids) != want {
				t.Errorf("%s: %v, want %s", caller, ids, want)
			}
			if rows, err = barrier.LookOf(t.Context(), db, "g", caller, 3); err != nil || len(rows) != 3 || rows[0].BranchID != ids[0] {
				t.Errorf("%s: %v, %v", caller, rows, err)
			}
		}
	})
}
