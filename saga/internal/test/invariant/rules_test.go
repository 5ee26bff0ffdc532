package invariant

import (
	"strings"
	"testing"
	"time"
)

var shapes = []struct {
	id, kind string
	shape    Shape
}{{"01", "stock", InDatabase}, {"02", "payment", AtService}, {"03", "mail", ServiceThenDatabase}, {"04", "message", NotRecorded}, {"05", "row", Prepared}, {"06", "trip", InLog}}

// correct returns records that keep every rule:
//
//	a	confirmed, with a branch of each shape
//	b	cancelled after all of its Trys
//	c	cancelled by its own execution, before its Trys
//	d	cancelled at its deadline, before its Trys; no client decided it
func correct() *Records {
	r := NewRecords()
	began := time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC)
	for gid, state := range map[string]State{"a": Confirmed, "b": Cancelled, "c": Cancelled, "d": Cancelled} {
		r.Transactions[gid] = &Transaction{State: state, Planned: gid != "d", DecidedByCaller: gid != "d",
			Created: began, Decided: began.Add(time.Second), Finished: began.Add(2 * time.Second), Deadline: began.Add(5 * time.Second)}
		client := &Client{Abandoned: gid == "d"}
		for _, s := range shapes {
			client.Asked = append(client.Asked, Asked{ID: s.id, Kind: s.kind})
			b := r.Branch(Key{gid, s.id})
			b.Logged, b.Kind, b.Shape = true, s.kind, s.shape
		}
		r.Clients[gid] = client
	}
	r.Clients["a"].ToldConfirmed, r.Clients["b"].ToldCancelled, r.Clients["c"].ToldCancelled = 2, 1, 1
	for _, s := range shapes[:5] {
		r.Branch(Key{"a", s.id}).Rows = []State{Confirmed}
		r.Branch(Key{"b", s.id}).Rows = []State{Cancelled}
		r.Branch(Key{"d", s.id}).Rows = []State{Suspended}
	}
	for _, id := range []string{"01", "03"} {
		r.Branch(Key{"a", id}).Database = []string{Try, Confirm}
		r.Branch(Key{"b", id}).Database = []string{Try, Cancel}
	}
	r.Branch(Key{"a", "05"}).Database = []string{Try}
	r.Branch(Key{"a", "02"}).Service = []string{Try, Confirm}
	r.Branch(Key{"a", "03"}).Service = []string{Confirm}
	r.Branch(Key{"b", "02"}).Service = []string{Try, Cancel}
	r.Transitions = []Transition{
		{"a", "", Trying, 0, 1}, {"a", Trying, Confirming, 1, 1}, {"a", Confirming, Confirming, 1, 2}, {"a", Confirming, Confirmed, 2, 2},
		{"b", "", Trying, 0, 1}, {"b", Trying, Cancelling, 1, 1}, {"b", Cancelling, Cancelled, 1, 1},
		{"c", "", Confirmed, 0, 1}, {"c", "", Cancelled, 0, 1}, // a member of a batch, written a second time
		{"d", "", Trying, 0, 1}, {"d", Trying, Trying, 1, 2}, {"d", Trying, Cancelled, 2, 2},
	}
	return r
}

func TestCorrectRecords(t *testing.T) {
	t.Parallel()
	if found := Check(correct(), Rules); len(found) > 0 {
		t.Errorf("found %v", found)
	}
}

// A transaction that has not ended breaks that rule only: its decision is known.
func TestDecidedOnly(t *testing.T) {
	t.Parallel()
	for gid, state := range map[string]State{"a": Confirming, "b": Cancelling} {
		r := correct()
		r.Transactions[gid].State = state
		if found := Check(r, Rules); len(found) != 1 || found[0].Rule != "end" {
			t.Errorf("%s: found %v", state, found)
		}
	}
}

// A Cancel of a branch at a service is correct whether or not its Try has arrived.
func TestLostTryAtService(t *testing.T) {
	t.Parallel()
	for _, service := range [][]string{{Try, Cancel}, {Cancel}, nil} {
		r := correct()
		r.Branch(Key{"b", "02"}).Service = service
		if found := Check(r, Rules); len(found) > 0 {
			t.Errorf("with %q: found %v", service, found)
		}
	}
}

// A client that asks for the decision early gets the branches that it has tried.
func TestPartialClient(t *testing.T) {
	t.Parallel()
	r := correct()
	r.Clients["a"].Partial = true
	delete(r.Branches, Key{"a", "04"})
	if found := Check(r, Rules); len(found) > 0 {
		t.Errorf("found %v", found)
	}
}

// ruleTests break one thing each in correct records. The rule that it breaks has
// to say the text of the gid.
var ruleTests = []struct {
	rule, gid, text string
	spoil           func(r *Records)
}{
	{"end", "b", "it is still cancelling", func(r *Records) { r.Transactions["b"].State = Cancelling }},

	{"steps", "a", `from "confirming" to "cancelled"`, func(r *Records) { r.Transitions[3].To = Cancelled }},
	{"steps", "d", `from "cancelled" to "trying"`, func(r *Records) { r.transition("d", Cancelled, Trying, 2, 2) }},
	{"one decision", "b", "decided 0 times", func(r *Records) { r.Transitions = append(r.Transitions[:5], r.Transitions[7:]...) }},
	{"one decision", "a", "decided 2 times", func(r *Records) { r.transition("a", Trying, Cancelling, 2, 2) }},
	{"epoch", "a", "fell from 2 to 1", func(r *Records) { r.Transitions[3].ToEpoch = 1 }},
	{"deadline", "a", "1ms after its deadline", func(r *Records) { r.Transactions["a"].Deadline = r.Transactions["a"].Decided.Add(-time.Millisecond) }},
	{"times", "c", "created 03:04:07.000000, decided 03:04:06", func(r *Records) { r.Transactions["c"].Created = r.Transactions["c"].Decided.Add(time.Second) }},
	{"times", "b", "out of order", func(r *Records) { r.Transactions["b"].Finished = time.Time{} }},
	{"conflict", "a", "1 of its calls", func(r *Records) { r.Transactions["a"].Conflicts = 1 }},

	{"asked for", "d", "no client asked for it", func(r *Records) { delete(r.Clients, "d") }},
	{"answers", "b", "confirmed, but it is cancelled", func(r *Records) { r.Clients["b"].ToldConfirmed = 1 }},
	{"answers", "a", "cancelled, but it is confirmed", func(r *Records) { r.Clients["a"].ToldCancelled = 1 }},
	{"answers", "b", "cancelled, but it is not in the log", func(r *Records) { delete(r.Transactions, "b") }},
	{"one answer", "a", "2 times that it is confirmed, and 1 times that it is cancelled", func(r *Records) { r.Clients["a"].ToldCancelled = 1 }},
	{"complete", "a", "branch 04 (message), number 4 of 6", func(r *Records) { delete(r.Branches, Key{"a", "04"}) }},
	{"complete", "a", "branch 01: the log has the kind stock, but its client asked for payment", func(r *Records) { r.Clients["a"].Asked[0].Kind = "payment" }},
	{"refused", "a", "branch 01 (stock) is always refused", func(r *Records) { r.Clients["a"].Asked[0].Refused = true }},
	{"abandoned", "a", "no client decided it, but it is confirmed", func(r *Records) { r.Clients["a"].Abandoned = true }},

	{"named first", "a", "the log does not name it", func(r *Records) { r.Branch(Key{"a", "07"}).Rows = []State{Tried} }},
	{"named first", "e", `and effects: "try" at the service`, func(r *Records) { r.Branch(Key{"e", "01"}).Service = []string{Try} }},
	{"named first", "b", "does not have its transaction", func(r *Records) { delete(r.Transactions, "b") }},
	{"one row", "a", "in 2 databases", func(r *Records) { r.Branch(Key{"a", "01"}).Rows = []State{Confirmed, Confirmed} }},
	{"barrier", "a", `the barrier row is "tried", but the transaction is confirmed`, func(r *Records) { r.Branch(Key{"a", "01"}).Rows = []State{Tried} }},
	{"barrier", "a", `the barrier row is ""`, func(r *Records) { r.Branch(Key{"a", "04"}).Rows = nil }},
	{"barrier", "b", `the barrier row is "confirmed"`, func(r *Records) { r.Branch(Key{"b", "04"}).Rows = []State{Confirmed} }},
	{"barrier", "d", `the barrier row is ""`, func(r *Records) { r.Branch(Key{"d", "01"}).Rows = nil }},
	{"barrier", "c", `the barrier row is ""`, func(r *Records) { r.Transactions["c"].DecidedByCaller = false }},

	{"effects", "a", `branch 01 (stock): effects are "try confirm confirm" in the database, expected "try confirm" in the database`, func(r *Records) { r.database("a", "01", Try, Confirm, Confirm) }},
	{"effects", "a", `branch 05 (row): effects are none, expected "try"`, func(r *Records) { r.database("a", "05") }},
	{"effects", "b", `branch 05 (row): effects are "try" in the database, expected none`, func(r *Records) { r.database("b", "05", Try) }},
	{"effects", "a", `effects are none`, func(r *Records) { r.database("a", "01") }},
	{"effects", "b", `effects are "try" in the database`, func(r *Records) { r.database("b", "01", Try) }},
	{"effects", "b", `effects are "try cancel try" in the database`, func(r *Records) { r.database("b", "01", Try, Cancel, Try) }},
	{"effects", "c", `effects are "try" in the database, expected none`, func(r *Records) { r.database("c", "01", Try) }},
	{"effects", "d", `effects are "cancel" in the database, expected none`, func(r *Records) { r.database("d", "01", Cancel) }},
	{"effects", "a", `effects are "try" at the service`, func(r *Records) { r.service("a", "02", Try) }},
	{"effects", "b", `effects are "try" at the service`, func(r *Records) { r.service("b", "02", Try) }},
	{"effects", "d", `effects are "try" at the service, expected none`, func(r *Records) { r.service("d", "02", Try) }},
	{"effects", "a", `expected "try confirm" in the database and "confirm" at the service`, func(r *Records) { r.service("a", "03") }},
	{"effects", "b", `"try cancel" in the database and "confirm" at the service`, func(r *Records) { r.service("b", "03", Confirm) }},
}

func (r *Records) transition(gid string, from, to State, fromEpoch, toEpoch int) {
	r.Transitions = append(r.Transitions, Transition{gid, from, to, fromEpoch, toEpoch})
}

func (r *Records) database(gid, id string, operations ...string) {
	r.Branch(Key{gid, id}).Database = operations
}

func (r *Records) service(gid, id string, operations ...string) {
	r.Branch(Key{gid, id}).Service = operations
}

func TestRules(t *testing.T) {
	t.Parallel()
	for _, test := range ruleTests {
		t.Run(test.rule+"/"+test.gid+" "+test.text, func(t *testing.T) {
			t.Parallel()
			r := correct()
			test.spoil(r)
			found := Check(r, Rules)
			for _, v := range found {
				if v.Rule == test.rule && v.GID == test.gid && strings.Contains(v.Text, test.text) {
					return
				}
			}
			t.Errorf("not found in %v", found)
		})
	}
}

// Each rule has a name of its own, one sentence, and a row that breaks it.
func TestEachRuleIsTested(t *testing.T) {
	t.Parallel()
	tested, named := map[string]bool{}, map[string]bool{}
	for _, test := range ruleTests {
		tested[test.rule] = true
	}
	for _, rule := range Rules {
		if !tested[rule.Name] {
			t.Errorf("no test breaks the rule %q", rule.Name)
		}
		if named[rule.Name] {
			t.Errorf("two rules are named %q", rule.Name)
		}
		named[rule.Name] = true
		if strings.Count(rule.Sentence, ".") != 1 || !strings.HasSuffix(rule.Sentence, ".") {
			t.Errorf("the rule %q does not have one sentence: %q", rule.Name, rule.Sentence)
		}
	}
}

// Violations come in the order of the gids, and name their rule.
func TestViolations(t *testing.T) {
	t.Parallel()
	rules := []Rule[int]{
		{"small", "The number is small.", func(n int, report Report) { report("b", "%d is not small", n) }},
		{"even", "The number is even.", func(n int, report Report) { report("", "%d is not even", n); report("a", "%d is not even", n) }},
	}
	var lines []string
	for _, v := range Check(7, rules) {
		lines = append(lines, v.String())
	}
	const want = `7 is not even [rule "even"]; a: 7 is not even [rule "even"]; b: 7 is not small [rule "small"]`
	if got := strings.Join(lines, "; "); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
