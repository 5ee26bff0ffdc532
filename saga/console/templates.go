package console

import (
	"cmp"
	"embed"
	"html/template"
	"io/fs"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/console/internal/assets"
	"github.com/tccsaga/tccsaga/saga/console/internal/chart"
	"github.com/tccsaga/tccsaga/saga/console/internal/sentence"
	"github.com/tccsaga/tccsaga/saga/console/internal/words"
)

//go:embed templates
var templates embed.FS

// set has the templates of the pages in one language.
type set struct{ pages map[string]*template.Template }

// parse parses the templates for a language. The templates are part of the program, so a fault
// panics.
func parse(c *Console, p *words.Printer) *set {
	functions := template.FuncMap{
		"t": p.T, "n": p.N, "num": p.Number, "dur": p.Duration, "percent": p.Percent, "rate": p.Rate,
		"count":   func(n saga.Count) string { return p.AtLeast(n.N, n.More) },
		"at":      func(t time.Time) moment { return momentOf(p, t, c.now()) },
		"since":   func(t time.Time) string { return p.Duration(c.now().Sub(t)) },
		"took":    func(from, to time.Time) string { return p.Duration(to.Sub(from)) },
		"asset":   func(name string) string { return c.link("assets/"+assets.Path(name), nil) },
		"link":    func(name string, pairs ...string) string { return c.link(name, parameters(pairs)) },
		"width":   func() int { return chart.Width },
		"height":  func() int { return chart.Height },
		"refusal": sentence.Writer{Printer: p, Time: words.UTC}.Refusal,
		"actname": sentence.Writer{Printer: p, Time: words.UTC}.Act,
	}
	base := template.New("").Funcs(functions)
	template.Must(base.ParseFS(templates, "templates/layout.html", "templates/parts.html"))
	pages := make(map[string]*template.Template)
	files, err := fs.Glob(templates, "templates/*.html")
	if err != nil {
		panic(err) // the pattern
	}
	for _, file := range files {
		name := strings.TrimSuffix(path.Base(file), ".html")
		if name == "layout" || name == "parts" {
			continue
		}
		pages[name] = template.Must(template.Must(base.Clone()).ParseFS(templates, file))
	}
	return &set{pages}
}

// parameters turns names and values, one after the other, into parameters of a URL. It leaves
// out empty values.
func parameters(pairs []string) url.Values {
	values := make(url.Values)
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			values.Add(pairs[i], pairs[i+1])
		}
	}
	return values
}

// moment is a time as a page shows it.
type moment struct {
	Is                              bool // false for no time
	Machine, UTC, Clock, Exact, Ago string
}

func momentOf(p *words.Printer, t, now time.Time) moment {
	if t.IsZero() {
		return moment{}
	}
	return moment{Is: true, Machine: t.UTC().Format(time.RFC3339Nano), UTC: words.UTC(t), Clock: words.Clock(t), Exact: words.Exact(t), Ago: p.Ago(t, now)}
}

// frame is what every page has.
type frame struct {
	*visit
	Page  string
	Title string
	Done  string // what the last act has done
	Data  any
}

// Service returns the name of the service.
func (f *frame) Service() string { return f.config.Title }

// Language returns the language of the page.
func (f *frame) Language() string { return f.words.Language }

// Theme returns light, dark, or nothing.
func (f *frame) Theme() string { return f.theme }

// Who returns the name of the sender of the request.
func (f *frame) Who() string { return f.who }

// Self returns the path of the page.
func (f *frame) Self() string { return f.self() }

// InLanguage returns the path of the page in a language.
func (f *frame) InLanguage(lang string) string {
	self := f.self()
	separator := "?"
	if strings.Contains(self, "?") {
		separator = "&"
	}
	return self + separator + "lang=" + lang
}

// Mode returns the key of a text that says that nobody can act; empty if some can.
func (f *frame) Mode() string {
	switch {
	case f.config.ReadOnly:
		return "mode.readonly"
	case f.config.Authorize == nil:
		return "mode.nohook"
	}
	return ""
}

// Menu returns the pages that every page links to.
func (f *frame) Menu() []item {
	menu := []item{{"", "nav.home"}, {"transactions", "nav.transactions"}, {"kinds", "nav.kinds"}, {"instances", "nav.instances"}}
	if hasMessages(f.config) {
		menu = append(menu, item{"messages", "nav.messages"})
	}
	if len(f.config.XA) > 0 {
		menu = append(menu, item{"indoubt", "nav.indoubt"})
	}
	return append(menu, item{"bulks", "nav.bulks"}, item{"acts", "nav.acts"})
}

// item is a link of the menu.
type item struct{ Name, Key string }

// Current reports whether this page belongs to an item of the menu.
func (f *frame) Current(i item) bool { return i.Name == cmp.Or(above[f.name], f.name) }

// above is the page of the menu above a page.
var above = map[string]string{"transaction": "transactions", "letters": "messages", "letter": "messages", "bulk": "bulks", "bulk/new": "bulks"}
