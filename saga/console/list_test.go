package console_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/console"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// gids returns the gids of the table of a page, in order.
func gids(t *testing.T, a answer) (found []string) {
	t.Helper()
	for _, link := range links(t, a.body) {
		if rest, ok := strings.CutPrefix(link, "/console/transaction?gid="); ok {
			gid, err := url.QueryUnescape(rest)
			sagatest.Must(t, err)
			found = append(found, gid)
		}
	}
	return found
}

// element returns the attribute of the element with an id; empty if the page has none.
func element(t *testing.T, a answer, id, attribute string) string {
	t.Helper()
	root, err := html.Parse(strings.NewReader(a.body))
	sagatest.Must(t, err)
	for node := range root.Descendants() {
		is, value := false, ""
		for _, attr := range node.Attr {
			is = is || attr.Key == "id" && attr.Val == id
			if attr.Key == attribute {
				value = attr.Val
			}
		}
		if is {
			return value
		}
	}
	return ""
}

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }

// The list leaves out what is finished unless it is asked for, has the newest first, and each
// filter of the form selects.
func TestList(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db)
		s := serve(t, w.engine.Operations(), console.Config{})
		for query, want := range map[string][]string{
			"":                                   {"open-1", "conflict-1", "failing-1"},
			"state=trying":                       {"open-1"},
			"state=cancelled":                    {"rejected-1"},
			"state=trying&state=cancelled":       {"open-1", "rejected-1"},
			"attention=1":                        {"conflict-1"},
			"prefix=done&show=all":               {"done-1"},
			"text=BANK+is+closed":                {"failing-1"},
			"text=no+funds&show=all":             {"rejected-1"},
			"kind=pay":                           {"conflict-1", "failing-1"},
			"owner=nobody":                       nil,
			"to=2001-01-01T00:00&show=all":       nil,
			"from=2001-01-01T00:00&state=trying": {"open-1"},
			"show=all":                           {"open-1", "conflict-1", "failing-1", "rejected-1", nastyGID, "done-1"},
		} {
			a := s.get("/console/transactions?"+query).want(t, http.StatusOK)
			got := gids(t, a)
			if slices.Sort(got); !slices.Equal(got, sorted(want)) {
				t.Errorf("%q: %q, %q was expected", query, got, want)
			}
			if empty := strings.Contains(a.body, `id="empty"`); empty != (want == nil) {
				t.Errorf("%q: it says that nothing fits: %t", query, empty)
			}
		}
		newest, oldest := gids(t, s.get("/console/transactions?show=all")), gids(t, s.get("/console/transactions?show=all&order=oldest"))
		if slices.Reverse(oldest); newest[0] != "open-1" || !slices.Equal(newest, oldest) {
			t.Errorf("newest first: %q, oldest first, reversed: %q", newest, oldest)
		}
		a := s.get("/console/transactions?show=all").want(t, http.StatusOK)
		if !strings.Contains(a.body, `<span id="count">6 transactions</span>`) {
			t.Error(a.body)
		}
	})
}

// Pages follow each other without a gap, and lead back to the first one.
func TestPaging(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"))
	s := serve(t, w.engine.Operations(), console.Config{})
	for i := range 5 {
		w.execute(t, fmt.Sprintf("more-%d", i), "well", saga.Confirmed)
	}
	all := gids(t, s.get("/console/transactions?show=all"))
	var got []string
	for next, pages := "/console/transactions?show=all&limit=2", 0; next != ""; pages++ {
		a := s.get(next).want(t, http.StatusOK)
		if pages > 6 {
			t.Fatal("the pages do not end")
		}
		if live := element(t, a, "live", "hx-get"); (live == "") != (pages > 0) {
			t.Errorf("page %d updates by itself: %q", pages, live)
		}
		got = append(got, gids(t, a)...)
		next = element(t, a, "next", "href")
	}
	if !slices.Equal(got, all) {
		t.Errorf("%q, %q was expected", got, all)
	}
}

// The field of every page leads to a transaction by its gid, or to a search.
func TestFind(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"))
	s := serve(t, w.engine.Operations(), console.Config{})
	for text, want := range map[string]string{
		"":             "/console/transactions",
		" done-1 ":     "/console/transaction?gid=done-1",
		nastyGID:       "/console/transaction?" + url.Values{"gid": {nastyGID}}.Encode(),
		"don":          "/console/transactions?prefix=don&show=all",
		"1001":         "/console/transactions?show=all&value=1001",
		"order 1001 é": "/console/transactions?" + url.Values{"show": {"all"}, "value": {"order 1001 é"}}.Encode(),
	} {
		a := s.get("/console/find?"+url.Values{"q": {text}}.Encode()).want(t, http.StatusSeeOther)
		if got := a.Header.Get("Location"); got != want {
			t.Errorf("%q leads to %q, %q was expected", text, got, want)
		}
	}
}

// A script that updates a page gets the part that changes, and nothing around it.
func TestFragment(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"))
	s := serve(t, w.engine.Operations(), console.Config{Authorize: as("ann")})
	s.header.Set("Hx-Request", "true")
	for _, page := range []string{"", "transactions", "transaction?gid=failing-1", "kinds", "instances"} {
		a := s.get("/console/"+page).want(t, http.StatusOK)
		if strings.Contains(a.body, "<html") || strings.Contains(a.body, `id="live"`) || strings.TrimSpace(a.body) == "" {
			t.Errorf("%s: %s", page, a.body)
		}
	}
	s.get("/console/transaction?gid=nobody").want(t, http.StatusNotFound, "<html")
}

// The first page names what needs a person, and says so if nothing does.
func TestHome(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "sqlite")
	w := newWorld(t, db)
	ops := w.engine.Operations()
	by := saga.Operator{Who: "ann", Why: "x"}
	sagatest.Must(t, ops.Pause(t.Context(), "failing-1", by))
	sagatest.Must(t, ops.PauseKind(t.Context(), "hold", by))
	sqltest.Exec(t, db, "INSERT INTO saga_instances (instance, host, pid, started_at, lease_until) VALUES ('gone', 'h', 1, '2026-01-01 00:00:00.000', '2026-01-01 00:00:00.000')")
	a := serve(t, ops, console.Config{}).get("/console/").want(t, http.StatusOK, "1 transaction needs attention", "1 transaction is paused",
		"A kind is paused", "<code>hold</code>", "1 instance is without its lease", `href="/console/transaction?gid=open-1"`, `href="/console/transaction?gid=failing-1"`)
	if strings.Contains(a.body, `id="calm"`) {
		t.Error("it says that nothing needs a person")
	}
	calm := sqltest.Open(t, "sqlite")
	engine := sagatest.Open(t, calm, embedded.Config{})
	sagatest.Run(t, engine)
	serve(t, engine.Operations(), console.Config{}).get("/console/").want(t, http.StatusOK, `id="calm"`)
}
