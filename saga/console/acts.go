package console

import (
	"errors"
	"net/http"
	"strings"

	"github.com/tccsaga/tccsaga/saga"
)

// actsPage is the audit log.
type actsPage struct {
	Filter  saga.ActionQuery
	Names   []string
	Actions []saga.ActionRecord
	Next    string
	First   string
	Detail  string // why the search is not possible, by the engine
}

// actNames are the acts of operators, as the audit log has them.
var actNames = []string{"retry", "pause", "resume", "confirm", "cancel", "resolve"}

// actsLength is the length of a page of the audit log.
const actsLength = 100

func acts(v *visit) error {
	get := func(name string) string { return strings.TrimSpace(v.r.URL.Query().Get(name)) }
	q := saga.ActionQuery{GID: get("gid"), Kind: get("kind"), Who: get("who"), Name: get("act"), BulkID: get("bulk"), After: get("after"), Limit: actsLength}
	page := actsPage{Filter: q, Names: actNames}
	status := http.StatusOK
	found, err := v.ops.Actions(v.r.Context(), q)
	switch {
	case errors.Is(err, saga.ErrInvalid):
		status, page.Detail = http.StatusBadRequest, err.Error()
	case err != nil:
		return err
	}
	page.Actions = found.Actions
	link := func(after string) string {
		return v.link("acts", parameters([]string{"gid", q.GID, "kind", q.Kind, "who", q.Who, "act", q.Name, "bulk", q.BulkID, "after", after}))
	}
	if found.Next != "" {
		page.Next = link(found.Next)
	}
	if q.After != "" {
		page.First = link("")
	}
	return v.render("acts", "nav.acts", status, page)
}
