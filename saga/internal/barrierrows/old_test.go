package barrierrows_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/barrierrows"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// A transaction is old if all its rows are, whichever row is not and wherever a
// page ends.
func TestOld(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		ctx := t.Context()
		const long, short = "2020-01-01 00:00:00.000", "2100-01-01 00:00:00.000"
		row := func(gid string, i int, state, at string) string {
			confirmed, cancelled := "NULL", "NULL"
			switch state {
			case "cancelled", "suspended":
				cancelled = "'" + at + "'"
			case "tried":
			default:
				confirmed = "'" + at + "'"
			}
			return fmt.Sprintf("('%s', '%05d', '%s', %s, %s)", gid, i, state, confirmed, cancelled)
		}
		var want []string
		sagatest.Must(t, db.Transaction(func(tx *gorm.DB) error {
			for i, c := range []struct {
				rows  int
				other int // the row that is different; -1 for none
				state string
				at    string
			}{
				{1, -1, "", ""}, {1, 0, "tried", long}, {3, 0, "confirmed", short}, {3, 2, "suspended", short}, {3, 1, "cancelled", long},
				{3990, -1, "", ""}, {4000, -1, "", ""}, {4100, 0, "tried", long}, {8050, 8049, "tried", long}, {8050, 4000, "confirmed", short},
				{3, -1, "", ""}, {9000, -1, "", ""}, {2, 1, "new", long}, // a state of a newer version
			} {
				gid := fmt.Sprintf("g-%02d", i)
				if c.other < 0 || c.state == "cancelled" {
					want = append(want, gid)
				}
				var rows []string
				for i := range c.rows {
					state, at := "confirmed", long
					if i == c.other {
						state, at = c.state, c.at
					}
					rows = append(rows, row(gid, i, state, at))
				}
				for some := range slices.Chunk(rows, 1000) {
					if err := tx.Exec("INSERT INTO saga_barrier (gid, branch_id, state, confirmed_at, cancelled_at) VALUES " + strings.Join(some, ", ")).Error; err != nil {
						return err
					}
				}
			}
			return nil
		}))
		var old, all []string
		for at := (barrierrows.Cursor{}); !at.Done(); {
			gids, next, err := barrierrows.Old(ctx, db, at, time.Hour)
			sagatest.Must(t, err)
			old, at = append(old, gids...), next
		}
		if !slices.Equal(old, want) {
			t.Errorf("old %v, want %v", old, want)
		}
		sagatest.Must(t, db.Raw("SELECT DISTINCT gid FROM saga_barrier ORDER BY gid").Scan(&all).Error)
		sagatest.Must(t, db.Transaction(func(tx *gorm.DB) error {
			locked, _, err := barrierrows.LockOld(ctx, tx, append(all, "none"), time.Hour)
			if !slices.Equal(locked, want) {
				t.Errorf("old and locked %v, want %v", locked, want)
			}
			if err == nil {
				err = barrierrows.RemoveOld(ctx, tx, locked, time.Hour)
			}
			return err
		}))
		var left []string
		sagatest.Must(t, db.Raw("SELECT DISTINCT gid FROM saga_barrier ORDER BY gid").Scan(&left).Error)
		if len(left)+len(want) != len(all) || slices.ContainsFunc(want, func(gid string) bool { return slices.Contains(left, gid) }) {
			t.Errorf("left %v of %v", left, all)
		}
	})
}
