package console

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/console/internal/gate"
	"github.com/tccsaga/tccsaga/saga/console/internal/search"
)

// listPage is the list of transactions.
type listPage struct {
	search.Form
	Presets      []preset
	Transactions []saga.Summary
	Next         string // path of the next page
	First        string // path of the first page, if this is another one
	Searched     bool   // the search has stopped at its bound before the page was full
	Count        *saga.Count
	BulkLink     string
	Kinds        []string // known kinds, to choose from
	States       []saga.State
	Limits       []int
	Detail       string // why the search is not possible, by the engine
	Open         bool   // the filters are shown
}

// preset is a link to a search that people often need.
type preset struct {
	Key     string
	Link    string
	Current bool
	Count   *saga.Count
}

func transactions(v *visit) error {
	ctx := v.r.Context()
	page := listPage{Form: search.Parse(v.r.URL.Query()), States: search.States, Limits: search.Limits}
	overview, err := v.overview(ctx)
	if err != nil {
		return err
	}
	for _, k := range overview.Kinds {
		page.Kinds = append(page.Kinds, k.Kind)
	}
	page.Presets = presets(v, overview)
	page.Open = len(page.Problems) > 0
	for _, name := range []string{search.Kind, search.Owner, search.Prefix, search.Label, search.Value, search.Text, search.From, search.To} {
		page.Open = page.Open || page.Get(name) != ""
	}
	status := http.StatusOK
	if len(page.Problems) == 0 {
		err = page.find(ctx, v)
		if errors.Is(err, saga.ErrInvalid) {
			page.Detail, err = err.Error(), nil
		}
		if err != nil {
			return err
		}
	}
	if len(page.Problems) > 0 || page.Detail != "" {
		status = http.StatusBadRequest
	}
	return v.render("transactions", "nav.transactions", status, &page)
}

func (p *listPage) find(ctx context.Context, v *visit) error {
	key := p.Values().Encode()
	found, err := gate.Get(ctx, &v.cache, "find "+p.Get(search.After)+" "+key, time.Second, timeout, func(ctx context.Context) (saga.Page, error) {
		return v.ops.Find(ctx, p.Query)
	})
	if err != nil {
		return err
	}
	p.Transactions = found.Transactions
	if found.Next != "" {
		p.Next = v.link("transactions", p.Form.Next(found.Next))
		p.Searched = len(found.Transactions) < p.Query.Limit
	}
	if p.Get(search.After) != "" {
		p.First = v.link("transactions", p.Values())
	}
	count, err := gate.Get(ctx, &v.cache, "count "+key, 5*time.Second, timeout, func(ctx context.Context) (saga.Count, error) {
		q := p.Query
		q.After = ""
		return v.ops.Count(ctx, q)
	})
	if err != nil {
		return err
	}
	p.Count = &count
	if count.N > 0 {
		p.BulkLink = v.link("bulk/new", p.Values())
	}
	return nil
}

// presets returns the links to searches, with the counts of the overview.
func presets(v *visit, o *saga.Overview) []preset {
	unfinished := saga.Count{N: o.Trying.N + o.Confirming.N + o.Cancelling.N, More: o.Trying.More}
	now := v.r.URL.Query()
	for _, name := range []string{search.After, search.Limit, search.Order, "lang"} {
		now.Del(name)
	}
	all := []struct {
		key   string
		count *saga.Count
		pairs []string
	}{
		{"preset.unfinished", &unfinished, nil},
		{"preset.attention", &o.Attention, []string{search.Attention, "1"}},
		{"preset.undecided", &o.Trying, []string{search.State, "trying"}},
		{"preset.decided", &saga.Count{N: o.Confirming.N + o.Cancelling.N, More: o.Confirming.More}, []string{search.State, "confirming", search.State, "cancelling"}},
		{"preset.paused", &o.Paused, []string{search.Paused, "1"}},
		{"preset.cancelled", nil, []string{search.State, "cancelled"}},
		{"preset.all", nil, []string{search.Show, "all"}},
	}
	links := make([]preset, len(all))
	for i, p := range all {
		values := parameters(p.pairs)
		links[i] = preset{p.key, v.link("transactions", values), values.Encode() == now.Encode(), p.count}
	}
	return links
}

// find goes to the transaction with a gid, or to those with a label of this value.
func find(v *visit) error {
	text := strings.TrimSpace(v.r.URL.Query().Get("q"))
	to := v.link("transactions", url.Values{search.Value: {text}, search.Show: {"all"}})
	switch {
	case text == "":
		to = v.link("transactions", nil)
	case barrier.ValidateGID(text) == nil:
		page, err := v.ops.Find(v.r.Context(), saga.Query{Prefix: text, OldestFirst: true, Limit: 1})
		if err != nil {
			return err
		}
		if found := page.Transactions; len(found) > 0 && found[0].GID == text {
			to = v.link("transaction", url.Values{"gid": {text}})
		} else if len(found) > 0 {
			to = v.link("transactions", url.Values{search.Prefix: {text}, search.Show: {"all"}})
		}
	}
	http.Redirect(v.w, v.r, to, http.StatusSeeOther)
	return nil
}
