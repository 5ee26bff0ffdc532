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
			report(key.GID, "branch %s: the log does not have its transaction; there is %s", key.ID, b.traces())
		default:
			report(key.GID, "branch %s: the log does not name it; there is %s", key.ID, b.traces())
		}
	}
}

// traces is what there is of a branch, in words.
func (b *Branch) traces() string {
	return fmt.Sprintf("the barrier row %q, and effects: %s", b.Row(), b.effects())
}

func checkOneRow(r *Records, report Report) {
	for key, b := range r.Branches {
		if len(b.Rows) > 1 {
			report(key.GID, "branch %s: barrier rows in %d databases: %q", key.ID, len(b.Rows), b.Rows)
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
		if b.Shape == InLog {
			allowed = []State{NoRow}
		}
		if t.State == Cancelled && b.Shape != InLog {
			allowed = []State{Cancelled, Suspended}
			// An execution that cancels its own plan does not call the Cancel of a
			// branch whose Try it never called, or saw rolled back.
			if t.Planned && t.DecidedByCaller {
				allowed = append(allowed, NoRow)
			}
			switch b.Role {
			case After:
				allowed = []State{NoRow}
			case Decides:
				allowed = slices.DeleteFunc(allowed, func(s State) bool { return s == Cancelled })
			}
		}
		if !slices.Contains(allowed, b.Row()) {
			report(key.GID, "branch %s (%s): the barrier row is %q, but the transaction is %s", key.ID, b.Kind, b.Row(), t.State)
		}
	})
}

func checkEffects(r *Records, report Report) {
	r.ended(func(key Key, b *Branch, t *Transaction) {
		got := b.effects()
		if due := b.due(t.State); b.Shape != NotRecorded && !slices.Contains(due, got) {
			report(key.GID, "branch %s (%s): effects are %s, expected %s; the transaction is %s, the barrier row %q",
				key.ID, b.Kind, got, join(due), t.State, b.Row())
		}
	})
}

// effects are the operations that had effect, in order.
type effects struct{ database, service string }

func (b *Branch) effects() effects {
	return effects{strings.Join(b.Database, " "), strings.Join(b.Service, " ")}
}

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

// due returns the effects that a branch may have had.
func (b *Branch) due(outcome State) []effects {
	s, row := b.Shape, b.Row()
	confirmed := map[Role]string{"": Try + " " + Confirm, Action: Try, Decides: Try, After: Apply}[b.Role]
	const cancelled = Try + " " + Cancel
	switch {
	case s == Prepared && outcome == Confirmed:
		return []effects{{database: Try}}
	case s == Prepared, s == InLog:
		return []effects{{}}
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
