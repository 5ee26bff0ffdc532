// Package search turns the form of the list of transactions into a search, and back.
package search

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tccsaga/tccsaga/saga"
)

// Names of the fields of the form, and of the parameters of the URL.
const (
	State     = "state"
	Show      = "show" // "all" also shows what is finished
	Attention = "attention"
	Paused    = "paused"
	Kind      = "kind"
	Owner     = "owner"
	Prefix    = "prefix"
	Label     = "label"
	Value     = "value"
	Text      = "text"
	From      = "from"
	To        = "to"
	Order     = "order" // "oldest" has the oldest first
	Limit     = "limit"
	After     = "after"
)

// States are the states of a transaction, in their order.
var States = []saga.State{saga.Trying, saga.Confirming, saga.Cancelling, saga.Confirmed, saga.Cancelled}

// Limits are the lengths of a page, the default first.
var Limits = []int{50, 100, 200}

// maxText is the most characters of a text that is searched for.
const maxText = 200

// Form is the form as a person has filled it in.
type Form struct {
	values url.Values
	// Problems has the key of a text for each field that is not valid.
	Problems map[string]string
	// Query is the search. It is not complete if there are problems.
	Query saga.Query
}

// Parse reads the form from the parameters of a URL. It ignores other parameters.
func Parse(values url.Values) Form {
	f := Form{values: make(url.Values), Problems: make(map[string]string)}
	for _, name := range []string{State, Show, Attention, Paused, Kind, Owner, Prefix, Label, Value, Text, From, To, Order, Limit, After} {
		for _, value := range values[name] {
			if value = strings.TrimSpace(value); value != "" && (name == State || !f.values.Has(name)) {
				f.values.Add(name, value)
			}
		}
	}
	q := saga.Query{Attention: f.flag(Attention), Paused: f.flag(Paused), Unfinished: f.choice(Show, "all") == "",
		OldestFirst: f.choice(Order, "oldest") != "", After: f.Get(After), Limit: Limits[0]}
	for _, state := range f.values[State] {
		s := saga.State(state)
		if !slices.Contains(States, s) {
			f.Problems[State] = "problem.state"
		}
		if s.Finished() {
			q.Unfinished = false
		}
		q.States = append(q.States, s)
	}
	q.Kind = f.text(Kind, "problem.kind", func(s string) bool { return saga.ValidateKind(s) == nil })
	q.Owner = f.text(Owner, "problem.id", id(64))
	q.Prefix = f.text(Prefix, "problem.gid", id(128))
	q.Label = f.text(Label, "problem.label", func(s string) bool { return saga.ValidateLabels(map[string]string{s: "x"}) == nil })
	q.Value = f.text(Value, "problem.value", func(s string) bool { return saga.ValidateLabels(map[string]string{"x": s}) == nil })
	q.Text = f.text(Text, "problem.text", func(s string) bool {
		return utf8.ValidString(s) && utf8.RuneCountInString(s) <= maxText && !strings.ContainsFunc(s, unicode.IsControl)
	})
	if q.Label != "" && q.Value == "" && f.Problems[Value] == "" {
		f.Problems[Value] = "problem.labelvalue"
	}
	q.CreatedAfter, q.CreatedBefore = f.time(From), f.time(To)
	if !q.CreatedAfter.IsZero() && !q.CreatedBefore.IsZero() && !q.CreatedAfter.Before(q.CreatedBefore) {
		f.Problems[To] = "problem.order"
	}
	if limit := f.Get(Limit); limit != "" {
		n, err := strconv.Atoi(limit)
		if err != nil || n < 1 || n > Limits[len(Limits)-1] {
			f.Problems[Limit] = "problem.limit"
		} else {
			q.Limit = n
		}
	}
	f.Query = q
	return f
}

// id returns a function that reports whether a text has printable ASCII characters, and no
// more than most.
func id(most int) func(string) bool {
	return func(s string) bool {
		return len(s) <= most && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
	}
}

func (f *Form) flag(name string) bool { return f.choice(name, "1") != "" }

// choice returns the value of a field that has one possible value or none.
func (f *Form) choice(name, only string) string {
	switch value := f.Get(name); value {
	case "", only:
		return value
	default:
		f.Problems[name] = "problem.choice"
		return ""
	}
}

func (f *Form) text(name, problem string, valid func(string) bool) string {
	value := f.Get(name)
	if value != "" && !valid(value) {
		f.Problems[name] = problem
		return ""
	}
	return value
}

// time reads a time in UTC, as a field of type datetime-local writes it, or with a zone.
func (f *Form) time(name string) time.Time {
	value := f.Get(name)
	if value == "" {
		return time.Time{}
	}
	for _, layout := range []string{"2006-01-02T15:04", "2006-01-02T15:04:05", time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, value); err == nil && t.Year() >= 1970 && t.Year() <= 9999 {
			return t.UTC()
		}
	}
	f.Problems[name] = "problem.time"
	return time.Time{}
}

// Get returns the value of a field as the person has written it.
func (f *Form) Get(name string) string { return f.values.Get(name) }

// Has reports whether a field with several values has this one.
func (f *Form) Has(name, value string) bool { return slices.Contains(f.values[name], value) }

// Narrowed reports whether the form has a condition beside the first choice, which is what is
// unfinished.
func (f *Form) Narrowed() bool {
	for name := range f.values {
		if name != Order && name != Limit && name != After {
			return true
		}
	}
	return false
}

// Values returns the parameters of the URL of this search, without the place of the page.
func (f *Form) Values() url.Values {
	values := make(url.Values, len(f.values))
	for name, list := range f.values {
		if name != After {
			values[name] = slices.Clone(list)
		}
	}
	return values
}

// Next returns the parameters of the page behind a place.
func (f *Form) Next(after string) url.Values {
	values := f.Values()
	values.Set(After, after)
	return values
}

// Of returns the parameters of the URL of a search.
func Of(q saga.Query) url.Values {
	values := make(url.Values)
	set := func(name, value string) {
		if value != "" {
			values.Add(name, value)
		}
	}
	flag := func(name, value string, is bool) {
		if is {
			values.Add(name, value)
		}
	}
	at := func(name string, t time.Time) {
		if !t.IsZero() {
			values.Add(name, t.UTC().Format(time.RFC3339Nano))
		}
	}
	for _, s := range q.States {
		set(State, string(s))
	}
	flag(Show, "all", !q.Unfinished)
	flag(Attention, "1", q.Attention)
	flag(Paused, "1", q.Paused)
	set(Kind, q.Kind)
	set(Owner, q.Owner)
	set(Prefix, q.Prefix)
	set(Label, q.Label)
	set(Value, q.Value)
	set(Text, q.Text)
	at(From, q.CreatedAfter)
	at(To, q.CreatedBefore)
	return values
}
