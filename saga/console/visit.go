package console

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/console/internal/gate"
	"github.com/tccsaga/tccsaga/saga/console/internal/words"
)

// route is a page or an act.
type route struct {
	method string // GET or POST
	verb   Verb   // empty if the handler asks for the verb itself
	handle func(*visit) error
}

// visit is one request.
type visit struct {
	*Console
	w     http.ResponseWriter
	r     *http.Request
	name  string // of the page
	words *words.Printer
	theme string // light, dark, or empty as the browser prefers
	who   string
}

// Names of the cookies.
const (
	cookieLanguage = "tccsaga_console_lang"
	cookieTheme    = "tccsaga_console_theme"
	cookieFlash    = "tccsaga_console_done"
)

func newVisit(c *Console, w http.ResponseWriter, r *http.Request, name string) *visit {
	v := &visit{Console: c, w: w, r: r, name: name}
	wish := ""
	if r.Method == http.MethodGet {
		wish = r.URL.Query().Get("lang")
	}
	v.words = words.For(words.Match(r.Header.Get("Accept-Language"), wish, v.cookie(cookieLanguage)))
	if wish == v.words.Language {
		v.setCookie(cookieLanguage, wish, 365*24*3600)
	}
	if theme := v.cookie(cookieTheme); theme == "light" || theme == "dark" {
		v.theme = theme
	}
	w.Header().Add("Vary", "Accept-Language, Cookie, HX-Request")
	return v
}

func (v *visit) cookie(name string) string {
	if c, err := v.r.Cookie(name); err == nil {
		return c.Value
	}
	return ""
}

func (v *visit) setCookie(name, value string, seconds int) {
	http.SetCookie(v.w, &http.Cookie{Name: name, Value: value, Path: v.config.Path + "/", MaxAge: seconds, HttpOnly: true,
		SameSite: http.SameSiteLaxMode, Secure: v.r.TLS != nil})
}

// serve answers the request with a route, which is nil if there is no such page.
func (v *visit) serve(to *route) {
	err := v.check(to)
	if err == nil && v.r.Method != http.MethodPost {
		if err = v.gate.Enter(v.r.Context()); err == nil {
			defer v.gate.Leave()
		}
	}
	if err == nil {
		err = to.handle(v)
	}
	if err != nil {
		v.fail(err)
	}
}

// check checks whether the request may be served.
func (v *visit) check(to *route) error {
	who, refused := v.authorize(v.r, View)
	if refused != nil {
		return refused
	}
	v.who = who
	if to == nil {
		return &problem{status: http.StatusNotFound, key: "error.nopage"}
	}
	if to.method == http.MethodPost {
		if v.r.Method != http.MethodPost {
			v.w.Header().Set("Allow", http.MethodPost)
			return &problem{status: http.StatusMethodNotAllowed, key: "error.method"}
		}
		if err := v.guard.Check(v.r); err != nil {
			return errCrossSite
		}
		if err := v.r.ParseForm(); err != nil {
			return &problem{status: http.StatusBadRequest, key: "error.form"}
		}
	} else if v.r.Method != http.MethodGet && v.r.Method != http.MethodHead {
		v.w.Header().Set("Allow", "GET, HEAD")
		return &problem{status: http.StatusMethodNotAllowed, key: "error.method"}
	}
	if to.verb == "" || to.verb == View {
		return nil
	}
	return v.demand(to.verb)
}

// demand returns an error if the sender may not do something. It sets the name of the sender.
func (v *visit) demand(verb Verb) error {
	who, refused := v.authorize(v.r, verb)
	if refused != nil {
		v.config.Logger.Info("console: refused", "verb", string(verb), "why", refused.Error(), "remote", v.r.RemoteAddr)
		return refused
	}
	v.who = who
	return nil
}

// denied returns in words why the sender may not do something; empty if the sender may.
func (v *visit) denied(verb Verb) string {
	if _, refused := v.authorize(v.r, verb); refused != nil {
		return v.refusalText(refused)
	}
	return ""
}

func (v *visit) refusalText(r *refusal) string {
	if r.text != "" {
		return v.words.T(r.key, r.text)
	}
	return v.words.T(r.key)
}

// problem is an error that the sender of a request has made or can understand.
type problem struct {
	status int
	key    string // of the text
	args   []any
	detail string // of the engine, in English; may be empty
	typed  string // what the person has typed; may be empty
	back   string // where to go on; may be empty
	cause  error  // for the log; may be nil
}

func (p *problem) Error() string { return p.key + " " + p.detail }

// errorPage is the page of a problem.
type errorPage struct {
	Status                    int
	Text, Detail, Typed, Back string
}

// fail answers with a page that says what is wrong.
func (v *visit) fail(err error) {
	p := &problem{}
	var refused *refusal
	cause := error(nil) // for the log
	switch {
	case errors.As(err, &p):
		cause = p.cause
	case errors.As(err, &refused):
		p = &problem{status: http.StatusForbidden, key: refused.key}
		if refused.text != "" {
			p.args = []any{refused.text}
		}
	case errors.Is(err, errCrossSite):
		p = &problem{status: http.StatusForbidden, key: "error.crosssite"}
	case errors.Is(err, saga.ErrNotFound):
		p = &problem{status: http.StatusNotFound, key: "error.notfound"}
	case errors.Is(err, saga.ErrInvalid):
		p = &problem{status: http.StatusBadRequest, key: "error.invalid", detail: err.Error()}
	case errors.Is(err, saga.ErrRefused), errors.Is(err, saga.ErrCancelled), errors.Is(err, saga.ErrConfirmed):
		p = &problem{status: http.StatusConflict, key: "error.refused", detail: err.Error()}
	case errors.Is(err, gate.ErrBusy):
		p = &problem{status: http.StatusServiceUnavailable, key: "error.busy"}
	case errors.Is(err, context.Canceled) && v.r.Context().Err() != nil:
		return // the client is gone
	default:
		cause = err
		p = &problem{status: http.StatusServiceUnavailable, key: "error.database"}
	}
	if cause != nil {
		v.config.Logger.Error("console: a request has failed", "page", v.name, "error", cause)
	}
	if p.status == http.StatusServiceUnavailable {
		v.w.Header().Set("Retry-After", "5")
	}
	page := errorPage{Status: p.status, Text: v.words.T(p.key, p.args...), Detail: p.detail, Typed: p.typed, Back: p.back}
	if e := v.render("error", "error.title", p.status, page); e != nil {
		v.config.Logger.Error("console: the page of an error could not be made", "page", v.name, "error", e)
		http.Error(v.w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
	}
}

// render answers with a page. If a script asks for the part that changes, it gets only that.
func (v *visit) render(template, title string, status int, data any) error {
	page := &frame{visit: v, Page: template, Title: v.words.T(title), Data: data}
	part := "layout"
	if v.r.Header.Get("Hx-Request") == "true" && template != "error" {
		part = "live"
	} else if done := v.cookie(cookieFlash); done != "" {
		if v.words.Has("done." + done) {
			page.Done = v.words.T("done." + done)
		}
		v.setCookie(cookieFlash, "", -1)
	}
	var text bytes.Buffer
	if err := v.sets[v.words.Language].pages[template].ExecuteTemplate(&text, part, page); err != nil {
		return fmt.Errorf("the template %s: %w", template, err)
	}
	v.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	v.w.WriteHeader(status)
	if v.r.Method != http.MethodHead {
		_, _ = v.w.Write(text.Bytes())
	}
	return nil
}

// done ends an act: it goes to a page, which says what was done. The next pages show its effect.
func (v *visit) done(key, to string, parameters url.Values) error {
	v.cache.Clear()
	v.setCookie(cookieFlash, key, 60)
	http.Redirect(v.w, v.r, v.link(to, parameters), http.StatusSeeOther)
	return nil
}

// self returns the path and the parameters of this page, without the language.
func (v *visit) self() string {
	parameters := v.r.URL.Query()
	parameters.Del("lang")
	if v.r.Method == http.MethodPost || routes[v.name] == nil {
		return v.link("", nil)
	}
	return v.link(v.name, parameters)
}

// back returns a path of the console from the parameter back, or the first page.
func (v *visit) back() string {
	to := v.r.PostFormValue("back")
	if u, err := url.Parse(to); err == nil && u.Host == "" && u.Scheme == "" && strings.HasPrefix(u.Path, v.config.Path+"/") &&
		!strings.Contains(to, `\`) {
		return to
	}
	return v.link("", nil)
}

// reason returns the reason of an act from its form.
func (v *visit) reason() (string, error) {
	why := strings.TrimSpace(strings.ReplaceAll(v.r.PostFormValue("why"), "\r\n", "\n"))
	if why == "" {
		return "", &problem{status: http.StatusBadRequest, key: "error.noreason"}
	}
	return why, nil
}
