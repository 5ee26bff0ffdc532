package console_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/console"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/saga/xa"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// note is the input of a branch that the database prepares.
type note struct{ Text string }

func (note) Branch() string { return "note" }

type noter struct{}

func (noter) Work(_ context.Context, tx *gorm.DB, in note) error {
	return tx.Exec("INSERT INTO notes VALUES (?)", in.Text).Error
}

// A prepared transaction is shown with the state of its transaction in the log.
func TestInDoubt(t *testing.T) {
	t.Parallel()
	for _, dialect := range []string{"mysql", "postgres"} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			db := sqltest.Open(t, dialect)
			sqltest.Exec(t, db, "CREATE TABLE notes (text VARCHAR(100) NOT NULL)")
			database, err := xa.Open(t.Context(), db)
			sagatest.Must(t, err)
			t.Cleanup(database.Close)
			engine := sagatest.Open(t, sqltest.Open(t, "sqlite"), embedded.Config{})
			sagatest.Must(t, xa.Register(engine, database, noter{}))
			sagatest.Run(t, engine)
			gid := "doubt-" + uuid.NewString()
			tx, err := tcc.Begin(t.Context(), engine, gid)
			sagatest.Must(t, err)
			sagatest.Must(t, tx.Try(t.Context(), note{"x"}))
			s := serve(t, engine.Operations(), console.Config{XA: map[string]*xa.Database{"notes": database}})
			a := s.get("/console/indoubt").want(t, http.StatusOK, "notes", "/console/transaction?gid="+gid, "undecided")
			checkMarkup(t, "indoubt", a.body)
			_, err = tx.Cancel(t.Context(), "the test is over")
			sagatest.Must(t, err)
			// Other tests prepare transactions on the same server.
			sagatest.Eventually(t, "the transaction is not in doubt any more", func() bool {
				found, err := database.InDoubt(t.Context(), engine)
				for _, p := range found {
					if p.GID == gid {
						return false
					}
				}
				return err == nil
			})
		})
	}
}
