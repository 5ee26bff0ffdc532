package nested_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/nested"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// A nested transaction is confirmed with its parent, and not before.
func TestConfirmedWithItsParent(t *testing.T) {
	each(t, quick, func(t *testing.T, s *site) {
		transaction, err := tcc.Begin(t.Context(), s.engine, "trip")
		sagatest.Must(t, err)
		sagatest.Must(t, transaction.Try(t.Context(), stay{2, 3}))
		s.has("room", 8, 2, 0)
		child := s.look("trip.01")
		if child.State != saga.Trying || child.PreparedAt.IsZero() || !strings.HasSuffix(child.Parent, "/trip/01") || child.Pattern != "nested" {
			t.Errorf("while the parent is tried: %+v", child.Summary)
		}
		if text := child.Explain(); !strings.Contains(text, "prepared") || !strings.Contains(text, child.Parent) {
			t.Error(text)
		}
		sagatest.Must(t, transaction.Try(t.Context(), ticket{1}))
		outcome, err := transaction.Confirm(t.Context())
		if err != nil || outcome.State != saga.Confirmed {
			t.Errorf("the parent is %s: %v", outcome.State, err)
		}
		if parent := s.look("trip"); parent.Branches[0].Child != "trip.01" || parent.Branches[0].BarrierError != "" || parent.Explain() != saga.Confirmed.Explain() {
			t.Errorf("the parent is %+v", parent)
		}
		child = s.reaches("trip.01", saga.Confirmed)
		if child.DecidedBy != "caller" || len(child.Branches) != 2 {
			t.Errorf("the child is %+v", child)
		}
		s.has("room", 8, 0, 2)
		s.has("meal", 7, 0, 3)
		s.has("ticket", 9, 0, 1)
	})
}

// A nested transaction may have branches that are nested transactions.
func TestNestedInANestedOne(t *testing.T) {
	each(t, quick, func(t *testing.T, s *site) {
		_, err := tcc.Execute(t.Context(), s.engine, "a", tour{2}, ticket{1})
		sagatest.Must(t, err)
		s.reaches("a.01.01", saga.Confirmed)
		s.reaches("a.01", saga.Confirmed)
		s.has("room", 8, 0, 2)
		s.has("meal", 6, 0, 4)
		_, err = tcc.Execute(t.Context(), s.engine, "b", tour{2}, ticket{100})
		want(t, "b", err, saga.ErrCancelled)
		s.reaches("b.01.01", saga.Cancelled)
		s.reaches("b.01", saga.Cancelled)
		s.has("room", 8, 0, 2)
		s.has("meal", 6, 0, 4)
		s.has("ticket", 9, 0, 1)
	})
}

// A child that is rejected cancels its parent, which has the reason and the code.
func TestARejectedChildCancelsItsParent(t *testing.T) {
	each(t, quick, func(t *testing.T, s *site) {
		for gid, c := range map[string]struct {
			in         tcc.Payload
			code, says string
		}{
			"meals":    {stay{2, 11}, "meal.short", "meal: 11 are not free"},
			"nested":   {tour{11}, "room.short", "room: 11 are not free"},
			"the plan": {stay{0, 1}, "stay.empty", "a stay needs a room"},
		} {
			gid = strings.ReplaceAll(gid, " ", "-")
			_, err := tcc.Execute(t.Context(), s.engine, gid, ticket{1}, c.in)
			var cancelled *saga.CancelledError
			if !errors.As(err, &cancelled) || cancelled.Code != c.code || cancelled.BranchID != "02" || !strings.Contains(cancelled.Reason, c.says) {
				t.Errorf("%s: %+v", gid, err)
			}
			s.reaches(gid, saga.Cancelled)
			s.reaches(gid+".02", saga.Cancelled)
		}
		s.has("room", 10, 0, 0)
		s.has("meal", 10, 0, 0)
		s.has("ticket", 10, 0, 0)
	})
}

// When the deadline of the parent passes during the Try of the child, both are cancelled.
func TestDeadlineOfTheParentDuringTheTry(t *testing.T) {
	each(t, quick, func(t *testing.T, s *site) {
		s.meals.on(func(ctx context.Context, op barrier.Op) error {
			if op == barrier.Try {
				<-ctx.Done()
			}
			return ctx.Err()
		})
		_, err := tcc.ExecuteWith(t.Context(), s.engine, "late", saga.Options{Timeout: 500 * time.Millisecond}, ticket{1}, stay{2, 3})
		want(t, "the parent", err, saga.ErrCancelled)
		s.meals.on(nil)
		if found := s.reaches("late", saga.Cancelled); found.Code != saga.CodeDeadline {
			t.Errorf("the parent is cancelled because of %s", found.Code)
		}
		s.reaches("late.02", saga.Cancelled)
		s.has("room", 10, 0, 0)
		s.has("meal", 10, 0, 0)
	})
}

// A prepared transaction has no deadline. Without a decision, it needs attention.
func TestAPreparedTransactionHasNoDeadline(t *testing.T) {
	config := quick
	config.AttentionAge = 50 * time.Millisecond
	each(t, config, func(t *testing.T, s *site) {
		call := s.stays()
		sagatest.Must(t, call(barrier.Try, "elsewhere", "confirmed"))
		sagatest.Must(t, call(barrier.Try, "elsewhere", "cancelled"))
		sagatest.Must(t, s.engine.Begin(t.Context(), saga.Opening{GID: "open", Parent: "elsewhere/x/01"}))
		s.pass("confirmed.01", "cancelled.01", "open")
		if found := s.reaches("open", saga.Cancelled); found.Code != saga.CodeDeadline {
			t.Errorf("the open one is cancelled because of %s", found.Code)
		}
		sagatest.Eventually(t, "both are raised to attention", func() bool {
			found, err := s.engine.List(t.Context(), saga.Filter{Attention: true})
			sagatest.Must(t, err)
			return len(found) == 2
		})
		for _, gid := range []string{"confirmed.01", "cancelled.01"} {
			if found := s.look(gid); found.State != saga.Trying || !strings.Contains(found.Attention, "its parent has not decided") || found.Owner != "" {
				t.Errorf("past its deadline, %s is %+v", gid, found.Summary)
			}
		}
		sagatest.Must(t, call(barrier.Confirm, "elsewhere", "confirmed"))
		sagatest.Must(t, call(barrier.Cancel, "elsewhere", "cancelled"))
		for gid, state := range map[string]saga.State{"confirmed.01": saga.Confirmed, "cancelled.01": saga.Cancelled} {
			if found := s.reaches(gid, state); found.Attention != "" {
				t.Errorf("at its end, %s needs attention: %s", gid, found.Attention)
			}
		}
		s.has("room", 8, 0, 2)
	})
}

// The instance that finds a prepared transaction without a decision reports it once.
func TestAPreparedTransactionIsReported(t *testing.T) {
	t.Parallel()
	config, raised := quick, make(chan embedded.Attention, 10)
	config.AttentionAge = 50 * time.Millisecond
	config.OnAttention = func(_ context.Context, a embedded.Attention) { raised <- a }
	s := newSite(t, sqltest.Open(t, "sqlite"), config)
	sagatest.Must(t, s.stays()(barrier.Try, "elsewhere", "a"))
	if a := <-raised; a.GID != "a.01" || !strings.Contains(a.Why, "its parent has not decided") {
		t.Errorf("it reported %+v", a)
	}
	due := s.look("a.01").DueAt
	sagatest.Eventually(t, "it was due again", func() bool { return s.look("a.01").DueAt.After(due) })
	if len(raised) > 0 {
		t.Errorf("it reported once more: %+v", <-raised)
	}
}

// pass lets the deadlines of transactions pass.
func (s *site) pass(gids ...string) {
	s.t.Helper()
	const past = "'2000-01-01 00:00:00.000'"
	sqltest.Exec(s.t, s.db, "UPDATE saga_transactions SET deadline_at = "+past+", due_at = "+past+" WHERE gid IN ?", gids)
}

// Nobody but the parent decides a nested transaction. An operator can, which is recorded.
func TestWhoDecides(t *testing.T) {
	each(t, quick, func(t *testing.T, s *site) {
		call := s.stays()
		sagatest.Must(t, call(barrier.Try, "elsewhere", "a"))
		_, err := s.engine.Confirm(t.Context(), "a.01", saga.Options{})
		want(t, "a user's Confirm", err, saga.ErrNotOpen)
		if !strings.Contains(err.Error(), "it is nested in elsewhere/a/01, which decides it") {
			t.Error(err)
		}
		_, err = s.engine.Cancel(t.Context(), "a.01", "no")
		want(t, "a user's Cancel", err, saga.ErrNotOpen)
		_, err = tcc.Join(t.Context(), s.engine, "a.01")
		want(t, "a user's Join", err, saga.ErrMismatch)
		want(t, "a user's Try", s.engine.Try(t.Context(), "a.01", "09", saga.Step{Kind: "room", Input: room{1}}), saga.ErrNotOpen)
		if found := s.look("a.01"); found.State != saga.Trying || len(found.Branches) != 2 {
			t.Errorf("it is %+v", found)
		}
		by := saga.Operator{Who: "ann", Why: "the agency is gone"}
		sagatest.Must(t, s.engine.Begin(t.Context(), saga.Opening{GID: "open", Parent: "elsewhere/open/01"}))
		_, err = s.engine.Decide(t.Context(), "open", saga.Confirming, by)
		want(t, "an operator's Confirm before it is prepared", err, saga.ErrRefused)
		_, err = s.engine.Decide(t.Context(), "a.01", saga.Confirming, by)
		want(t, "an operator's Confirm", err, nil)
		if found := s.reaches("a.01", saga.Confirmed); found.DecidedBy != "operator" || len(found.Acts) != 1 || found.Acts[0].Operator != by {
			t.Errorf("it is %+v", found)
		}
		want(t, "the parent's Confirm after that", call(barrier.Confirm, "elsewhere", "a"), nil)
		want(t, "the parent's Cancel after that", call(barrier.Cancel, "elsewhere", "a"), barrier.ErrConflict)
	})
}

// An operator cancels the child by hand, and then the parent confirms: the parent needs
// attention, in words.
func TestAnOperatorContradictsTheParent(t *testing.T) {
	each(t, quick, func(t *testing.T, s *site) {
		transaction, err := tcc.Begin(t.Context(), s.engine, "trip")
		sagatest.Must(t, err)
		sagatest.Must(t, transaction.Try(t.Context(), stay{2, 3}))
		_, err = s.engine.Decide(t.Context(), "trip.01", saga.Cancelling, saga.Operator{Who: "ann", Why: "rooms are needed"})
		sagatest.Must(t, err)
		outcome, err := transaction.Confirm(t.Context())
		if err != nil || outcome.State != saga.Confirming {
			t.Errorf("the parent is %s: %v", outcome.State, err)
		}
		parent := s.look("trip")
		for _, says := range []string{"conflict: branch 01, stay", "trip.01", "cancelled by ann: rooms are needed"} {
			if !strings.Contains(parent.Attention, says) {
				t.Errorf("the attention is %q, want %q", parent.Attention, says)
			}
		}
		sagatest.Must(t, s.engine.Resolve(t.Context(), "trip", "01", saga.Cancelled, saga.Operator{Who: "ann", Why: "I cancelled it"}))
		s.reaches("trip", saga.Confirmed)
	})
}

// The gid of a child is the same in every call, and a valid one.
func TestGID(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("g", barrier.MaxGID)
	fits := strings.Repeat("g", barrier.MaxGID-3)
	seen := map[string]bool{}
	for _, c := range []struct {
		branch barrier.Key
		want   string // empty for a hash
	}{
		{barrier.Key{GID: "order-1", BranchID: "01"}, "order-1.01"},
		{barrier.Key{GID: fits, BranchID: "01"}, fits + ".01"},
		{barrier.Key{GID: fits + "g", BranchID: "01"}, ""},
		{barrier.Key{GID: long, BranchID: "01"}, ""},
		{barrier.Key{GID: long, BranchID: "02"}, ""},
		{barrier.Key{GID: long[1:] + "h", BranchID: "01"}, ""},
	} {
		got := nested.GID(c.branch)
		if c.want != "" && got != c.want || c.want == "" && !strings.HasPrefix(got, "nested.") || seen[got] {
			t.Errorf("%s: %s, want %s", c.branch, got, c.want)
		}
		seen[got] = true
		if err := barrier.ValidateGID(got); err != nil || got != nested.GID(c.branch) || got == c.branch.GID {
			t.Errorf("%s: %s: %v", c.branch, got, err)
		}
	}
}

func TestRegisterRefuses(t *testing.T) {
	t.Parallel()
	s := newSite(t, sqltest.Open(t, "sqlite"), quick)
	for says, b := range map[string]nested.Branch[stay]{
		"Child is nil":        {Plan: planStay},
		"Plan is nil":         {Child: s.engine},
		"Timeout is negative": {Child: s.engine, Plan: planStay, Timeout: -1},
	} {
		if err := nested.Register(s.engine, b); !errors.Is(err, saga.ErrInvalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
	sagatest.Must(t, nested.Register(s.engine, nested.Branch[stay]{Child: s.engine, Plan: planStay}))
	want(t, "twice", nested.Register(s.engine, nested.Branch[stay]{Child: s.engine, Plan: planStay}), saga.ErrInvalid)
}
