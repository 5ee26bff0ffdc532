package chaos

import (
	"strings"
	"testing"
	"time"
)

// balanced returns books with one transaction of each end, which balance: a
// with all branches is confirmed, b with all branches is cancelled, and c was
// rejected at once.
func balanced() *books {
	b := &books{log: map[string]*entry{}, marks: map[branch]*mark{}, messages: map[string]int{"a/04": 2}, effects: map[string]int{"a/04": 1},
		conflicts: map[string]int{}, gateway: &gateway{payments: map[string]*payment{"a/01": {state: Capture}, "b/01": {state: Release}}}, told: &told{}}
	now := time.Now()
	order := Order{Cents: 1, Account: "ann", Points: 2, SKU: "pen", Pieces: 3, Notify: true}
	kinds := map[string]string{"01": "payment", "02": "points.take", "03": "stock.lock", "04": "message.publish"}
	for gid, state := range map[string]string{"a": "confirmed", "b": "cancelled"} {
		order.GID = gid
		b.told.begin(order, false, "executed").counts[Told(state)] = 1
		e := &entry{gid: gid, state: state, planned: true, byCaller: true, created: now, decided: now, finished: now, kinds: kinds}
		for _, id := range []string{"01", "02", "03", "04"} {
			e.branches = append(e.branches, branch{gid, id})
			b.marks[branch{gid, id}] = &mark{barriers: []string{state}}
		}
		b.log[gid] = e
	}
	for _, id := range []string{"02", "03"} {
		b.marks[branch{"a", id}].notes = []string{"try", "confirm"}
		b.marks[branch{"b", id}].notes = []string{"try", "cancel"}
	}
	b.marks[branch{"a", "04"}].outbox, b.marks[branch{"b", "04"}].outbox = "published", "discarded"
	b.told.begin(Order{GID: "c", SKU: scarce, Pieces: scarceAt + 1}, true, "executed").counts[Cancelled] = 1
	b.log["c"] = &entry{gid: "c", state: "cancelled", planned: true, byCaller: true, created: now, decided: now, finished: now,
		branches: []branch{{"c", "01"}}, kinds: map[string]string{"01": "stock.lock"}}
	b.levels = []level{{"pen", plenty - 3, 0, 3}, {"ann", plenty - 2, 0, 2}, {scarce, scarceAt, 0, 0}}
	return b
}

func TestBalancedBooks(t *testing.T) {
	t.Parallel()
	if found := balanced().balance(); len(found) > 0 {
		t.Errorf("found %+v", found)
	}
}

// Each single thing that is wrong is found, and found at its transaction.
func TestImbalances(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, gid, want string
		spoil           func(b *books)
	}{
		{"confirmed and cancelled", "a", "told that it is confirmed, and that it is cancelled", func(b *books) { b.told.stories["a"].counts[Cancelled]++ }},
		{"told otherwise", "b", "told that it is confirmed, but", func(b *books) { b.told.stories["b"].counts = map[Told]int{Confirmed: 1} }},
		{"never learned", "a", "nobody ever learned", func(b *books) { clear(b.told.stories["a"].counts) }},
		{"lost", "b", "not in the log", func(b *books) { delete(b.log, "b") }},
		{"confirmed by nobody", "a", "nobody decided it", func(b *books) { b.told.stories["a"].left = true }},
		{"confirmed too much", "a", "too much", func(b *books) { b.told.stories["a"].hopeless = true }},
		{"lost after a Try", "a", "and then that there is no such", func(b *books) { b.told.stories["a"].counts[Tried], b.told.stories["a"].counts[Missing] = 1, 1 }},
		{"without a branch", "a", "3 branches of 4", func(b *books) { b.log["a"].branches = b.log["a"].branches[1:] }},
		{"unfinished", "b", "still cancelling", func(b *books) { b.log["b"].state = "cancelling" }},
		{"conflict", "a", "contradicted", func(b *books) { b.conflicts["a"] = 1 }},
		{"after the deadline", "a", "after its deadline", func(b *books) { b.log["a"].late = true }},
		{"not confirmed at the barrier", "a", `the barrier row "tried"`, func(b *books) { b.marks[branch{"a", "03"}].barriers = []string{"tried"} }},
		{"not cancelled at the barrier", "b", `the barrier row ""`, func(b *books) { b.marks[branch{"b", "03"}].barriers = nil }},
		{"hanging", "b", `"try" had effect`, func(b *books) { b.marks[branch{"b", "02"}].notes = []string{"try"} }},
		{"confirmed twice", "a", "try confirm confirm", func(b *books) { b.marks[branch{"a", "02"}].notes = []string{"try", "confirm", "confirm"} }},
		{"effect without a row", "c", "had effect", func(b *books) { b.marks[branch{"c", "01"}] = &mark{notes: []string{"try"}} }},
		{"unknown branch", "a", "not in the log", func(b *books) { b.marks[branch{"a", "05"}] = &mark{barriers: []string{"tried"}} }},
		{"still prepared", "b", `the outbox row "prepared"`, func(b *books) { b.marks[branch{"b", "04"}].outbox = "prepared" }},
		{"message lost", "a", "0 times in the stream", func(b *books) { clear(b.messages); clear(b.effects) }},
		{"message of a cancelled one", "b", "its transaction is not confirmed", func(b *books) { b.messages["b/04"] = 1 }},
		{"handled twice", "a", "its effect 2 times", func(b *books) { b.effects["a/04"] = 2 }},
		{"not handled", "a", "its effect 0 times", func(b *books) { clear(b.effects) }},
		{"dead letter", "", "1 dead letters", func(b *books) { b.dead = 1 }},
		{"not captured", "a", "not captured", func(b *books) { b.gateway.payments["a/01"].state = Hold }},
		{"still held at the gateway", "b", `stands at "hold"`, func(b *books) { b.gateway.payments["b/01"].state = Hold }},
		{"gateway misused", "b", "misused", func(b *books) { b.gateway.payments["b/01"].wrong = "it was asked to hold twice" }},
		{"gateway asked before the log", "d", "the gateway was asked", func(b *books) { b.gateway.payments["d/01"] = &payment{state: Hold} }},
		{"pieces held", "", "1 are still held", func(b *books) { b.levels[0] = level{"pen", plenty - 4, 1, 3} }},
		{"pieces lost", "", "not the", func(b *books) { b.levels[0].free-- }},
		{"points gone", "", "the confirmed orders have", func(b *books) { b.levels[1] = level{"ann", plenty - 3, 0, 3} }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := balanced()
			test.spoil(b)
			for _, i := range b.balance() {
				if i.gid == test.gid && strings.Contains(i.what, test.want) {
					return
				}
			}
			t.Errorf("not found; found %+v", b.balance())
		})
	}
}
