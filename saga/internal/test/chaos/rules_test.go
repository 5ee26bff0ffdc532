package chaos

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tccsaga/tccsaga/saga/internal/test/invariant"
)

// correct returns records that keep every rule: a is confirmed and b is cancelled,
// each with all kinds of branches, and c is cancelled because its Try is refused.
func correct() *records {
	r, began := newRecords(), time.Now()
	var clients histories
	order := Order{Cents: 1, Account: "ann", Points: 2, SKU: "pen", Pieces: 3, Notify: true, Hall: "red", Seats: 4, Show: "hamlet", Tickets: 5}
	add := func(gid string, result Result, o Order, refused string) {
		o.GID = gid
		clients.begin(o, refused).counts[result] = 1
		r.Transactions[gid] = &invariant.Transaction{State: invariant.State(result), Planned: true, DecidedByCaller: true, Created: began, Decided: began, Finished: began, Deadline: began}
	}
	add("a", Confirmed, order, "")
	add("b", Cancelled, order, "")
	add("c", Cancelled, Order{SKU: scarce, Pieces: scarcePieces + 1}, StockKind)
	add("l", Confirmed, Order{Notify: true, Local: true}, "")
	r.readHistories(&clients)
	for gid, client := range r.Clients {
		for _, asked := range client.Asked {
			b := r.Branch(invariant.Key{GID: gid, ID: asked.ID})
			b.Logged, b.Kind, b.Shape = true, asked.Kind, shapes[asked.Kind]
			if gid != "c" {
				b.Rows = []invariant.State{r.Transactions[gid].State}
			}
		}
	}
	for _, id := range []string{"02", "03", "05", "06"} {
		r.Branch(invariant.Key{GID: "a", ID: id}).Database = []string{invariant.Try, invariant.Confirm}
		r.Branch(invariant.Key{GID: "b", ID: id}).Database = []string{invariant.Try, invariant.Cancel}
	}
	g := &gateway{payments: map[string]*payment{}}
	for _, request := range []struct {
		key       string
		operation Operation
	}{{"a/01", Hold}, {"a/01", Capture}, {"a/01", Capture}, {"b/01", Hold}, {"b/01", Release}} {
		g.handle(request.operation, request.key, 1)
	}
	r.readGateway(g)
	r.outbox[messageOf("a")], r.outbox[messageOf("b")] = "published", "discarded"
	r.published["a/04"], r.handled["a/04"] = 2, 1
	r.outbox[invariant.Key{GID: "l", ID: "01"}] = "published"
	r.published["l/01"], r.handled["l/01"], r.published["20260101-X"], r.handled["20260101-X"] = 1, 1, 1, 1
	r.local["l"], r.localOf["20260101-X"] = true, "l"
	r.quantities = []quantity{{"pen", plenty - 3, 0, 3}, {"ann", plenty - 2, 0, 2}, {scarce, scarcePieces, 0, 0}, {"red", plenty - 4, 0, 4}, {"hamlet", plenty - 5, 0, 5}}
	return r
}

func messageOf(gid string) invariant.Key { return invariant.Key{GID: gid, ID: "04"} }

func TestCorrectRecords(t *testing.T) {
	t.Parallel()
	if found := correct().check(); len(found) > 0 {
		t.Errorf("found %v", found)
	}
}

// ruleTests break one thing each in correct records.
var ruleTests = []struct {
	rule, gid, text string
	spoil           func(r *records)
}{
	{"known", "a", "ever learned its outcome", func(r *records) { clear(r.histories["a"].counts) }},
	{"errors", "a", "an error that must not come", func(r *records) { r.histories["a"].counts[Unexpected] = 1 }},
	{"not lost", "a", "and then that there is no such", func(r *records) { r.histories["a"].counts[Tried], r.histories["a"].counts[NotFound] = 1, 1 }},
	{"gateway", "b", "branch 01: the gateway refused a request: it was asked to hold twice", func(r *records) { r.payments["b/01"] = payment{misuse: "it was asked to hold twice"} }},
	{"outbox", "b", `the outbox row is "prepared"`, func(r *records) { r.outbox[messageOf("b")] = "prepared" }},
	{"outbox", "a", `the outbox row is ""`, func(r *records) { delete(r.outbox, messageOf("a")) }},
	{"stream", "a", "not in the stream", func(r *records) { clear(r.published); clear(r.handled) }},
	{"stream", "b", "1 times in the stream, but the transaction is not confirmed", func(r *records) { r.published["b/04"] = 1 }},
	{"nested", "l", "it is confirmed: true; its nested transaction l.02 is confirmed: false", func(r *records) { r.histories["l"].order.Nested = true }},
	{"local", "l", "and 0 messages", func(r *records) { clear(r.localOf); delete(r.published, "20260101-X"); delete(r.handled, "20260101-X") }},
	{"local", "l", "and 2 messages", func(r *records) { r.localOf["20260102-X"] = "l" }},
	{"local", "l", "has left no row", func(r *records) { clear(r.local) }},
	{"local", "b", "but it is not confirmed", func(r *records) { r.local["b"] = true }},
	{"handled once", "a", "handled 2 times", func(r *records) { r.handled["a/04"] = 2 }},
	{"handled once", "a", "handled 0 times", func(r *records) { clear(r.handled) }},
	{"handled once", "b", "but was handled 1 times", func(r *records) { r.handled["b/04"] = 1 }},
	{"dead letters", "", "1 dead letters", func(r *records) { r.deadLetters = 1 }},
	{"conserved", "", "1 are still held", func(r *records) { r.quantities[0] = quantity{"pen", plenty - 4, 1, 3} }},
	{"conserved", "", "are not the", func(r *records) { r.quantities[0].free-- }},
	{"conserved", "", "the confirmed orders have", func(r *records) { r.quantities[1] = quantity{"ann", plenty - 3, 0, 3} }},
	{"conserved", "", "red: 4 are still held", func(r *records) { r.quantities[3] = quantity{"red", plenty - 4, 4, 0} }},
	{"conserved", "", "hamlet: 10 are taken, but the confirmed orders have 5", func(r *records) { r.quantities[4] = quantity{"hamlet", plenty - 10, 0, 10} }},

	// Some of the shared rules, about what is read here.
	{"effects", "a", `effects are "try" at the service`, func(r *records) { r.Branch(invariant.Key{GID: "a", ID: "01"}).Service = []string{invariant.Try} }},
	{"effects", "a", `effects are "try confirm confirm" in the database`, func(r *records) {
		r.Branch(invariant.Key{GID: "a", ID: "06"}).Database = []string{invariant.Try, invariant.Confirm, invariant.Confirm}
	}},
	{"barrier", "a", "branch 05 (seats.take): the barrier row is \"tried\"", func(r *records) {
		r.Branch(invariant.Key{GID: "a", ID: "05"}).Rows = []invariant.State{invariant.Tried}
	}},
	{"answers", "b", "told that it is confirmed", func(r *records) { r.Clients["b"].ToldConfirmed = 1 }},
	{"refused", "c", "(stock.lock) is always refused", func(r *records) { r.Transactions["c"].State = invariant.Confirmed }},
}

func TestRules(t *testing.T) {
	t.Parallel()
	for _, test := range ruleTests {
		t.Run(test.rule+"/"+test.gid+" "+test.text, func(t *testing.T) {
			t.Parallel()
			r := correct()
			test.spoil(r)
			found := r.check()
			if !slices.ContainsFunc(found, func(v invariant.Violation) bool {
				return v.Rule == test.rule && v.GID == test.gid && strings.Contains(v.Text, test.text)
			}) {
				t.Errorf("not found in %v", found)
			}
		})
	}
}

// Each rule has a row that breaks it.
func TestEachRuleIsTested(t *testing.T) {
	t.Parallel()
	tested := map[string]bool{}
	for _, test := range ruleTests {
		tested[test.rule] = true
	}
	for _, rule := range rules {
		if !tested[rule.Name] {
			t.Errorf("no test breaks the rule %q", rule.Name)
		}
	}
}

// A branch that only the gateway knows is a branch that the log does not name.
func TestGatewayBeforeLog(t *testing.T) {
	t.Parallel()
	r, g := correct(), &gateway{payments: map[string]*payment{}}
	g.inject(unavailable, func() {})
	g.handle(Hold, "d/01", 1)
	r.readGateway(g)
	if found := r.check(); len(found) != 1 || found[0].Rule != "named first" || found[0].GID != "d" {
		t.Errorf("found %v", found)
	}
}
