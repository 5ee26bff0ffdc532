package console_test

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"golang.org/x/net/html"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/console"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// No text of a user becomes markup: a gid, a payload, an error, a reason, a label, a parameter.
func TestMarkup(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db)
		ops := w.engine.Operations()
		by := saga.Operator{Who: nasty, Why: nasty}
		sagatest.Must(t, ops.Pause(t.Context(), "failing-1", by))
		sagatest.Must(t, ops.PauseKind(t.Context(), "pay", by))
		s := serve(t, ops, console.Config{Authorize: as(nasty), Title: nasty})
		q := url.QueryEscape(nasty)
		seen := 0
		for _, page := range []string{"", "transactions?show=all", "transaction?gid=failing-1", "transaction?gid=rejected-1", "transaction?gid=" + url.QueryEscape(nastyGID),
			"kinds", "acts", "instances", "transaction?gid=" + q, "acts?who=" + q + "&gid=" + q, "?span=" + q, "letters?stream=" + q, "?lang=" + q,
			"transactions?text=" + q + "&value=" + q + "&label=" + q + "&prefix=" + q + "&kind=" + q + "&from=" + q + "&after=" + q + "&state=" + q + "&limit=" + q + "&order=" + q} {
			a := s.get("/console/" + page)
			checkMarkup(t, page, a.body)
			seen += strings.Count(html.UnescapeString(a.body), "alert(1)")
		}
		if seen < 20 {
			t.Errorf("the text is on the pages only %d times: the test looks at too little", seen)
		}
		a := s.post("/console/transaction/act", "gid", "done-1", "act", "retry", "why", nasty)
		checkMarkup(t, "act", a.body)
	})
}

// checkMarkup checks that a page has the scripts of the console only, nothing inline, and no
// text of a user in the names of elements or attributes.
func checkMarkup(t *testing.T, page, body string) {
	t.Helper()
	root, err := html.Parse(strings.NewReader(body))
	sagatest.Must(t, err)
	for node := range root.Descendants() {
		if node.Type != html.ElementNode {
			continue
		}
		source := ""
		for _, a := range node.Attr {
			if strings.HasPrefix(a.Key, "on") || a.Key == "style" || strings.ContainsAny(a.Key, `<>"'&`) {
				t.Errorf("%s: <%s> has the attribute %s", page, node.Data, a.Key)
			}
			if a.Key == "src" {
				source = a.Val
			}
			if (a.Key == "href" || a.Key == "action") && strings.HasPrefix(strings.ToLower(strings.TrimSpace(a.Val)), "javascript:") {
				t.Errorf("%s: a link to %s", page, a.Val)
			}
		}
		switch node.Data {
		case "script":
			if !strings.HasPrefix(source, "/console/assets/") || node.FirstChild != nil {
				t.Errorf("%s: a script that is not one of the console: %s", page, body)
			}
		case "style", "iframe", "object", "embed", "b", "base":
			t.Errorf("%s: an element <%s>", page, node.Data)
		}
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"))
	s := serve(t, w.engine.Operations(), console.Config{})
	page := s.get("/console/").want(t, http.StatusOK)
	for _, a := range []answer{page, s.get("/console/nothing"), s.get(asset(t, page, "console.js"))} {
		for name, want := range map[string]string{"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"} {
			if got := a.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q", a.Request.URL, name, got)
			}
		}
		csp := a.Header.Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
			if !strings.Contains(csp, part) || strings.Contains(csp, "unsafe") {
				t.Errorf("%s: the policy is %q", a.Request.URL, csp)
			}
		}
	}
	// A file is kept for ever under the name of its content, and not under another one.
	js := s.get(asset(t, page, "console.js")).want(t, http.StatusOK)
	if !strings.Contains(js.Header.Get("Cache-Control"), "immutable") || !strings.HasPrefix(js.Header.Get("Content-Type"), "text/javascript") {
		t.Error(js.Header)
	}
	if other := s.get("/console/assets/0000/console.js").want(t, http.StatusOK); other.Header.Get("Cache-Control") != "no-store" {
		t.Error(other.Header)
	}
	s.get("/console/assets/0000/htmx.LICENSE").want(t, http.StatusNotFound)
}

// asset returns the path of a file that a page loads.
func asset(t *testing.T, page answer, name string) string {
	t.Helper()
	for _, link := range links(t, page.body) {
		if strings.HasSuffix(link, "/"+name) {
			return link
		}
	}
	t.Fatalf("the page does not load %s", name)
	return ""
}

// The script library is the one that its checksum names, and its licence is there.
func TestVendored(t *testing.T) {
	t.Parallel()
	const folder = "internal/assets/files/"
	sums, err := os.ReadFile(folder + "SHA256SUMS")
	sagatest.Must(t, err)
	script, err := os.ReadFile(folder + "htmx.min.js")
	sagatest.Must(t, err)
	sum := sha256.Sum256(script)
	if want := hex.EncodeToString(sum[:]) + "  htmx.min.js\n"; string(sums) != want {
		t.Errorf("SHA256SUMS is %q, the file has %q", sums, want)
	}
	licence, err := os.ReadFile(folder + "htmx.LICENSE")
	sagatest.Must(t, err)
	if !strings.Contains(string(licence), "Zero-Clause BSD") {
		t.Error("the licence is another one")
	}
}
