package console

import (
	"context"
	"net/http"
	"time"

	"github.com/tccsaga/tccsaga/saga/console/internal/gate"
	"github.com/tccsaga/tccsaga/saga/xa"
)

// doubtful is a database with its prepared transactions.
type doubtful struct {
	Name     string
	Prepared []xa.InDoubt
	More     bool   // there are more than are shown
	Problem  string // key of a text; empty if the database has answered
}

// maxPrepared is the most prepared transactions of a database that are shown.
const maxPrepared = 200

// slow limits a question to a database or broker that is not that of the log, so that the rest
// of the page is there also if it does not answer.
const slow = 3 * time.Second

func inDoubt(v *visit) error {
	if _, err := v.overview(v.r.Context()); err != nil { // its clock
		return err
	}
	var all []doubtful
	for _, name := range sorted(v.config.XA) {
		d := doubtful{Name: name}
		found, err := gate.Get(v.r.Context(), &v.cache, "indoubt "+name, 5*time.Second, slow, func(ctx context.Context) ([]xa.InDoubt, error) {
			return v.config.XA[name].InDoubt(ctx, v.ops)
		})
		if err != nil {
			v.config.Logger.Warn("console: prepared transactions could not be listed", "database", name, "error", err)
			d.Problem = "error.otherdatabase"
		}
		d.Prepared = found
		if len(found) > maxPrepared {
			d.Prepared, d.More = found[:maxPrepared], true
		}
		all = append(all, d)
	}
	return v.render("indoubt", "nav.indoubt", http.StatusOK, all)
}
