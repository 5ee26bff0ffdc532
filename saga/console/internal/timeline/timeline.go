// Package timeline puts what is known of a transaction into the order of time: the log, the
// barrier rows, the failed attempts and the acts of operators.
package timeline

import (
	"slices"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
)

// Name says what has happened. It is the last part of the key of a text.
type Name string

// The events.
const (
	Begun      Name = "begun"
	Tried      Name = "tried"      // a Try has run
	TryFailed  Name = "tryfailed"  // a Try has failed or was rejected
	Prepared   Name = "prepared"   // a nested transaction
	Decided    Name = "decided"    // State is the decision, By has made it
	Confirmed  Name = "confirmed"  // the Confirm of a branch has run, or its Apply
	Cancelled  Name = "cancelled"  // the Cancel of a branch has run
	Empty      Name = "empty"      // a Cancel has found no Try: an empty rollback
	Done       Name = "done"       // a branch whose barrier row is not known has ended
	Failed     Name = "failed"     // a Confirm, Cancel or Apply has failed
	TurnedAway Name = "turnedaway" // the barrier has turned away Count calls, the last one At
	Acted      Name = "acted"      // an operator's act
	Finished   Name = "finished"
	UnderWay   Name = "underway" // a call is under way since At
	Deadline   Name = "deadline" // when it is cancelled if it is undecided
	Retry      Name = "retry"    // the earliest time of the next attempt of a branch
	Due        Name = "due"      // when an instance works on it next
)

// Event is something that has happened, or that will.
type Event struct {
	Name     Name
	At       time.Time
	BranchID string
	Kind     string // of the branch
	Op       barrier.Op
	Number   int // of the attempt
	Count    int
	Error    string
	Code     string
	Instance string
	State    saga.State // of the decision, the end, or what an operator believes
	By       string     // who decided: caller, deadline, recovery or operator
	NextAt   time.Time
	Act      *saga.Action
}

// Bad reports whether something has failed.
func (e Event) Bad() bool { return e.Name == Failed || e.Name == TryFailed }

// Of returns what has happened to a transaction, and what comes next, each in the order of
// time. Times of a branch in another database are by that database's clock.
func Of(t *saga.Transaction) (past, next []Event) {
	past = append(past, Event{Name: Begun, At: t.CreatedAt})
	if !t.PreparedAt.IsZero() {
		past = append(past, Event{Name: Prepared, At: t.PreparedAt})
	}
	if !t.DecidedAt.IsZero() {
		decision := saga.Confirming
		if t.State == saga.Cancelling || t.State == saga.Cancelled {
			decision = saga.Cancelling
		}
		past = append(past, Event{Name: Decided, At: t.DecidedAt, State: decision, By: t.DecidedBy, Error: t.Reason, Code: t.Code, BranchID: t.BranchID})
	}
	for i := range t.Acts {
		past = append(past, Event{Name: Acted, At: t.Acts[i].At, Act: &t.Acts[i], BranchID: t.Acts[i].BranchID, State: t.Acts[i].Believed})
	}
	for _, b := range t.Branches {
		past = append(past, ofBranch(b)...)
		next = append(next, nextOf(t, b)...)
	}
	if !t.FinishedAt.IsZero() {
		past = append(past, Event{Name: Finished, At: t.FinishedAt, State: t.State})
	}
	if !t.State.Finished() {
		if t.State == saga.Trying && t.PreparedAt.IsZero() && !t.DeadlineAt.IsZero() {
			next = append(next, Event{Name: Deadline, At: t.DeadlineAt})
		}
		if !t.DueAt.IsZero() && t.PausedAt.IsZero() {
			next = append(next, Event{Name: Due, At: t.DueAt})
		}
	}
	byTime := func(a, b Event) int { return a.At.Compare(b.At) }
	slices.SortStableFunc(past, byTime)
	slices.SortStableFunc(next, byTime)
	return past, next
}

func ofBranch(b saga.BranchView) (events []Event) {
	add := func(name Name, at time.Time, e Event) {
		if !at.IsZero() {
			e.Name, e.At, e.BranchID, e.Kind = name, at, b.ID, b.Kind
			events = append(events, e)
		}
	}
	for _, a := range b.Attempts {
		name := Failed
		if a.Operation == barrier.Try {
			name = TryFailed
		}
		add(name, a.FailedAt, Event{Op: a.Operation, Number: a.Number, Error: a.Error, Code: a.Code, Instance: a.Instance, NextAt: a.NextAt})
	}
	row := b.Barrier
	if row == nil {
		add(Done, b.DoneAt, Event{})
		return events
	}
	add(Tried, row.TriedAt, Event{})
	add(Confirmed, row.ConfirmedAt, Event{})
	if row.State == barrier.StateSuspended {
		add(Empty, row.CancelledAt, Event{})
	} else {
		add(Cancelled, row.CancelledAt, Event{})
	}
	add(TurnedAway, row.TurnedAwayAt, Event{Count: row.TurnedAway})
	return events
}

// nextOf returns what a branch waits for.
func nextOf(t *saga.Transaction, b saga.BranchView) (events []Event) {
	if u := b.UnderWay; u != nil {
		events = append(events, Event{Name: UnderWay, At: u.Since, BranchID: b.ID, Kind: b.Kind, Op: u.Op, Instance: u.By, NextAt: u.Until})
	}
	if last := LastFailure(t.State, b); last != nil && !last.NextAt.IsZero() && t.PausedAt.IsZero() {
		events = append(events, Event{Name: Retry, At: last.NextAt, BranchID: b.ID, Kind: b.Kind, Op: last.Operation, Number: last.Number + 1})
	}
	return events
}

// LastFailure returns the last failed call of a branch, if the branch of a decided transaction
// still waits for that call; otherwise nil.
func LastFailure(state saga.State, b saga.BranchView) *saga.Attempt {
	if state != saga.Confirming && state != saga.Cancelling || !b.DoneAt.IsZero() || b.Barrier != nil && ended(b, state) {
		return nil
	}
	var last *saga.Attempt
	for i := range b.Attempts {
		a := &b.Attempts[i]
		if a.Operation == due(state, b.Role) && (last == nil || a.Number > last.Number) {
			last = a
		}
	}
	return last
}

// due returns the operation that ends a branch of a decided transaction.
func due(state saga.State, role saga.Role) barrier.Op {
	switch {
	case state == saga.Cancelling:
		return barrier.Cancel
	case role == saga.RoleAfter:
		return barrier.Apply
	}
	return barrier.Confirm
}

// ended reports whether the barrier row of a branch shows the end that a decision asks for.
func ended(b saga.BranchView, state saga.State) bool {
	if state == saga.Confirming {
		return b.Barrier.State == barrier.StateConfirmed
	}
	return b.Barrier.State == barrier.StateCancelled || b.Barrier.State == barrier.StateSuspended
}
