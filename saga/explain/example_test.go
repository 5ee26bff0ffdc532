package explain_test

import (
	"fmt"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/explain"
)

// Where does a transaction stand, and why?
func Example() {
	// found, err := engine.Lookup(ctx, "order-1001")
	at := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	found := &saga.Transaction{
		Summary: saga.Summary{GID: "order-1001", State: saga.Confirming, DecidedBy: "caller", CreatedAt: at, DecidedAt: at},
		Branches: []saga.BranchView{{ID: "01", Kind: "message.publish",
			Barrier:  &barrier.Row{State: barrier.StateTried, TriedAt: at},
			Attempts: []saga.Attempt{{Operation: barrier.Confirm, Number: 3, Error: "no broker", Instance: "i1", FailedAt: at.Add(time.Second), NextAt: at.Add(5 * time.Second)}}}},
	}
	clock := func(t time.Time) string { return t.Format("15:04:05") }
	fmt.Println(explain.Diagnose(found).Text(clock))
	for _, s := range explain.Branches(found) {
		fmt.Println(s.BranchID, s.Text(clock))
	}
	for _, e := range explain.Timeline(found) {
		fmt.Println(clock(e.At), e.Kind)
	}
	// Output:
	// It is decided to be confirmed, and waits for branch 01, message.publish, whose Confirm has failed 3 times, the last time with: no broker. The next attempt is due at 10:00:05.
	// 01 Try ran at 10:00:00; Confirm has failed 3 times, the last time with: no broker; the next attempt is due at 10:00:05
	// 10:00:00 began
	// 10:00:00 tried
	// 10:00:00 decided
	// 10:00:01 omitted
	// 10:00:01 failed
	// 10:00:05 planned
}
