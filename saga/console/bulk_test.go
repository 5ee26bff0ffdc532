package console_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/console"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// freeze makes a list of the transactions whose gid begins with a prefix, and returns the path
// of its page, and its id.
func (s *site) freeze(act, prefix string) (path, id string) {
	s.t.Helper()
	a := s.post("/console/bulk/freeze", "act", act, "prefix", prefix, "why", "the bank is open "+nasty).want(s.t, http.StatusSeeOther)
	path = a.Header.Get("Location")
	location, err := url.Parse(path)
	sagatest.Must(s.t, err)
	return path, location.Query().Get("id")
}

// A person searches, looks at the list, confirms it, and each transaction gets one recorded act.
func TestBulk(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db)
		for i := range 7 {
			w.execute(t, fmt.Sprintf("many-%d", i), "fail", saga.Confirming)
		}
		w.execute(t, "many-well", "well", saga.Confirmed)
		ops := w.engine.Operations()
		s := serve(t, ops, console.Config{Authorize: as("ann")})
		list := s.get("/console/transactions?prefix=many-").want(t, http.StatusOK)
		ask := s.get(element(t, list, "bulk", "href")).want(t, http.StatusOK, "7 unfinished transactions fit the search", `name="prefix" value="many-"`)
		checkMarkup(t, "bulk/new", ask.body)
		path, id := s.freeze("retry", "many-")
		page := s.get(path).want(t, http.StatusOK, "waits for your confirmation", "Retry 7 transactions", "many-0", "many-6", `id="bulk-run"`)
		checkMarkup(t, "bulk", page.body)
		if acts := acted(t, w); len(acts) > 0 || strings.Contains(page.body, "many-well") {
			t.Fatalf("the list has acted, or has a finished transaction: %+v", acts)
		}
		w.well.Store(true)
		s.post("/console/bulk/run", "id", id).want(t, http.StatusSeeOther)
		sagatest.Eventually(t, "the bulk action is finished", func() bool {
			return strings.Contains(s.get(path).body, `id="bulk-state">finished`)
		})
		page = s.get(path).want(t, http.StatusOK, "7 of 7")
		if strings.Contains(page.body, `id="bulk-run"`) {
			t.Error("a finished action can be run")
		}
		for i := range 7 {
			sagatest.Reach(t, w.engine, fmt.Sprintf("many-%d", i), saga.Confirmed)
		}
		acts := acted(t, w)
		if len(acts) != 7 || slices.ContainsFunc(acts, func(a saga.ActionRecord) bool { return a.BulkID != id || a.Who != "ann" || a.Name != "retry" }) {
			t.Errorf("%+v", acts)
		}
		s.get("/console/acts?bulk="+id).want(t, http.StatusOK, "many-3")
		checkMarkup(t, "bulks", s.get("/console/bulks").want(t, http.StatusOK, "Retry 7 transactions", "finished", "alert(1)").body)
		s.post("/console/bulk/run", "id", id).want(t, http.StatusConflict, "finished already")
	})
}

// What is not right is refused before a list is made, or before it is run.
func TestBulkRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"))
	ops := w.engine.Operations()
	s := serve(t, ops, console.Config{Authorize: as("ann")})
	for _, c := range []struct {
		pairs []string
		want  int
		text  string
	}{
		{[]string{"act", "retry", "prefix", "failing"}, http.StatusBadRequest, "needs a reason"},
		{[]string{"act", "resolve", "prefix", "failing", "why", "x"}, http.StatusBadRequest, "no such act"},
		{[]string{"act", "retry", "prefix", "nobody", "why", "my words"}, http.StatusConflict, "my words"},
		{[]string{"act", "retry", "state", "lost", "why", "my words"}, http.StatusBadRequest, "my words"},
	} {
		s.post("/console/bulk/freeze", c.pairs...).want(t, c.want, c.text)
	}
	for _, path := range []string{"bulk", "bulk?id=x", "bulk?id=" + url.QueryEscape(nasty)} {
		if a := s.get("/console/" + path); a.StatusCode != http.StatusNotFound && a.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %s", path, a.Status)
		}
	}
	if a := s.post("/console/bulk/run", "id", "x"); a.StatusCode != http.StatusNotFound && a.StatusCode != http.StatusBadRequest {
		t.Error(a.Status)
	}
	s.get("/console/bulk/new?state=lost").want(t, http.StatusSeeOther)
	path, id := s.freeze("retry", "failing")
	s.get(path+"&after=-1").want(t, http.StatusBadRequest)

	// The verb of the act is needed as well as that of bulk actions.
	for _, missing := range []console.Verb{console.Bulk, console.Retry} {
		other := serve(t, ops, console.Config{Authorize: func(_ *http.Request, v console.Verb) (string, error) {
			if v == missing {
				return "", fmt.Errorf("you lack %s", v)
			}
			return "bob", nil
		}})
		other.post("/console/bulk/freeze", "act", "retry", "prefix", "failing", "why", "x").want(t, http.StatusForbidden, "you lack "+string(missing))
		other.post("/console/bulk/run", "id", id).want(t, http.StatusForbidden, "you lack "+string(missing))
		if a := other.get(path).want(t, http.StatusOK, "you lack "+string(missing)); strings.Contains(a.body, `id="bulk-run"`) {
			t.Error("it is offered to run")
		}
	}
	if acts := acted(t, w); len(acts) > 0 {
		t.Errorf("%+v", acts)
	}
}

// After the end of its process, a bulk action is continued by another one.
func TestBulkContinued(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"))
	for i := range 5 {
		w.execute(t, fmt.Sprintf("many-%d", i), "fail", saga.Confirming)
	}
	ops := w.engine.Operations()
	s := serve(t, ops, console.Config{Authorize: as("ann")})
	path, id := s.freeze("pause", "many-")
	// A process runs a part of it, and ends.
	ctx, end := context.WithCancel(t.Context())
	if _, err := ops.RunBulk(ctx, id, func(saga.BulkAction) { end() }); err == nil {
		t.Fatal("it has run to its end")
	}
	s.console.Close()
	s.post("/console/bulk/run", "id", id).want(t, http.StatusServiceUnavailable)
	other := serve(t, ops, console.Config{Authorize: as("bob")})
	other.get(path).want(t, http.StatusOK, "not run by this process", "Continue with")
	other.post("/console/bulk/run", "id", id).want(t, http.StatusSeeOther)
	sagatest.Eventually(t, "the bulk action is finished", func() bool {
		return strings.Contains(other.get(path).body, `id="bulk-state">finished`)
	})
	if acts := acted(t, w); len(acts) != 5 {
		t.Errorf("%d acts", len(acts))
	}
}
