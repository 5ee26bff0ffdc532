package explain_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/explain"
)

// begin is when the transactions of these tests begin.
var begin = time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)

func after(seconds int) time.Time { return begin.Add(time.Duration(seconds) * time.Second) }

// clock formats times in the texts of these tests.
func clock(t time.Time) string { return t.Format("15:04:05") }

// confirming is a decided transaction: branch 01 is confirmed, and branch 02 is tried.
func confirming() *saga.Transaction {
	return &saga.Transaction{
		Summary: saga.Summary{GID: "order-1", Pattern: "tcc", State: saga.Confirming, DecidedBy: "caller", Owner: "i1", Planned: true,
			CreatedAt: after(0), DeadlineAt: after(60), DueAt: after(90), DecidedAt: after(2)},
		Branches: []saga.BranchView{
			{ID: "01", Kind: "stock.lock", DoneAt: after(3), Barrier: &barrier.Row{State: barrier.StateConfirmed, TriedAt: after(1), ConfirmedAt: after(3)}},
			{ID: "02", Kind: "message.publish", Barrier: &barrier.Row{State: barrier.StateTried, TriedAt: after(1)}},
		},
	}
}

func failing(t *saga.Transaction, branch int, op barrier.Op, number int, text, code string) {
	b := &t.Branches[branch]
	b.Attempts = append(b.Attempts, saga.Attempt{Operation: op, Number: number, Error: text, Code: code, Instance: "i1",
		FailedAt: after(10 + number), NextAt: after(20 + number)})
}

// Each cause of a wait has its diagnosis, and a sentence for people.
func TestDiagnose(t *testing.T) {
	undecided := func(change func(*saga.Transaction)) *saga.Transaction {
		t := confirming()
		t.State, t.DecidedBy, t.DecidedAt, t.DueAt = saga.Trying, "", time.Time{}, t.DeadlineAt
		t.Branches[0].Barrier = &barrier.Row{State: barrier.StateTried, TriedAt: after(1)}
		t.Branches[0].DoneAt = time.Time{}
		change(t)
		return t
	}
	decided := func(change func(*saga.Transaction)) *saga.Transaction {
		t := confirming()
		change(t)
		return t
	}
	for _, c := range []struct {
		name string
		t    *saga.Transaction
		want explain.Cause
		text string
	}{
		{"open", undecided(func(t *saga.Transaction) { t.Planned, t.Owner = false, "" }), explain.WaitsForCaller,
			"It is undecided: it waits for the Confirm or Cancel of its caller, and is cancelled at 10:01:00."},
		{"executing", undecided(func(*saga.Transaction) {}), explain.WaitsForTry, "It is undecided: instance i1 tries its branches."},
		{"prepared", undecided(func(t *saga.Transaction) { t.Parent, t.PreparedAt = "log/trip/01", after(2) }), explain.WaitsForParent,
			"It is undecided and prepared: log/trip/01 decides it with its own transaction, and it has no deadline."},
		{"asked", undecided(func(t *saga.Transaction) {
			t.Branches[1].Barrier, t.Branches[1].BarrierError, t.Branches[1].Role = nil, "it is in another service", saga.RoleDecides
			failing(t, 1, barrier.Ask, 2, "no route", "")
		}), explain.WaitsForAnswer,
			"It is undecided: branch 02, message.publish, decides, and has to say whether its Try was committed. The question has failed twice, the last time with: no route"},
		{"calling", decided(func(*saga.Transaction) {}), explain.WaitsForCall, "It is decided to be confirmed, and 1 branch is not done yet."},
		{"failing", decided(func(t *saga.Transaction) { failing(t, 1, barrier.Confirm, 12, "no broker", "") }), explain.WaitsForRetry,
			"It is decided to be confirmed, and waits for branch 02, message.publish, whose Confirm has failed 12 times, the last time with: no broker. The next attempt is due at 10:00:32."},
		{"paused", decided(func(t *saga.Transaction) {
			t.PausedAt = after(50)
			failing(t, 1, barrier.Confirm, 12, "no broker", "")
		}), explain.WaitsForResume,
			"It is decided to be confirmed. An operator has paused it: no branch is called until an operator resumes it."},
		{"conflict", decided(func(t *saga.Transaction) { failing(t, 1, barrier.Confirm, 1, "Try never ran", saga.CodeConflict) }), explain.WaitsForResolve,
			"It is decided to be confirmed. Branch 02, message.publish, has a conflict, which no retry can end: Try never ran. An operator has to resolve it."},
		{"cancelling", decided(func(t *saga.Transaction) {
			t.State, t.DecidedBy, t.Reason, t.Code = saga.Cancelling, "deadline", "it was undecided at its deadline", saga.CodeDeadline
		}), explain.WaitsForCall,
			"It is decided to be cancelled by the deadline: it was undecided at its deadline (deadline), and 1 branch is not done yet."},
	} {
		d := explain.Diagnose(c.t)
		if d.Cause != c.want || d.Text(clock) != c.text {
			t.Errorf("%s: %s\n got %s\nwant %s", c.name, d.Cause, d.Text(clock), c.text)
		}
	}
}

// A branch has one sentence: what it has done, and what is next.
func TestStanding(t *testing.T) {
	for _, c := range []struct {
		change func(*saga.Transaction, *saga.BranchView)
		text   string
	}{
		{func(*saga.Transaction, *saga.BranchView) {}, "Try ran at 10:00:01; Confirm has not succeeded yet"},
		{func(t *saga.Transaction, _ *saga.BranchView) { failing(t, 1, barrier.Confirm, 2, "no broker", "") },
			"Try ran at 10:00:01; Confirm has failed twice, the last time with: no broker; the next attempt is due at 10:00:22"},
		{func(t *saga.Transaction, _ *saga.BranchView) {
			failing(t, 1, barrier.Confirm, 1, "the branch is cancelled", saga.CodeConflict)
		}, "Try ran at 10:00:01; Confirm has failed once, the last time with: the branch is cancelled; this is a conflict, which no retry can end: an operator has to resolve it"},
		{func(t *saga.Transaction, b *saga.BranchView) {
			b.DoneAt = after(40)
			t.Acts = []saga.Action{{Name: "resolve", BranchID: "02", Believed: saga.Confirmed, Operator: saga.Operator{Who: "ann", Why: "sent by hand"}, At: after(40)}}
		}, "Try ran at 10:00:01; operator ann believes that it is confirmed: sent by hand"},
		{func(t *saga.Transaction, b *saga.BranchView) {
			t.State, b.Barrier = saga.Cancelled, &barrier.Row{State: barrier.StateSuspended, CancelledAt: after(5), TurnedAway: 1, TurnedAwayAt: after(6)}
		}, "cancelled before any Try (empty rollback): nothing was done, and a late Try is refused at 10:00:05; the barrier turned away 1 call"},
		{func(t *saga.Transaction, b *saga.BranchView) { t.State, b.Barrier = saga.Cancelled, nil }, "nothing was done: no Try ran, or it was rolled back"},
		{func(t *saga.Transaction, b *saga.BranchView) {
			t.State, b.Barrier, b.BarrierError = saga.Cancelled, nil, "the kind is not registered"
		}, "cancelled, or it had nothing to cancel; its barrier row was not read: the kind is not registered"},
		{func(t *saga.Transaction, b *saga.BranchView) { b.Barrier, b.BarrierError = nil, "it is in a service" },
			"it is not known here whether its Try ran; Confirm has not succeeded yet; its barrier row was not read: it is in a service"},
		{func(_ *saga.Transaction, b *saga.BranchView) {
			b.UnderWay = &saga.CallUnderWay{Op: barrier.Confirm, By: "i1", Since: after(7)}
		}, "Try ran at 10:00:01; a Confirm by i1 is under way since 10:00:07"},
		{func(t *saga.Transaction, b *saga.BranchView) { b.Role, b.Barrier = saga.RoleAfter, nil },
			"nothing was done: it is called after the decision to confirm; Apply has not succeeded yet"},
	} {
		tx := confirming()
		c.change(tx, &tx.Branches[1])
		if got := explain.Branch(tx, tx.Branches[1]).Text(clock); got != c.text {
			t.Errorf("\n got %s\nwant %s", got, c.text)
		}
	}
}

// The timeline counts the failed calls that the log has not kept, and is in order.
func TestTimeline(t *testing.T) {
	tx := confirming()
	tx.Branches[1].Barrier.TurnedAway, tx.Branches[1].Barrier.TurnedAwayAt = 3, after(35)
	failing(tx, 1, barrier.Confirm, 20, "no broker", "")
	failing(tx, 1, barrier.Confirm, 21, "still no broker", "")
	tx.Acts = []saga.Action{{Name: "retry", Operator: saga.Operator{Who: "ann", Why: "it is back"}, At: after(33)}}
	var got strings.Builder
	for _, e := range explain.Timeline(tx) {
		fmt.Fprintln(&got, clock(e.At), e.Text(clock))
	}
	want := `10:00:00 begun with 2 branches
10:00:01 the Try of branch 01, stock.lock, ran
10:00:01 the Try of branch 02, message.publish, ran
10:00:02 decided to confirm, by its caller
10:00:03 the Confirm of branch 01, stock.lock, ran
10:00:30 19 failed calls of the Confirm of branch 02, message.publish, happened before; the log keeps only the latest
10:00:30 the Confirm of branch 02, message.publish, failed (attempt 20, by i1): no broker
10:00:31 the Confirm of branch 02, message.publish, failed (attempt 21, by i1): still no broker
10:00:33 operator ann: retry, because: it is back
10:00:35 the barrier turned away a call of branch 02, message.publish, as repeated, late or in conflict (3 calls so far)
10:00:41 the next Confirm of branch 02, message.publish, is due (attempt 22)
10:01:30 an instance works on it next
`
	if got.String() != want {
		t.Errorf("got\n%swant\n%s", got.String(), want)
	}
}

// A gid with quotes and backslashes stays one literal.
func TestSQLQuotes(t *testing.T) {
	for dialect, want := range map[string]string{
		"mysql":    `SELECT * FROM saga_transactions WHERE gid = '\\'';DROP';`,
		"postgres": `SELECT * FROM saga_transactions WHERE gid = '\'';DROP';`,
		"sqlite":   `SELECT * FROM saga_transactions WHERE gid = '\'';DROP';`,
	} {
		if got := explain.SQL(dialect, `\';DROP`)[0].SQL; got != want {
			t.Errorf("%s: got %s, want %s", dialect, got, want)
		}
	}
}
