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
	Name        string
	Prepared    []xa.InDoubt
	Total       int
	Next, First string
	Problem     string // key of a text; empty if the database has answered
}

// preparedLength is the length of a page of prepared transactions of a database.
const preparedLength = 100

// slow limits a question to a database or broker that is not that of the log, so that the rest
// of the page is there also if it does not answer.
const slow = 3 * time.Second

func inDoubt(v *visit) error {
	if _, err := v.overview(v.r.Context()); err != nil { // its clock
		return err
	}
	get := v.r.URL.Query().Get
	var all []doubtful
	for _, name := range sorted(v.config.XA) {
		d, after := doubtful{Name: name}, ""
		if get("database") == name {
			after = get("after")
		}
		page, err := gate.Get(v.r.Context(), &v.cache, "indoubt "+name+" "+after, 3*time.Second, slow, func(ctx context.Context) (xa.InDoubtPage, error) {
			return v.config.XA[name].InDoubtPage(ctx, v.ops, after, preparedLength)
		})
		if err != nil {
			v.config.Logger.Warn("console: prepared transactions could not be listed", "database", name, "error", err)
			d.Problem = "error.otherdatabase"
		}
		d.Prepared, d.Total = page.InDoubt, page.Total
		if page.Next != "" {
			d.Next = v.link("indoubt", parameters([]string{"database", name, "after", page.Next}))
		}
		if after != "" {
			d.First = v.link("indoubt", nil)
		}
		all = append(all, d)
	}
	return v.render("indoubt", "nav.indoubt", http.StatusOK, all)
}
