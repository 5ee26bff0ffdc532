// Package render writes transactions as text for people.
package render

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/ctl/internal/term"
	"github.com/tccsaga/tccsaga/saga/explain"
)

// Page is what Transaction writes.
type Page struct {
	Transaction *saga.Transaction
	Times       Times
	Instances   []saga.Instance                   // to say whether the owner is alive
	Paused      []string                          // kinds of branches that are paused
	Refusal     func(act, branchID string) string // why an act would be refused now; nil leaves out the acts
	Command     string                            // name of the command, for its acts
	SQL         []explain.Statement               // that read the same by hand; left out if it is nil
	Payloads    bool                              // show payloads and results
}

// StateStyle returns the style of a state.
func StateStyle(s saga.State) term.Style {
	switch s {
	case saga.Confirmed:
		return term.Good
	case saga.Cancelled:
		return term.Faint
	default:
		return term.Wait
	}
}

// Transaction writes all that is known of a transaction.
func Transaction(w term.Screen, p Page) {
	t := p.Transaction
	fmt.Fprintf(w, "%s  %s\n", w.Paint(term.Title, term.Clean(t.GID)), w.Paint(StateStyle(t.State), strings.ToUpper(string(t.State))))
	fmt.Fprintln(w, w.Wrap(term.Clean(explain.Diagnose(t).Text(p.Times.At)), 0))
	fmt.Fprintln(w)
	p.header(w)
	p.branches(w)
	p.timeline(w)
	p.acts(w)
	if p.SQL != nil {
		title(w, "By hand")
		for _, s := range p.SQL {
			fmt.Fprintf(w, "  %s\n  %s\n", w.Paint(term.Faint, "-- "+s.Title), term.Clean(s.SQL))
		}
	}
}

func title(w term.Screen, text string) { fmt.Fprintf(w, "\n%s\n", w.Paint(term.Title, text)) }

func (p Page) header(w term.Screen) {
	t := p.Transaction
	line := func(name, value string) {
		if value != "" && value != "-" {
			fmt.Fprintf(w, "  %-10s %s\n", name, w.Wrap(value, 13))
		}
	}
	if t.Attention != "" {
		line("attention", w.Paint(term.Bad, term.Clean(t.Attention)))
	}
	for _, b := range t.Branches {
		if slices.Contains(p.Paused, b.Kind) && b.DoneAt.IsZero() && !t.State.Finished() {
			line("paused", w.Paint(term.Wait, "an operator has paused the kind "+term.Clean(b.Kind)+": its branches are not called"))
		}
	}
	if !t.PausedAt.IsZero() {
		line("paused", w.Paint(term.Wait, p.Times.At(t.PausedAt)))
	}
	line("pattern", term.Clean(t.Pattern))
	line("labels", term.Clean(Labels(t.Labels)))
	line("parent", term.Clean(t.Parent))
	line("begun", p.Times.At(t.CreatedAt))
	if t.State == saga.Trying && t.PreparedAt.IsZero() {
		line("deadline", p.Times.At(t.DeadlineAt))
	}
	line("prepared", p.Times.At(t.PreparedAt))
	if !t.DecidedAt.IsZero() {
		line("decided", p.Times.At(t.DecidedAt)+" by "+cmp.Or(t.DecidedBy, "nobody who is recorded"))
	}
	line("finished", p.Times.At(t.FinishedAt))
	if !t.State.Finished() {
		if !t.DueAt.Equal(t.DeadlineAt) {
			line("next", p.Times.At(t.DueAt))
		}
		line("driven by", p.owner())
	}
	if t.Failures > 0 {
		line("failures", fmt.Sprintf("%d failed %s", t.Failures, map[bool]string{true: "call", false: "calls"}[t.Failures == 1]))
	}
	line("trace", term.Clean(t.Trace))
}

// owner says which instance drives the transaction, and whether it runs.
func (p Page) owner() string {
	t := p.Transaction
	if t.Owner == "" {
		return ""
	}
	for _, i := range p.Instances {
		if i.ID == t.Owner {
			alive := "its lease has ended"
			if i.Alive {
				alive = "alive"
			}
			return fmt.Sprintf("%s (host %s, process %d, %s), epoch %d", term.Clean(t.Owner), term.Clean(i.Host), i.PID, alive, t.Epoch)
		}
	}
	return fmt.Sprintf("%s (not running), epoch %d", term.Clean(t.Owner), t.Epoch)
}

func (p Page) branches(w term.Screen) {
	t := p.Transaction
	title(w, "Branches")
	if len(t.Branches) == 0 {
		fmt.Fprintln(w, "  none")
		return
	}
	at := func(at time.Time) string { return p.Times.Short(at) }
	rows := make([][]string, 0, len(t.Branches))
	for i, s := range explain.Branches(t) {
		style := term.Plain
		switch {
		case s.Conflict:
			style = term.Bad
		case s.Due != "" && s.Failures > 0:
			style = term.Wait
		}
		tried, confirmed, cancelled := "-", "-", "-"
		if row := t.Branches[i].Barrier; row != nil {
			tried, confirmed, cancelled = at(row.TriedAt), at(row.ConfirmedAt), at(row.CancelledAt)
		} else if s.Unread != "" || s.Child != "" {
			tried, confirmed, cancelled = "?", "?", "?"
		}
		kind := s.Kind
		if s.Role != "" {
			kind += " (" + string(s.Role) + ")"
		}
		rows = append(rows, []string{"  " + term.Clean(s.BranchID), term.Clean(kind), tried, confirmed, cancelled, w.Paint(style, term.Clean(s.Text(at)))})
	}
	w.Table([]string{"  id", "kind", "try", "confirm", "cancel", "what it has done, and what is next"}, rows, true)
	if !p.Payloads {
		return
	}
	for _, b := range t.Branches {
		fmt.Fprintf(w, "  %s payload: %s\n", term.Clean(b.ID), term.Clean(string(b.Payload)))
		if len(b.Result) > 0 {
			fmt.Fprintf(w, "  %s result:  %s\n", term.Clean(b.ID), term.Clean(string(b.Result)))
		}
	}
}

func (p Page) timeline(w term.Screen) {
	title(w, "Timeline")
	var rows [][]string
	for _, e := range explain.Timeline(p.Transaction) {
		rows = append(rows, p.Times.event(w, e))
	}
	w.Table(nil, rows, true)
}

// Event writes one event of a timeline.
func Event(w term.Screen, t Times, e explain.Event) { w.Table(nil, [][]string{t.event(w, e)}, true) }

func (t Times) event(w term.Screen, e explain.Event) []string {
	style := term.Plain
	switch {
	case e.IsFault():
		style = term.Bad
	case e.IsPlanned():
		style = term.Faint
	case e.Kind == explain.Decided || e.Kind == explain.Ended || e.Kind == explain.Acted:
		style = term.Title
	}
	if len(e.By) == len("00000000-0000-0000-0000-000000000000") {
		e.By = e.By[:8] // an instance; the whole name is above
	}
	at := t.in(e.At).Format("2006-01-02 15:04:05.000")
	if e.IsPlanned() {
		at = t.in(e.At).Format("2006-01-02 15:04:05") + "    "
	}
	return []string{"  " + at, t.Distance(e.At), w.Paint(style, term.Clean(e.Text(t.At)))}
}

// acts writes what an operator can do, and why not.
func (p Page) acts(w term.Screen) {
	t := p.Transaction
	if p.Refusal == nil || t.State.Finished() {
		return
	}
	title(w, "Acts")
	var rows [][]string
	for _, a := range []struct{ act, does string }{
		{"retry", "make every branch that is not done due now"},
		{"pause", "call no branch until it is resumed"},
		{"resume", "call its branches again"},
		{"confirm", "decide to confirm it"},
		{"cancel", "decide to cancel it"},
	} {
		if why := p.Refusal(a.act, ""); why != "" {
			rows = append(rows, []string{"  " + a.act, w.Paint(term.Faint, "refused: "+term.Clean(why))})
			continue
		}
		rows = append(rows, []string{"  " + a.act, fmt.Sprintf("%s:  %s tx %s %s --why ...", a.does, p.Command, a.act, shell(t.GID))})
	}
	for _, b := range t.Branches {
		if p.Refusal("resolve", b.ID) == "" {
			rows = append(rows, []string{"  resolve", fmt.Sprintf("state the result of branch %s:  %s tx resolve %s --branch %s --believed ... --why ...", b.ID, p.Command, shell(t.GID), b.ID)})
		}
	}
	w.Table(nil, rows, true)
}

// shell quotes a gid for a shell, if that is necessary.
func shell(gid string) string {
	if strings.ContainsFunc(gid, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.:@%+,", r))
	}) {
		return "'" + strings.ReplaceAll(gid, "'", `'\''`) + "'"
	}
	return gid
}

// Labels returns labels as one text, in the order of their names.
func Labels(labels map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		parts = append(parts, name+"="+labels[name])
	}
	return strings.Join(parts, " ")
}
