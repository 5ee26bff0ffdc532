package console

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/console/internal/search"
)

// bulkActs are the acts on many transactions.
var bulkActs = []Verb{Retry, Pause, Resume, Confirm, Cancel}

// bulksPage is the list of the bulk actions.
type bulksPage struct {
	Bulks       []bulkRow
	Next, First string
}

type bulkRow struct {
	saga.BulkAction
	Running bool   // in this process
	Stopped string // why the last run in this process has ended early
}

// State returns the key of a text.
func (b bulkRow) State() string {
	switch {
	case !b.FinishedAt.IsZero():
		return "bulk.finished"
	case b.StartedAt.IsZero():
		return "bulk.waits"
	case b.Running:
		return "bulk.running"
	}
	return "bulk.stopped"
}

// Acted returns how many transactions were acted on, with whatever result.
func (b bulkRow) Acted() int { return b.Done + b.Refused + b.Failed }

// Left returns how many transactions are left.
func (b bulkRow) Left() int { return max(0, b.Total-b.Acted()) }

func rowOf(v *visit, b saga.BulkAction) bulkRow {
	row := bulkRow{BulkAction: b}
	row.Running, row.Stopped = v.bulks.state(b.ID)
	return row
}

func bulkList(v *visit) error {
	if _, err := v.overview(v.r.Context()); err != nil { // its clock
		return err
	}
	after := v.r.FormValue("after")
	found, next, err := v.ops.Bulks(v.r.Context(), after, 50)
	if err != nil {
		return err
	}
	page := bulksPage{}
	for _, b := range found {
		page.Bulks = append(page.Bulks, rowOf(v, b))
	}
	if next != "" {
		page.Next = v.link("bulks", url.Values{"after": {next}})
	}
	if after != "" {
		page.First = v.link("bulks", nil)
	}
	return v.render("bulks", "nav.bulks", http.StatusOK, page)
}

// bulkNewPage asks for the act and the reason.
type bulkNewPage struct {
	search.Form
	Acts   []act
	Count  saga.Count
	Fields [][2]string // of the search, to send on
}

func bulkNew(v *visit) error {
	page := bulkNewPage{Form: search.Parse(v.r.URL.Query())}
	if len(page.Problems) > 0 {
		http.Redirect(v.w, v.r, v.link("transactions", page.Values()), http.StatusSeeOther)
		return nil
	}
	q := page.Query
	q.Unfinished, q.After = true, "" // nothing can be done to the others
	var err error
	if page.Count, err = v.ops.Count(v.r.Context(), q); err != nil {
		return err
	}
	for _, name := range sorted(page.Values()) {
		for _, value := range page.Values()[name] {
			page.Fields = append(page.Fields, [2]string{name, value})
		}
	}
	denied := v.denied(Bulk)
	for _, verb := range bulkActs {
		a := act{Name: string(verb), Denied: denied}
		if denied == "" {
			a.Denied = v.denied(verb)
		}
		page.Acts = append(page.Acts, a)
	}
	return v.render("bulknew", "title.bulknew", http.StatusOK, &page)
}

// bulkFreeze makes the list of a bulk action. It acts on nothing.
func bulkFreeze(v *visit) error {
	verb := Verb(v.r.PostFormValue("act"))
	if !slices.Contains(bulkActs, verb) {
		return &problem{status: http.StatusBadRequest, key: "error.act"}
	}
	if err := v.demand(verb); err != nil {
		return err
	}
	why, err := v.reason()
	if err != nil {
		return err
	}
	form := search.Parse(v.r.PostForm)
	back := v.link("bulk/new", form.Values())
	if len(form.Problems) > 0 {
		return &problem{status: http.StatusBadRequest, key: "error.form", typed: why, back: back}
	}
	q := form.Query
	q.After, q.Limit = "", 0
	b, err := v.ops.FreezeBulk(v.r.Context(), string(verb), q, saga.Operator{Who: v.who, Why: why})
	if err != nil {
		return withForm(err, why, back)
	}
	return v.done("bulkfrozen", "bulk", url.Values{"id": {b.ID}})
}

// bulkPage is the page of a bulk action.
type bulkPage struct {
	bulkRow
	Targets []saga.BulkTarget
	Next    string
	First   string
	Search  string // path of the search
	Denied  string // why the sender may not run it
}

// targetsLength is the length of a page of the transactions of a bulk action.
const targetsLength = 100

func bulk(v *visit) error {
	if _, err := v.overview(v.r.Context()); err != nil { // its clock
		return err
	}
	id := v.r.FormValue("id")
	b, err := v.ops.Bulk(v.r.Context(), id)
	if err != nil {
		return err
	}
	page := bulkPage{bulkRow: rowOf(v, b), Denied: v.denied(Bulk), Search: v.link("transactions", search.Of(b.Query))}
	if page.Denied == "" {
		page.Denied = v.denied(Verb(b.Name))
	}
	after := 0
	if text := v.r.FormValue("after"); text != "" {
		if after, err = strconv.Atoi(text); err != nil || after < 0 {
			return &problem{status: http.StatusBadRequest, key: "error.form"}
		}
		page.First = v.link("bulk", url.Values{"id": {id}})
	}
	if page.Targets, err = v.ops.BulkTargets(v.r.Context(), id, after, targetsLength); err != nil {
		return err
	}
	if n := len(page.Targets); n == targetsLength && page.Targets[n-1].Number < b.Total {
		page.Next = v.link("bulk", url.Values{"id": {id}, "after": {strconv.Itoa(page.Targets[n-1].Number)}})
	}
	return v.render("bulk", "title.bulk", http.StatusOK, &page)
}

// bulkRun begins or continues a bulk action.
func bulkRun(v *visit) error {
	id := v.r.PostFormValue("id")
	b, err := v.ops.Bulk(v.r.Context(), id)
	if err != nil {
		return err
	}
	if err := v.demand(Verb(b.Name)); err != nil {
		return err
	}
	back := v.link("bulk", url.Values{"id": {id}})
	if !b.FinishedAt.IsZero() {
		return &problem{status: http.StatusConflict, key: "error.bulkfinished", back: back}
	}
	switch err := v.bulks.start(id); {
	case errors.Is(err, errTooManyBulks), errors.Is(err, errClosed):
		return &problem{status: http.StatusServiceUnavailable, key: "error.bulkbusy", back: back}
	case err != nil:
		return err
	}
	return v.done("bulkstarted", "bulk", url.Values{"id": {id}})
}
