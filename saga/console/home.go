package console

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/console/internal/chart"
	"github.com/tccsaga/tccsaga/saga/console/internal/gate"
)

// homePage is the first page.
type homePage struct {
	*saga.Overview
	Needs    []need
	Unknown  []string // keys of texts: what could not be asked
	Spans    []span
	Span     span
	Activity []saga.Activity
	Charts   charts
}

// need is something that needs a person.
type need struct {
	Key   string // of the text, without the form for a number
	N     int
	More  bool
	Text  string // after the text
	Link  string
	Alarm bool
}

// span is a choice of how much time the charts show.
type span struct {
	Name string
	Step time.Duration
	N    int
}

var spans = []span{{"15m", 30 * time.Second, 30}, {"1h", 2 * time.Minute, 30}, {"6h", 10 * time.Minute, 36}, {"24h", 30 * time.Minute, 48}}

// charts are the shapes of the charts.
type charts struct {
	Rates, Cancels []chart.Bar
	Failures       []chart.Bar
	P50, P99       string
	MostRate       float64
	MostTime       time.Duration
	MostFailed     float64
	Last           saga.Activity // the last part of time
	Empty          bool
	From, Until    time.Time
}

func home(v *visit) error {
	ctx := v.r.Context()
	page := homePage{Spans: spans, Span: spans[0]}
	if name := v.r.URL.Query().Get("span"); name != "" {
		i := slices.IndexFunc(spans, func(s span) bool { return s.Name == name })
		if i < 0 {
			return &problem{status: http.StatusBadRequest, key: "error.span"}
		}
		page.Span = spans[i]
	}
	var err error
	if page.Overview, err = v.overview(ctx); err != nil {
		return err
	}
	// The last part of time is not over yet, so it is not shown.
	page.Activity, err = gate.Get(ctx, &v.cache, "activity "+page.Span.Name, min(page.Span.Step/3, 30*time.Second), timeout,
		func(ctx context.Context) ([]saga.Activity, error) {
			return v.ops.Activity(ctx, time.Time{}, page.Span.Step, page.Span.N)
		})
	if err != nil {
		return err
	}
	page.Charts = draw(page.Activity)
	page.Needs = needs(v, page.Overview)
	more, unknown := messageNeeds(v)
	page.Needs, page.Unknown = append(page.Needs, more...), unknown
	return v.render("home", "nav.home", http.StatusOK, page)
}

// needs returns what needs a person in the log and in the engines.
func needs(v *visit, o *saga.Overview) (needs []need) {
	add := func(key string, n saga.Count, alarm bool, text, to string) {
		if n.N > 0 {
			needs = append(needs, need{Key: key, N: n.N, More: n.More, Text: text, Link: to, Alarm: alarm})
		}
	}
	link := func(name string, pairs ...string) string { return v.link(name, parameters(pairs)) }
	add("need.attention", o.Attention, true, "", link("transactions", "attention", "1"))
	if t := o.OldestUndecided; t != nil && t.PreparedAt.IsZero() && o.Now.After(t.DeadlineAt.Add(time.Minute)) {
		add("need.late", saga.Count{N: 1}, true, t.GID, link("transaction", "gid", t.GID))
	}
	gone := 0
	for _, i := range o.Instances {
		if !i.Alive {
			gone++
		}
	}
	if gone == len(o.Instances) && o.Trying.N+o.Confirming.N+o.Cancelling.N > 0 {
		needs = append(needs, need{Key: "need.noengine", N: 1, Link: link("instances"), Alarm: true})
	}
	add("need.lease", saga.Count{N: gone}, true, "", link("instances"))
	for _, k := range o.Kinds {
		if k.Circuit != nil && k.Circuit.Open {
			add("need.circuit", saga.Count{N: 1}, true, k.Kind, link("kinds")+"#kind-"+k.Kind)
		}
		if !k.PausedAt.IsZero() {
			add("need.kind", saga.Count{N: 1}, false, k.Kind, link("kinds")+"#kind-"+k.Kind)
		}
	}
	add("need.paused", o.Paused, false, "", link("transactions", "paused", "1"))
	return needs
}

// draw computes the shapes of the charts.
func draw(parts []saga.Activity) charts {
	n := len(parts)
	confirmed, cancelled, failed := make([]float64, n), make([]float64, n), make([]float64, n)
	p50, p99, rates := make([]float64, n), make([]float64, n), make([]float64, n)
	c := charts{Empty: true}
	for i, a := range parts {
		rates[i], failed[i] = a.Rate, a.Failed
		cancelled[i] = a.Rate * a.Cancelled
		confirmed[i] = a.Rate - cancelled[i]
		p50[i], p99[i] = a.P50.Seconds(), a.P99.Seconds()
		c.Empty = c.Empty && a.Rate == 0
	}
	c.MostRate, c.MostFailed = chart.Most(0, rates), chart.Most(0.01, failed)
	mostTime := chart.Most(0, p99)
	c.MostTime = time.Duration(mostTime * float64(time.Second))
	c.Rates, c.Cancels = chart.Bars(confirmed, c.MostRate), chart.Stacked(confirmed, cancelled, c.MostRate)
	c.Failures = chart.Bars(failed, c.MostFailed)
	c.P50, c.P99 = chart.Line(p50, mostTime), chart.Line(p99, mostTime)
	if n > 0 {
		c.Last = parts[n-1]
		c.From, c.Until = parts[0].From, c.Last.From.Add(c.Last.For)
	}
	return c
}
