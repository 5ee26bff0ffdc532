package sentence

import (
	"strings"
	"testing"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/console/internal/words"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/explain"
)

var at = time.Date(2026, 3, 1, 8, 30, 0, 0, time.UTC)

// writers are those of all languages.
func writers() (all []Writer) {
	for _, l := range words.Languages {
		all = append(all, Writer{words.For(l), words.UTC})
	}
	return all
}

// check ends with an error if a text is broken, or lacks a part.
func check(t *testing.T, text string, parts ...string) {
	t.Helper()
	if text == "" || strings.Contains(text, "%!") {
		t.Errorf("the text is %q", text)
	}
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%q has no %q", text, p)
		}
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	for _, w := range writers() {
		for _, n := range []int{1, 12} {
			for _, kind := range []explain.EventKind{explain.Began, explain.Tried, explain.Failed, explain.Omitted, explain.Prepared, explain.Decided, explain.Confirmed,
				explain.Cancelled, explain.Suspended, explain.Done, explain.TurnedAway, explain.UnderWay, explain.Acted, explain.Ended, explain.Planned, explain.Due, explain.Deadline} {
				e := explain.Event{Kind: kind, At: at, BranchID: "07", BranchKind: "pay", Operation: barrier.Confirm, Number: n, State: saga.Cancelled, By: "ann", Act: "resolve", Until: at}
				text := w.Event(e)
				check(t, text)
				if text == string(kind) {
					t.Errorf("%s: no text for the event %q", w.Language, kind)
				}
			}
		}
		check(t, w.Event(explain.Event{Kind: explain.Failed, BranchID: "07", BranchKind: "pay", Operation: barrier.Apply, Number: 3}), "Apply", "07 pay", "3")
		check(t, w.Event(explain.Event{Kind: explain.Acted, By: "ann", Act: "retry"}), "ann")
		check(t, w.Event(explain.Event{Kind: explain.UnderWay, BranchID: "07", By: "i1", Operation: barrier.Try, Until: at}), "i1", "2026-03-01 08:30:00 UTC")
		check(t, w.Event(explain.Event{Kind: explain.Decided, State: saga.Confirmed, By: "somebody"}), "somebody")
	}
}

func TestStandings(t *testing.T) {
	t.Parallel()
	for _, w := range writers() {
		seen := map[string]bool{}
		for _, did := range []explain.Did{explain.DidNothing, explain.DidTry, explain.DidConfirm, explain.DidCancel, explain.DidSuspend, explain.DidUnknown} {
			text := w.Standing(explain.Standing{Did: did, At: at})
			check(t, text)
			seen[text] = true
		}
		if len(seen) != 6 {
			t.Errorf("%s: some sentences are the same: %v", w.Language, seen)
		}
		failing := explain.Standing{Did: explain.DidTry, At: at, Due: barrier.Confirm, Failures: 3, LastError: "closed", NextAt: at, TurnedAway: 2,
			UnderWay: &saga.CallUnderWay{Op: barrier.Confirm, By: "i1", Since: at}, Unread: "gone", Reason: true,
			Resolve: &saga.Action{Operator: saga.Operator{Who: "ann"}, Believed: saga.Confirmed}}
		check(t, w.Standing(failing), "Confirm", "3", "closed", "2", "i1", "gone", "ann", "2026-03-01 08:30:00 UTC")
		once := explain.Standing{Did: explain.DidTry, Due: barrier.Confirm, Failures: 1, LastError: "closed"}
		check(t, w.Standing(once), "Confirm", "closed")
		for _, s := range []explain.Standing{{Did: explain.DidTry, Due: barrier.Confirm, Paused: true}, {Did: explain.DidTry, Due: barrier.Confirm, Conflict: true},
			{Did: explain.DidTry, Due: barrier.Confirm}, {Did: explain.DidTry, Undecided: true}} {
			if check(t, w.Standing(s)); w.Standing(s) == w.Standing(explain.Standing{Did: explain.DidTry}) {
				t.Errorf("%s: nothing is said of %+v", w.Language, s)
			}
		}
	}
}

func TestDiagnoses(t *testing.T) {
	t.Parallel()
	branch := &explain.Standing{BranchID: "07", Kind: "pay", Due: barrier.Confirm, Failures: 3, LastError: "closed"}
	for _, w := range writers() {
		seen := map[string]bool{}
		for _, cause := range []explain.Cause{explain.Finished, explain.WaitsForCaller, explain.WaitsForParent, explain.WaitsForTry, explain.WaitsForAnswer,
			explain.WaitsForResume, explain.WaitsForResolve, explain.WaitsForRetry, explain.WaitsForCall} {
			for _, state := range []saga.State{saga.Confirming, saga.Cancelled, saga.Cancelling} {
				text := w.Diagnosis(explain.Diagnosis{Cause: cause, State: state, Branch: branch, Open: 2, NextAt: at, DecidedBy: "deadline"})
				check(t, text)
				seen[text] = true
			}
			check(t, w.Diagnosis(explain.Diagnosis{Cause: cause, State: saga.Confirming, Open: 1}))
		}
		if len(seen) < 13 {
			t.Errorf("%s: only %d sentences differ", w.Language, len(seen))
		}
		check(t, w.Diagnosis(explain.Diagnosis{Cause: explain.WaitsForRetry, State: saga.Confirming, Branch: branch, NextAt: at}), "07 pay", "Confirm", "3", "closed", "2026-03-01 08:30:00 UTC")
		check(t, w.Diagnosis(explain.Diagnosis{Cause: explain.WaitsForParent, Parent: "log/gid/01"}), "log/gid/01")
	}
}

// What the engine says when it would refuse an act is known, if it does not name a branch.
func TestRefusals(t *testing.T) {
	t.Parallel()
	var ops *embedded.Operations // Refusal reads nothing
	known := map[string]bool{}
	for _, state := range []saga.State{saga.Trying, saga.Confirming, saga.Confirmed, saga.Cancelling, saga.Cancelled} {
		for _, paused := range []time.Time{{}, at} {
			for _, planned := range []bool{false, true} {
				found := &saga.Transaction{Summary: saga.Summary{State: state, PausedAt: paused, Planned: planned}}
				for _, act := range []string{"retry", "pause", "resume", "confirm", "cancel"} {
					text := ops.Refusal(found, act, "")
					if text == "" {
						continue
					}
					known[text] = true
					for _, w := range writers() {
						if got := w.Refusal(text); w.Language == "en" && got != text && !strings.HasPrefix(text, "it is "+string(state)) || w.Language != "en" && got == text {
							t.Errorf("%s: %q is written as %q", w.Language, text, got)
						}
					}
				}
			}
		}
	}
	if len(known) < 7 {
		t.Errorf("only %v", known)
	}
	for _, w := range writers() {
		if got := w.Refusal("something else"); got != "something else" {
			t.Error(got)
		}
		if w.Act("retry") == "retry" || w.Act("other") != "other" || w.State("lost") != "lost" {
			t.Errorf("%s: an act or a state", w.Language)
		}
	}
}
