package barrier_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

var (
	allowed = regexp.MustCompile(`^[!-.0-~]+$`)
	errUndo = errors.New("undone")
)

// Whatever key and operation are called: they are refused, or the row is there
// under exactly that key.
func FuzzCall(f *testing.F) {
	db := sqltest.Open(f, "sqlite")
	for _, id := range []string{"", "a", "A", "a/b", "a b", "ü", "\x00", "\xff", "'--", "~", "\x7f", strings.Repeat("x", 32), strings.Repeat("x", 33), strings.Repeat("x", 128), strings.Repeat("x", 129)} {
		f.Add(id, "01", "try")
		f.Add("gid", id, "cancel")
		f.Add("gid", "01", id)
	}
	f.Fuzz(func(t *testing.T, gid, branchID, op string) {
		valid := allowed.MatchString(gid) && len(gid) <= barrier.MaxGID && allowed.MatchString(branchID) && len(branchID) <= barrier.MaxBranchID &&
			(op == "try" || op == "confirm" || op == "cancel")
		key := barrier.Key{GID: gid, BranchID: branchID}
		err := db.Transaction(func(tx *gorm.DB) error {
			verdict, err := barrier.Call(t.Context(), tx, barrier.Request{Key: key, Op: barrier.Op(op)})
			if (verdict != "") != valid {
				t.Errorf("%q %q %q: %q, %v", gid, branchID, op, verdict, err)
			}
			if verdict == barrier.Run || verdict == barrier.EmptyRollback {
				rows, err := barrier.Look(t.Context(), tx, gid)
				if err != nil || len(rows) != 1 || rows[0].Key != key {
					t.Errorf("%+v: rows %+v, %v", key, rows, err)
				}
			}
			return errUndo
		})
		if !errors.Is(err, errUndo) {
			t.Error(err)
		}
	})
}
