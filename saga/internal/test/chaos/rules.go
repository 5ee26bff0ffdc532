package chaos

import (
	"strings"

	"github.com/tccsaga/tccsaga/saga/internal/test/invariant"
)

// rules are the rules of this world, besides those of package invariant.
var rules = []invariant.Rule[*records]{
	{Name: "known", Sentence: "Each client learns the outcome of its transaction, unless it abandons it.", Check: checkKnown},
	{Name: "errors", Sentence: "No client gets an error that must not come.", Check: checkErrors},
	{Name: "not lost", Sentence: "A transaction with a tried branch is found again.", Check: checkNotLost},
	{Name: "gateway", Sentence: "No branch asks the gateway for what its barrier has to prevent.", Check: checkGateway},
	{Name: "outbox", Sentence: "A message is published if its branch is confirmed, and discarded if it is cancelled.", Check: checkOutbox},
	{Name: "stream", Sentence: "The stream has the messages of confirmed branches, and no others.", Check: checkStream},
	{Name: "nested", Sentence: "A nested transaction is confirmed if the outer one is, and only then.", Check: checkNested},
	{Name: "local", Sentence: "A local transaction leaves its row, its order and its message, or nothing.", Check: checkLocal},
	{Name: "handled once", Sentence: "Each message in the stream is handled exactly once.", Check: checkHandledOnce},
	{Name: "dead letters", Sentence: "No message becomes a dead letter.", Check: checkDeadLetters},
	{Name: "conserved", Sentence: "Stock, points, seats and tickets add up, and those that are taken are those of confirmed orders.", Check: checkConserved},
}

// check applies all rules.
func (r *records) check() []invariant.Violation {
	found := append(invariant.Check(r.Records, invariant.Rules), invariant.Check(r, rules)...)
	invariant.Sort(found)
	return found
}

// confirmed says whether the transaction is confirmed, or is decided to be.
func (r *records) confirmed(gid string) bool {
	t := r.Transactions[gid]
	return t != nil && t.Outcome() == invariant.Confirmed
}

func checkKnown(r *records, report invariant.Report) {
	for gid, h := range r.histories {
		if h.counts[Confirmed]+h.counts[Cancelled] == 0 && !h.abandoned {
			report(gid, "no client ever learned its outcome")
		}
	}
}

func checkErrors(r *records, report invariant.Report) {
	for gid, h := range r.histories {
		if h.counts[Unexpected] > 0 {
			report(gid, "its client got an error that must not come")
		}
	}
}

func checkNotLost(r *records, report invariant.Report) {
	for gid, h := range r.histories {
		if h.counts[Tried] > 0 && h.counts[NotFound] > 0 {
			report(gid, "its client was told that a branch is tried, and then that there is no such transaction")
		}
	}
}

func checkGateway(r *records, report invariant.Report) {
	for key, p := range r.payments {
		if gid, id, _ := strings.Cut(key, "/"); p.misuse != "" {
			report(gid, "branch %s: the gateway refused a request: %s", id, p.misuse)
		}
	}
}

// checkOutbox compares the outbox row of each message with its barrier row, which
// package invariant compares with the outcome.
func checkOutbox(r *records, report invariant.Report) {
	due := map[invariant.State]string{invariant.Confirmed: "published", invariant.Cancelled: "discarded"}
	for key, b := range r.Branches {
		if b.Kind != MessageKind {
			continue
		}
		if r.outbox[key] != due[b.Row()] {
			report(key.GID, "branch %s: the barrier row is %q, but the outbox row is %q", key.ID, b.Row(), r.outbox[key])
		}
	}
}

func checkStream(r *records, report invariant.Report) {
	for branch, n := range r.published {
		if r.localOf[branch] != "" {
			continue
		}
		if gid, id, _ := strings.Cut(branch, "/"); !r.confirmed(gid) {
			report(gid, "branch %s: the message is %d times in the stream, but the transaction is not confirmed", id, n)
		}
	}
	for key, b := range r.Branches {
		if t := r.Transactions[key.GID]; t == nil || t.State != invariant.Confirmed {
			continue
		}
		if b.Kind == MessageKind && r.published[key.String()] == 0 {
			report(key.GID, "branch %s: the message is not in the stream, but the transaction is confirmed", key.ID)
		}
	}
}

func checkNested(r *records, report invariant.Report) {
	for gid, h := range r.histories {
		if child := h.order.nested(); child != "" && r.confirmed(gid) != r.confirmed(child) {
			report(gid, "it is confirmed: %v; its nested transaction %s is confirmed: %v", r.confirmed(gid), child, r.confirmed(child))
		}
	}
}

// checkLocal compares the rows of local transactions with what was committed with them.
func checkLocal(r *records, report invariant.Report) {
	messages := map[string]int{}
	for id, gid := range r.localOf {
		if messages[gid]++; !r.local[gid] {
			report(gid, "the message %s of its local transaction is published, but that has left no row", id)
		}
	}
	for gid := range r.local {
		if !r.confirmed(gid) {
			report(gid, "its local transaction has left a row, but it is not confirmed")
		}
		if messages[gid] != 1 {
			report(gid, "its local transaction has left a row, and %d messages", messages[gid])
		}
	}
	for gid, h := range r.histories {
		if h.order.Local && r.confirmed(gid) && !r.local[gid] {
			report(gid, "it is confirmed, but its local transaction has left no row")
		}
	}
}

func checkHandledOnce(r *records, report invariant.Report) {
	for branch, n := range r.published {
		if gid, id, _ := strings.Cut(branch, "/"); r.handled[branch] != 1 {
			report(gid, "branch %s: the message is %d times in the stream, and was handled %d times", id, n, r.handled[branch])
		}
	}
	for branch, n := range r.handled {
		if gid, id, _ := strings.Cut(branch, "/"); r.published[branch] == 0 {
			report(gid, "branch %s: the message is not in the stream, but was handled %d times", id, n)
		}
	}
}

func checkDeadLetters(r *records, report invariant.Report) {
	if r.deadLetters > 0 {
		report("", "there are %d dead letters", r.deadLetters)
	}
}

// checkConserved compares the quantities of all databases with the confirmed orders.
func checkConserved(r *records, report invariant.Report) {
	confirmed := map[string]int64{}
	for gid, h := range r.histories {
		if r.confirmed(gid) {
			confirmed[h.order.SKU] += h.order.Pieces
			confirmed[h.order.Account] += h.order.Points
			confirmed[h.order.Hall] += h.order.Seats
			confirmed[h.order.Show] += h.order.Tickets
			if h.order.Nested {
				confirmed[NestedAccount] += NestedPoints
			}
		}
	}
	for _, q := range r.quantities {
		put := int64(plenty)
		if q.name == scarce {
			put = scarcePieces
		}
		switch {
		case q.free+q.held+q.taken != put:
			report("", "%s: %d free, %d held and %d taken are not the %d that were put in", q.name, q.free, q.held, q.taken, put)
		case q.held != 0:
			report("", "%s: %d are still held", q.name, q.held)
		case q.taken != confirmed[q.name]:
			report("", "%s: %d are taken, but the confirmed orders have %d", q.name, q.taken, confirmed[q.name])
		}
	}
}
