package tcc_test

import (
	"fmt"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// What is left of a kind that no instance knows any more is removed after twice the
// retention. Until then it waits for an instance that knows the kind, whose branch
// may have something to remove.
func TestCleaningOfRetiredKinds(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		config := quick
		config.Retention = embedded.Forever
		b := newBench(t, db, config)
		younger, older := sagatest.GID(), sagatest.GID()
		for _, gid := range []string{younger, older} {
			_, err := tcc.Execute(t.Context(), b.orch, gid, hold{1, 1}, holdOut{1, 1})
			sagatest.Must(t, err)
			b.reaches(gid, saga.Confirmed)
			b.age(gid) // a day
		}
		later := map[string]string{"mysql": "%s - INTERVAL 1 DAY", "postgres": "%s - INTERVAL '1 day'", "sqlite": "strftime('%%Y-%%m-%%d %%H:%%M:%%f', %s, '-1 day')"}[db.Name()]
		sqltest.Exec(t, db, "UPDATE saga_transactions SET finished_at = "+fmt.Sprintf(later, "finished_at")+", deadline_at = "+fmt.Sprintf(later, "deadline_at")+" WHERE gid = ?", older)
		sqltest.Exec(t, db, "UPDATE saga_cleaning SET after_gid = '', next_at = '2000-01-01 00:00:00'")
		sagatest.Must(t, b.orch.Stop(t.Context()))

		config.Retention = 20 * time.Hour
		heir := sagatest.Open(t, db, config)
		sagatest.Must(t, tcc.Register(heir, b.here)) // and not holdOut
		sagatest.Run(t, heir)
		sagatest.Eventually(t, "the older one is removed", func() bool { return b.rows(older) == noRows })
		if b.rows(younger) == noRows {
			t.Error("the younger one was removed, too")
		}
	})
}
