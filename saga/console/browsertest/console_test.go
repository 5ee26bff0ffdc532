package browsertest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/console"
	"github.com/tccsaga/tccsaga/saga/sagatest"
)

// pages are all pages of a site, with what each of them shows.
func (s *site) pages() map[string]string {
	return map[string]string{
		s.page(""):             "",
		s.page("transactions"): "order-3001",
		s.page("transactions", "state", "confirmed"):            "order-1060",
		s.page("transactions", "text", "broker"):                "order-3001",
		s.page("transactions", "text", attack):                  "order-3001",
		s.page("transactions", "prefix", "nothing"):             "",
		s.page("transaction", "gid", "order-1001"):              "order-1001",
		s.page("transaction", "gid", "order-2001"):              "sold out",
		s.page("transaction", "gid", "order-3001"):              "broker unreachable",
		s.page("transaction", "gid", "order-3005"):              "looking at it",
		s.page("transaction", "gid", "reservation-1"):           "reservation-1",
		s.page("transaction", "gid", "reservation-2"):           "reservation-2",
		s.page("transaction", "gid", attackGID):                 attackGID,
		s.page("kinds"):                                         "stock.lock",
		s.page("instances"):                                     "",
		s.page("messages"):                                      "",
		s.page("indoubt"):                                       "",
		s.page("acts"):                                          "carol",
		s.page("bulks"):                                         "",
		s.page("bulk/new", "attention", "1", "unfinished", "1"): "",
	}
}

// Every page works at every size, in each color scheme and language: the browser logs nothing,
// axe-core finds nothing, nothing is wider than the screen, and no text of a transaction runs.
func TestEveryPage(t *testing.T) {
	s := serve(t, nil)
	chinese := desktop
	chinese.language, chinese.dark = "zh", true
	darkPhone := phone
	darkPhone.dark = true
	for name, l := range map[string]look{"desktop": desktop, "phone, dark": darkPhone, "Chinese, dark": chinese} {
		t.Run(name, func(t *testing.T) {
			b := s.as(t, "alice", l)
			for address, text := range s.pages() {
				b.visit(address)
				b.shows(text)
				if lang := eval[string](b, "document.documentElement.lang"); !strings.HasPrefix(lang, l.language) {
					t.Errorf("%s is in %q", address, lang)
				}
			}
		})
	}
}

// A person follows every link from home, and finds a page at each.
func TestEveryLink(t *testing.T) {
	s := serve(t, nil)
	b := s.as(t, "alice", desktop)
	next, seen := []string{s.page("")}, map[string]bool{}
	for visited := 0; len(next) > 0 && visited < 60; {
		address := next[0]
		next = next[1:]
		kind, _, _ := strings.Cut(strings.TrimPrefix(address, s.page("")), "?")
		parameters, _ := url.Parse(address)
		key := kind + fmt.Sprint(slices.Sorted(func(yield func(string) bool) {
			for name := range parameters.Query() {
				if !yield(name) {
					return
				}
			}
		}))
		if seen[key] { // one page of each form is enough
			continue
		}
		seen[key] = true
		visited++
		b.do(chromedp.Navigate(address))
		b.quiet()
		if heading := eval[string](b, `document.querySelector("h1")?.innerText ?? ""`); heading == "" {
			t.Errorf("%s has no heading", address)
		}
		next = append(next, eval[[]string](b, `[...document.querySelectorAll("a[href]:not([download])")].map(a => a.href).filter(h => !h.includes("#"))`)...)
	}
	if len(seen) < 15 {
		t.Errorf("only %d pages: %v", len(seen), seen)
	}
}

// An act with a reason is done, and is in the audit log with who and why.
func TestAct(t *testing.T) {
	s := serve(t, nil)
	b := s.as(t, "alice", desktop)
	b.visit(s.page("transaction", "gid", "order-3005"))
	b.do(chromedp.Click(chromedp.CSS("#act-resume summary")))
	if eval[bool](b, `document.querySelector("#act-resume form").checkValidity()`) {
		t.Error("an act without a reason can be sent")
	}
	b.do(chromedp.SendKeys(chromedp.CSS("#why-resume"), "the broker is back"))
	b.check()
	b.click("#act-resume form button")
	b.check()
	b.shows("the broker is back")
	acts, err := s.engine.Actions(t.Context(), saga.ActionQuery{GID: "order-3005"})
	sagatest.Must(t, err)
	if a := acts.Actions[0]; a.Name != "resume" || a.Who != "alice" || a.Why != "the broker is back" {
		t.Errorf("%+v", a)
	}
}

// An act that has become impossible since the page was shown is refused, and the page says why.
func TestRefusedAct(t *testing.T) {
	s := serve(t, nil)
	b := s.as(t, "alice", desktop)
	b.visit(s.page("transaction", "gid", "order-3001"))
	b.do(chromedp.Click(chromedp.CSS("#act-pause summary")), chromedp.SendKeys(chromedp.CSS("#why-pause"), "late"))
	sagatest.Must(t, s.engine.Pause(t.Context(), "order-3001", saga.Operator{Who: "carol", Why: "earlier"}))
	b.click("#act-pause form button")
	b.messages() // a status of 409 is in the browser's log
	b.shows("has changed since you saw it")
	b.check()
	acts, err := s.engine.Actions(t.Context(), saga.ActionQuery{GID: "order-3001"})
	sagatest.Must(t, err)
	if len(acts.Actions) != 1 || acts.Actions[0].Who != "carol" {
		t.Errorf("%+v", acts)
	}
}

// A person who may only look gets no form, and an act of that person is refused.
func TestWithoutPermission(t *testing.T) {
	s := serve(t, nil)
	b := s.as(t, "bob", desktop)
	b.visit(s.page("transaction", "gid", "order-3001"))
	b.shows("bob may only look")
	if n := eval[int](b, `document.querySelectorAll("main form").length`); n != 0 {
		t.Errorf("%d forms", n)
	}
	b.do(chromedp.Navigate(s.page("kinds")))
	status := eval[int](b, fmt.Sprintf(`fetch(%q, {method: "POST", headers: {"Content-Type": "application/x-www-form-urlencoded"}, body: "gid=order-3001&act=pause&why=x"}).then(r => r.status)`,
		s.page("transaction/act")))
	if status != http.StatusForbidden {
		t.Errorf("status %d", status)
	}
	anonymous := open(t, desktop)
	anonymous.do(chromedp.Navigate(s.page("")))
	anonymous.shows("sign in first")
}

// A page of another site cannot act in somebody's name.
func TestCrossSite(t *testing.T) {
	s := serve(t, nil)
	b := s.as(t, "alice", desktop)
	target := s.page("transaction/act")
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `<!doctype html><title>other</title><form method=post action=%q><input name=gid value=order-3001><input name=act value=pause><input name=why value=x><button id=go>go</button></form>`, target)
	}))
	defer other.Close()
	// Another name of the same machine is another site.
	b.do(chromedp.Navigate(strings.Replace(other.URL, "127.0.0.1", "localhost", 1)))
	b.click("#go")
	if text := b.text(); strings.Contains(text, "order-3001") && strings.Contains(text, "paused") {
		t.Error(text)
	}
	acts, err := s.engine.Actions(t.Context(), saga.ActionQuery{GID: "order-3001"})
	if err != nil || len(acts.Actions) != 0 {
		t.Errorf("%+v, %v", acts, err)
	}
}

// An act on many transactions: a list that is fixed, a number to confirm, progress, an act each.
func TestBulkAct(t *testing.T) {
	s := serve(t, nil)
	b := s.as(t, "alice", desktop)
	b.visit(s.page("bulk/new", "attention", "1"))
	b.do(chromedp.Click(chromedp.CSS(`#bulk-form input[value="retry"]`)), chromedp.SendKeys(chromedp.CSS("#bulk-form textarea"), "the broker is back"))
	b.click("#bulk-form button")
	b.check()
	b.shows("order-3001")
	b.click("#bulk-run button")
	b.shows("5 of 5")
	b.check()
	s.broken.Store(false)
	for i := range 4 {
		sagatest.Reach(t, s.engine, fmt.Sprint("order-", 3001+i), saga.Confirmed)
	}
	acts, err := s.engine.Actions(t.Context(), saga.ActionQuery{Name: "retry"})
	// One of the five is paused.
	if err != nil || len(acts.Actions) != 4 || acts.Actions[0].BulkID == "" || acts.Actions[0].Who != "alice" {
		t.Errorf("%+v, %v", acts, err)
	}
}

// An open page shows what happens, without a click.
func TestLiveUpdate(t *testing.T) {
	s := serve(t, nil)
	b := s.as(t, "alice", desktop)
	b.visit(s.page("transaction", "gid", "order-3001"))
	b.shows("confirming")
	s.broken.Store(false)
	sagatest.Must(t, s.engine.Retry(t.Context(), "order-3001", saga.Operator{Who: "carol", Why: "it works again"}))
	b.shows("Every branch is confirmed.")
	b.shows("it works again")
	b.check()
}

// Without scripts, every page shows the same, and acts work.
func TestWithoutScripts(t *testing.T) {
	s := serve(t, nil)
	l := desktop
	l.noScript = true
	b := s.as(t, "alice", l)
	for address, text := range s.pages() {
		b.do(chromedp.Navigate(address))
		b.quiet()
		b.shows(text)
	}
	b.do(chromedp.Navigate(s.page("transaction", "gid", "order-3001")))
	b.do(chromedp.Click(chromedp.CSS("#act-pause summary")), chromedp.SendKeys(chromedp.CSS("#why-pause"), "without scripts"))
	b.click("#act-pause form button")
	b.shows("without scripts")
}

// The keyboard suffices: the first Tab reaches the link to the content, and Enter acts.
func TestKeyboard(t *testing.T) {
	s := serve(t, nil)
	b := s.as(t, "alice", desktop)
	b.do(chromedp.Navigate(s.page("transaction", "gid", "order-3001")))
	b.do(chromedp.KeyEvent("\t"))
	if class := eval[string](b, "document.activeElement.className"); class != "skip" {
		t.Errorf("the first stop is %q", class)
	}
	if outline := eval[string](b, `getComputedStyle(document.activeElement).outlineStyle`); outline == "none" {
		t.Error("the focus is not visible")
	}
	b.do(chromedp.Focus(chromedp.CSS("#act-pause summary")), chromedp.KeyEvent("\r"), chromedp.Focus(chromedp.CSS("#why-pause")),
		chromedp.KeyEvent("with keys"), chromedp.KeyEvent("\t"))
	if _, err := chromedp.RunResponse(b.ctx, chromedp.KeyEvent("\r")); err != nil {
		t.Fatal(err)
	}
	b.shows("with keys")
}

// The person chooses dark or light, whatever the system says, and the choice stays.
func TestTheme(t *testing.T) {
	s := serve(t, nil)
	background := `getComputedStyle(document.body).backgroundColor`
	light := s.as(t, "alice", desktop)
	light.do(chromedp.Navigate(s.page("")))
	l := desktop
	l.dark = true
	dark := s.as(t, "alice", l)
	dark.do(chromedp.Navigate(s.page("")))
	bright, black := eval[string](light, background), eval[string](dark, background)
	if bright == black {
		t.Errorf("both are %s", bright)
	}
	dark.click(`button[name="theme"][value="light"]`)
	dark.visit(s.page("kinds"))
	if now := eval[string](dark, background); now != bright {
		t.Errorf("%s after the choice of light, %s", now, bright)
	}
}

// Without a hook, this machine may look and nobody may act.
func TestWithoutHook(t *testing.T) {
	s := serve(t, func(c *console.Config) { c.Authorize = nil })
	b := open(t, desktop)
	b.visit(s.page("transaction", "gid", "order-3001"))
	if n := eval[int](b, `document.querySelectorAll("main form").length`); n != 0 {
		t.Errorf("%d forms", n)
	}
}
