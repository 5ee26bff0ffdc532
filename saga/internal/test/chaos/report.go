package chaos

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tccsaga/tccsaga/saga/internal/test/invariant"
)

// Report is the result of a run.
type Report struct {
	seed       uint64
	took       time.Duration
	faults     map[fault]int
	starts     int   // of workers and of the host
	batches    int64 // requests to the host with several calls
	crashes    []crash
	records    *records
	violations []invariant.Violation
	details    map[string]string // of the first transactions that break a rule
}

// OK says whether every rule was kept.
func (r *Report) OK() bool { return len(r.violations) == 0 }

// String is a screen for people. If rules are broken, the violations follow, with
// the details of the first transactions.
func (r *Report) String() string {
	var text strings.Builder
	line := func(title, format string, arguments ...any) {
		fmt.Fprintf(&text, "%-14s%s\n", title, fmt.Sprintf(format, arguments...))
	}
	line("chaos", "%s of faults, seed %d", r.took.Round(time.Second), r.seed)
	for i, f := range faults {
		line(heading(i, "faults"), "%5d  %s", r.faults[f.fault], f.fault)
	}
	line("clocks", "%d starts of a worker or of the host, each with a clock up to a day wrong, up to 5 %% too fast or too slow, jumping forth and back by up to an hour", r.starts)
	for _, l := range r.transactions() {
		line(l[0], "%s", l[1])
	}
	line("host", "%d batches of calls", r.batches)
	for i, of := range []component{workerComponent, mariaDBComponent, natsComponent} {
		line(heading(i, "recovery"), "%s", r.recovery(of))
	}
	all := len(invariant.Rules) + len(rules)
	if r.OK() {
		line("rules", "all %d are kept", all)
		return text.String()
	}
	broken := r.broken()
	line("rules", "%d of %d are BROKEN, in %d places; seed %d", len(broken), all, len(r.violations), r.seed)
	for _, b := range broken {
		line("", "%5d  %s", b.places, b.sentence)
	}
	r.writeViolations(&text)
	return text.String()
}

// brokenRule is a rule, and in how many places it is broken.
type brokenRule struct {
	sentence string
	places   int
}

func (r *Report) broken() (broken []brokenRule) {
	places := map[string]int{}
	for _, v := range r.violations {
		places[v.Rule]++
	}
	add := func(name, sentence string) {
		if n := places[name]; n > 0 {
			broken = append(broken, brokenRule{fmt.Sprintf("%s: %s", name, sentence), n})
		}
	}
	for _, rule := range invariant.Rules {
		add(rule.Name, rule.Sentence)
	}
	for _, rule := range rules {
		add(rule.Name, rule.Sentence)
	}
	return broken
}

// maxDetails is of how many transactions a report has the details.
const maxDetails = 5

func (r *Report) writeViolations(text *strings.Builder) {
	shown, left := map[string]bool{}, 0
	for _, v := range r.violations {
		details, known := r.details[v.GID]
		if v.GID != "" && !known {
			left++
			continue
		}
		fmt.Fprintf(text, "\n%s\n", v)
		if !shown[v.GID] {
			shown[v.GID] = true
			text.WriteString(details)
		}
	}
	if left > 0 {
		fmt.Fprintf(text, "\nand %d violations of other transactions\n", left)
	}
}

// heading is the title of a list, before its first line only.
func heading(i int, title string) string {
	if i == 0 {
		return title
	}
	return ""
}

// transactions counts the results of the orders.
func (r *Report) transactions() [][2]string {
	states, counts, repeated := map[invariant.State]int{}, map[Result]int{}, 0
	for _, t := range r.records.Transactions {
		states[t.State]++
	}
	none, abandoned := 0, 0
	for gid, h := range r.records.histories {
		for result, n := range h.counts {
			counts[result] += n
		}
		if r.records.Transactions[gid] == nil {
			none++
		} else if h.abandoned {
			abandoned++
		}
	}
	for _, n := range r.records.published {
		if n > 1 {
			repeated++
		}
	}
	return [][2]string{
		{"transactions", fmt.Sprintf("%d: %d confirmed, %d cancelled (%d of them abandoned, and cancelled at their deadline); %d never began",
			len(r.records.histories), states[invariant.Confirmed], states[invariant.Cancelled], abandoned, none)},
		{"answers", fmt.Sprintf("%d confirmed, %d cancelled, %d unknown and asked again", counts[Confirmed], counts[Cancelled], counts[Unknown])},
		{"messages", fmt.Sprintf("%d published, %d of them more than once; %d handled", len(r.records.published), repeated, len(r.records.handled))},
	}
}

// recovery says how long transactions that were under way at a crash took from then
// on.
func (r *Report) recovery(of component) string {
	var times []time.Duration
	crashes := 0
	for _, c := range r.crashes {
		if c.component != of {
			continue
		}
		crashes++
		for _, t := range r.underWay(c) {
			times = append(times, t.Finished.Sub(c.at))
		}
	}
	if len(times) == 0 {
		return fmt.Sprintf("no transaction was under way when %s crashed", of)
	}
	slices.Sort(times)
	at := func(percent int) time.Duration {
		return times[(len(times)-1)*percent/100].Round(time.Millisecond)
	}
	return fmt.Sprintf("%d transactions under way at %d crashes of %s: p50 %s, p99 %s, max %s", len(times), crashes, of, at(50), at(99), at(100))
}

// underWay are the transactions that were under way at a crash. An open transaction
// is under way from its decision on.
func (r *Report) underWay(c crash) (found []*invariant.Transaction) {
	if c.driven != nil {
		for _, gid := range c.driven {
			if t := r.records.Transactions[gid]; t != nil && t.Finished.After(c.at) {
				found = append(found, t)
			}
		}
		return found
	}
	for _, t := range r.records.Transactions {
		began := t.Created
		if !t.Planned {
			began = t.Decided
		}
		if began.Before(c.at) && t.Finished.After(c.at) {
			found = append(found, t)
		}
	}
	return found
}
