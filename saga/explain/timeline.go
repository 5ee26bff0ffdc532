package explain

import (
	"cmp"
	"slices"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
)

// Timeline returns what has happened to a transaction, the oldest first, and then what is
// planned. The log keeps the latest failed calls of each branch only; an event of the kind
// [Omitted] counts the others.
//
// One commit can hold many events, whose times are some milliseconds apart, in the order in
// which the rows are written. They are sorted in the order of the protocol: a Try is before the
// decision to confirm, and the end is last.
func Timeline(t *saga.Transaction) []Event {
	l := &line{}
	l.add(Event{Kind: Began, At: t.CreatedAt, Number: len(t.Branches), Detail: t.Parent, Labels: t.Labels})
	for _, b := range t.Branches {
		l.branch(t, b)
	}
	l.add(Event{Kind: Prepared, At: t.PreparedAt})
	if t.State.Decided() {
		state := saga.Confirmed
		if t.State == saga.Cancelling || t.State == saga.Cancelled {
			state = saga.Cancelled
		}
		l.add(Event{Kind: Decided, At: t.DecidedAt, State: state, By: t.DecidedBy, Detail: t.Reason, Code: t.Code, BranchID: t.BranchID})
	}
	for _, a := range t.Acts {
		l.add(Event{Kind: Acted, At: a.At, Act: a.Name, By: a.Who, Detail: a.Why, BranchID: a.BranchID, State: a.Believed})
	}
	l.add(Event{Kind: Ended, At: t.FinishedAt, State: t.State})
	l.planned(t)
	slices.SortStableFunc(l.events, func(a, b Event) int {
		return cmp.Or(compareBool(a.IsPlanned(), b.IsPlanned()), place(t, a).Compare(place(t, b)),
			cmp.Compare(rank(a), rank(b)))
	})
	return l.events
}

// place returns the time by which an event is sorted.
func place(t *saga.Transaction, e Event) time.Time {
	switch e.Kind {
	case Began:
		return time.Time{}
	case Tried:
		if t.State == saga.Confirming || t.State == saga.Confirmed {
			return within(e.At, time.Time{}, t.DecidedAt)
		}
		return within(e.At, time.Time{}, t.FinishedAt)
	case Decided:
		return within(e.At, time.Time{}, t.FinishedAt)
	case Confirmed, Cancelled, Done:
		return within(e.At, t.DecidedAt, t.FinishedAt)
	case Suspended: // a question comes before the decision
		return within(e.At, time.Time{}, t.FinishedAt)
	case Failed, Omitted:
		if e.Operation != barrier.Try && e.Operation != barrier.Ask {
			return within(e.At, t.DecidedAt, time.Time{})
		}
	}
	return e.At
}

// within returns the time between earliest and latest that is nearest to at. A zero limit is
// none.
func within(at, earliest, latest time.Time) time.Time {
	switch {
	case !latest.IsZero() && at.After(latest):
		return latest
	case at.Before(earliest):
		return earliest
	default:
		return at
	}
}

// rank returns the place of an event among those of the same time.
func rank(e Event) int {
	if e.Kind == Failed && (e.Operation == barrier.Try || e.Operation == barrier.Ask) {
		return slices.Index(order, Tried)
	}
	if e.Kind == Acted && e.Act != "confirm" && e.Act != "cancel" {
		return slices.Index(order, Failed)
	}
	return slices.Index(order, e.Kind)
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	default:
		return -1
	}
}

// order is the order of events of the same time.
var order = []EventKind{Began, Tried, Prepared, Acted, Decided, UnderWay, Omitted, Failed, Confirmed, Cancelled, Suspended, Done, TurnedAway, Ended, Planned, Due, Deadline}

// line is a timeline in the making.
type line struct{ events []Event }

// add adds an event, if it has a time.
func (l *line) add(e Event) {
	if !e.At.IsZero() {
		l.events = append(l.events, e)
	}
}

func (l *line) branch(t *saga.Transaction, b saga.BranchView) {
	add := func(kind EventKind, at time.Time) {
		l.add(Event{Kind: kind, At: at, BranchID: b.ID, BranchKind: b.Kind})
	}
	if row := b.Barrier; row != nil {
		if b.Role != saga.RoleAfter { // an Apply does all in one step
			add(Tried, row.TriedAt)
		}
		add(Confirmed, row.ConfirmedAt)
		if row.TriedAt.IsZero() {
			add(Suspended, row.CancelledAt)
		} else {
			add(Cancelled, row.CancelledAt)
		}
		if row.TurnedAway > 0 {
			l.add(Event{Kind: TurnedAway, At: row.TurnedAwayAt, Number: row.TurnedAway, BranchID: b.ID, BranchKind: b.Kind})
		}
	} else {
		add(Done, b.DoneAt)
	}
	for i, a := range b.Attempts {
		if a.Number > 1 && !slices.ContainsFunc(b.Attempts[:i], func(earlier saga.Attempt) bool { return earlier.Operation == a.Operation }) {
			l.add(Event{Kind: Omitted, At: a.FailedAt, Number: a.Number - 1, Operation: a.Operation, BranchID: b.ID, BranchKind: b.Kind})
		}
		l.add(Event{Kind: Failed, At: a.FailedAt, Number: a.Number, Operation: a.Operation, By: a.Instance, Detail: a.Error, Code: a.Code,
			BranchID: b.ID, BranchKind: b.Kind})
	}
	if u := b.UnderWay; u != nil {
		l.add(Event{Kind: UnderWay, At: u.Since, Until: u.Until, Operation: u.Op, By: u.By, BranchID: b.ID, BranchKind: b.Kind})
	}
	if s := Branch(t, b); s.Due != "" && !s.Conflict && !s.Paused && s.Failures > 0 {
		l.add(Event{Kind: Planned, At: s.NextAt, Number: s.Failures + 1, Operation: s.Due, BranchID: b.ID, BranchKind: b.Kind})
	}
}

// planned adds the next look of an instance and the deadline.
func (l *line) planned(t *saga.Transaction) {
	if t.State.Finished() {
		return
	}
	if t.State == saga.Trying && t.PreparedAt.IsZero() {
		l.add(Event{Kind: Deadline, At: t.DeadlineAt})
	}
	if t.PausedAt.IsZero() && !(t.State == saga.Trying && t.DueAt.Equal(t.DeadlineAt)) {
		l.add(Event{Kind: Due, At: t.DueAt})
	}
}
