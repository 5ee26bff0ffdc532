package chaos

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Report is what a run comes to.
type Report struct {
	seed      uint64
	took      time.Duration
	faults    map[string]int
	starts    int // of workers
	deaths    []death
	books     *books
	found     []imbalance
	histories map[string]string // of the first transactions that are out of balance
}

// Balanced says whether the books do.
func (r *Report) Balanced() bool { return len(r.found) == 0 }

// String is a screen for people, and the histories of the first transactions
// that are out of balance.
func (r *Report) String() string {
	var text strings.Builder
	line := func(title, format string, arguments ...any) {
		fmt.Fprintf(&text, "%-14s%s\n", title, fmt.Sprintf(format, arguments...))
	}
	line("chaos", "%s of faults, seed %d", r.took.Round(time.Second), r.seed)
	for i, f := range faults {
		line(heading(i, "faults"), "%5d  %s", r.faults[f.name], f.name)
	}
	line("clocks", "%d worker processes, each up to a day ahead or behind, up to 5 %% too fast or too slow, and jumping to and fro by up to an hour", r.starts)
	for _, l := range r.transactions() {
		line(l[0], "%s", l[1])
	}
	for i, of := range []string{"a worker", "MariaDB", "NATS"} {
		line(heading(i, "recovery"), "%s", r.recovery(of))
	}
	if r.Balanced() {
		line("books", "balanced")
		return text.String()
	}
	line("books", "OUT OF BALANCE in %d places; seed %d", len(r.found), r.seed)
	shown := map[string]bool{}
	for _, i := range r.found {
		history, known := r.histories[i.gid]
		if i.gid != "" && !known {
			continue
		}
		fmt.Fprintf(&text, "\n%s\n", i)
		if !shown[i.gid] {
			shown[i.gid] = true
			text.WriteString(history)
		}
	}
	return text.String()
}

// shownHistories is how many transactions' histories are told.
const shownHistories = 5

// heading is the title of a list before its first line.
func heading(i int, title string) string {
	if i == 0 {
		return title
	}
	return ""
}

// transactions counts what became of the orders.
func (r *Report) transactions() [][2]string {
	states, counts, repeated := map[string]int{}, map[Told]int{}, 0
	for _, e := range r.books.log {
		states[e.state]++
	}
	none, left := 0, 0
	for gid, s := range r.books.told.stories {
		for told, n := range s.counts {
			counts[told] += n
		}
		if r.books.log[gid] == nil {
			none++
		} else if s.left {
			left++
		}
	}
	for _, n := range r.books.messages {
		if n > 1 {
			repeated++
		}
	}
	return [][2]string{
		{"transactions", fmt.Sprintf("%d: %d confirmed, %d cancelled (%d at their deadline, left alone); %d never began",
			len(r.books.told.stories), states["confirmed"], states["cancelled"], left, none)},
		{"answers", fmt.Sprintf("%d confirmed, %d cancelled, %d unknown and asked again", counts[Confirmed], counts[Cancelled], counts[Unknown])},
		{"messages", fmt.Sprintf("%d published, %d of them more than once; %d handled", len(r.books.messages), repeated, len(r.books.effects))},
	}
}

// recovery says how long transactions that were under way when something died
// took from then on.
func (r *Report) recovery(of string) string {
	var times []time.Duration
	deaths := 0
	for _, d := range r.deaths {
		if d.of != of {
			continue
		}
		deaths++
		for _, e := range r.hit(d) {
			times = append(times, e.finished.Sub(d.at))
		}
	}
	if len(times) == 0 {
		return fmt.Sprintf("no transaction was under way when %s died", of)
	}
	slices.Sort(times)
	at := func(percent int) time.Duration {
		return times[(len(times)-1)*percent/100].Round(time.Millisecond)
	}
	return fmt.Sprintf("%d transactions under way at %d deaths of %s: p50 %s, p99 %s, max %s", len(times), deaths, of, at(50), at(99), at(100))
}

// hit are the transactions that a death hit: under way, and not merely open.
func (r *Report) hit(d death) (hit []*entry) {
	if d.hit != nil {
		for _, gid := range d.hit {
			if e := r.books.log[gid]; e != nil && e.finished.After(d.at) {
				hit = append(hit, e)
			}
		}
		return hit
	}
	for _, e := range r.books.log {
		began := e.created
		if !e.planned {
			began = e.decided
		}
		if began.Before(d.at) && e.finished.After(d.at) {
			hit = append(hit, e)
		}
	}
	return hit
}
