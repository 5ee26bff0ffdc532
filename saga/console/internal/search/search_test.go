package search

import (
	"net/url"
	"reflect"
	"testing"
	"time"

	"github.com/tccsaga/tccsaga/saga"
)

func TestParse(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 8, 30, 0, 0, time.UTC)
	for query, want := range map[string]saga.Query{
		"":                             {Unfinished: true, Limit: 50},
		"show=all":                     {Limit: 50},
		"state=trying":                 {Unfinished: true, Limit: 50, States: []saga.State{saga.Trying}},
		"state=trying&state=confirmed": {Limit: 50, States: []saga.State{saga.Trying, saga.Confirmed}},
		"from=2026-03-01T08:30&to=2026-03-01T09:30%2B01:00:00":            {}, // see below
		"from=2026-03-01T08:30":                                           {Unfinished: true, Limit: 50, CreatedAfter: at},
		"to=2026-03-01T09:30:00%2B01:00&limit=200":                        {Unfinished: true, Limit: 200, CreatedBefore: at},
		"from=2026-03-01":                                                 {Unfinished: true, Limit: 50, CreatedAfter: at.Truncate(24 * time.Hour)},
		" label = order &label=order&value=+1001+&order=oldest&after=9.x": {Unfinished: true, Limit: 50, Label: "order", Value: "1001", OldestFirst: true, After: "9.x"},
		"attention=1&paused=1&kind=pay&owner=i&prefix=p&text=T&unknown=1": {Unfinished: true, Limit: 50, Attention: true, Paused: true, Kind: "pay", Owner: "i", Prefix: "p", Text: "T"},
	} {
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		f := Parse(values)
		if reflect.DeepEqual(want, saga.Query{}) {
			if f.Problems[To] != "problem.time" {
				t.Errorf("%q: %v", query, f.Problems)
			}
			continue
		}
		if len(f.Problems) > 0 || !reflect.DeepEqual(f.Query, want) {
			t.Errorf("%q: %+v %v, %+v was expected", query, f.Query, f.Problems, want)
		}
	}
}

// The parameters of a form, and those of its search, make the same search again.
func TestAgain(t *testing.T) {
	t.Parallel()
	values := url.Values{State: {"trying", "cancelled"}, Show: {"all"}, Attention: {"1"}, Paused: {"1"}, Kind: {"k"}, Owner: {"o"}, Prefix: {"p"}, Label: {"l"},
		Value: {"v"}, Text: {"t"}, From: {"2026-01-01T00:00"}, To: {"2026-01-02T00:00"}, Limit: {"100"}, Order: {"oldest"}, After: {"5.x"}}
	f := Parse(values)
	again := Parse(f.Values())
	want := f.Query
	want.After = ""
	if !reflect.DeepEqual(again.Query, want) || len(again.Problems) > 0 {
		t.Errorf("%+v, %+v was expected", again.Query, want)
	}
	if next := Parse(f.Next("6.y")); next.Query.After != "6.y" || next.Get(Kind) != "k" || !next.Has(State, "trying") {
		t.Errorf("%+v", next.Query)
	}
	of := Parse(Of(f.Query))
	want.Limit, want.OldestFirst = 50, false // these do not select
	if !reflect.DeepEqual(of.Query, want) || len(of.Problems) > 0 {
		t.Errorf("%+v, %+v was expected", of.Query, want)
	}
	if plain := Parse(Of(saga.Query{Unfinished: true})); !plain.Query.Unfinished {
		t.Errorf("%+v", plain.Query)
	}
}
