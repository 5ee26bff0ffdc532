package invariant

import (
	"fmt"
	"slices"
	"strings"
)

func checkNamedFirst(r *Records, report Report) {
	for key, b := range r.Branches {
		switch {
		case b.Logged && r.Transactions[key.GID] != nil:
		case r.Transactions[key.GID] == nil:
			report(key.GID, "the branch %s exists, but the log does not have its transaction: %s", key.ID, b.traces())
		default:
			report(key.GID, "the branch %s has left a trace, but the log does not name it: %s", key.ID, b.traces())
		}
	}
}

// traces is what there is of a branch, in words.
func (b *Branch) traces() string {
	return fmt.Sprintf("barrier row %q, effects in a database %q, at a service %q", b.Row(), strings.Join(b.Database, " "), strings.Join(b.Service, " "))
}

func checkOneRow(r *Records, report Report) {
	for key, b := range r.Branches {
		if len(b.Rows) > 1 {
			report(key.GID, "the branch %s has barrier rows in %d databases: %q", key.ID, len(b.Rows), b.Rows)
		}
	}
}

// ended calls visit for each branch of a transaction that has come to its end. The
// rules "named first" and "end" are about the others.
func (r *Records) ended(visit func(Key, *Branch, *Transaction)) {
	for key, b := range r.Branches {
		if t := r.Transactions[key.GID]; b.Logged && t != nil && t.State.final() {
			visit(key, b, t)
		}
	}
}

func checkBarrier(r *Records, report Report) {
	r.ended(func(key Key, b *Branch, t *Transaction) {
		allowed := []State{Confirmed}
		if t.State == Cancelled {
			allowed = []State{Cancelled, Suspended}
			// An execution that cancels its own plan does not call the Cancel of a
			// branch whose Try it never called, or saw rolled back.
			if t.Planned && t.DecidedByCaller {
				allowed = append(allowed, NoRow)
			}
		}
		if !slices.Contains(allowed, b.Row()) {
			report(key.GID, "the transaction is %s, but its branch %s, %s, has the barrier row %q", t.State, key.ID, b.Kind, b.Row())
		}
	})
}

func checkEffects(r *Records, report Report) {
	r.ended(func(key Key, b *Branch, t *Transaction) {
		got := effects{strings.Join(b.Database, " "), strings.Join(b.Service, " ")}
		if due := b.Shape.due(t.State, b.Row()); b.Shape != NotRecorded && !slices.Contains(due, got) {
			report(key.GID, "the transaction is %s, and its branch %s, %s, with the barrier row %q, had the effects %s; due is %s",
				t.State, key.ID, b.Kind, b.Row(), got, join(due))
		}
	})
}

// effects are the operations that had effect, in order.
type effects struct{ database, service string }

func (e effects) String() string {
	switch {
	case e == effects{}:
		return "none"
	case e.service == "":
		return fmt.Sprintf("%q in the database", e.database)
	case e.database == "":
		return fmt.Sprintf("%q at the service", e.service)
	}
	return fmt.Sprintf("%q in the database and %q at the service", e.database, e.service)
}

// due returns the effects that a branch of this shape may have had.
func (s Shape) due(outcome, row State) []effects {
	const confirmed, cancelled = Try + " " + Confirm, Try + " " + Cancel
	switch {
	case s == AtService && outcome == Confirmed:
		return []effects{{service: confirmed}}
	case s == AtService && row == Cancelled:
		// Its Try may have been lost on the way, or refused.
		return []effects{{service: cancelled}, {service: Cancel}, {}}
	case s == ServiceThenDatabase && outcome == Confirmed:
		return []effects{{database: confirmed, service: Confirm}}
	case s != AtService && outcome == Confirmed:
		return []effects{{database: confirmed}}
	case s != AtService && row == Cancelled:
		return []effects{{database: cancelled}}
	}
	return []effects{{}}
}

func join(all []effects) string {
	texts := make([]string, len(all))
	for i, e := range all {
		texts[i] = e.String()
	}
	return strings.Join(texts, ", or ")
}
