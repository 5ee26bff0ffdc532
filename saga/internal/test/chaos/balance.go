package chaos

import (
	"fmt"
	"slices"
	"strings"
)

// imbalance is something in the books that must not be.
type imbalance struct {
	gid  string // empty if it is not one transaction's
	what string
}

func (i imbalance) String() string {
	if i.gid == "" {
		return i.what
	}
	return i.gid + ": " + i.what
}

// balance compares everything with everything.
func (b *books) balance() (found []imbalance) {
	wrong := func(gid, format string, arguments ...any) {
		found = append(found, imbalance{gid, fmt.Sprintf(format, arguments...)})
	}
	for gid, s := range b.told.stories {
		b.balanceStory(s, b.log[gid], func(format string, arguments ...any) { wrong(gid, format, arguments...) })
	}
	for gid, e := range b.log {
		b.balanceEntry(e, func(format string, arguments ...any) { wrong(gid, format, arguments...) })
	}
	for key := range b.marks {
		if e := b.log[key.gid]; e == nil || e.kinds[key.id] == "" {
			wrong(key.gid, "the branch %s has left traces, but is not in the log", key.id)
		}
	}
	for _, key := range b.gateway.keys() {
		gid, id, _ := strings.Cut(key, "/")
		if e := b.log[gid]; e == nil || e.kinds[id] == "" {
			wrong(gid, "the gateway was asked for the branch %s, which is not in the log", id)
		}
	}
	for id := range b.messages {
		gid, _, _ := strings.Cut(id, "/")
		if e := b.log[gid]; e == nil || e.state != "confirmed" {
			wrong(gid, "the message %s was published, but its transaction is not confirmed", id)
		}
	}
	for id, n := range b.effects {
		if gid, _, _ := strings.Cut(id, "/"); n != 1 || b.messages[id] == 0 {
			wrong(gid, "the message %s had its effect %d times, and is %d times in the stream", id, n, b.messages[id])
		}
	}
	if b.dead > 0 {
		wrong("", "there are %d dead letters", b.dead)
	}
	b.balanceLevels(func(format string, arguments ...any) { wrong("", format, arguments...) })
	slices.SortFunc(found, func(a, b imbalance) int { return strings.Compare(a.gid+a.what, b.gid+b.what) })
	return found
}

// balanceStory compares what callers were told with the log.
func (b *books) balanceStory(s *story, e *entry, wrong func(string, ...any)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counts[Wrong] > 0 {
		wrong("its caller got an error that must not come")
	}
	if s.counts[Confirmed] > 0 && s.counts[Cancelled] > 0 {
		wrong("its callers were told that it is confirmed, and that it is cancelled")
	}
	if s.counts[Confirmed]+s.counts[Cancelled] == 0 && !s.left {
		wrong("nobody ever learned how it is decided")
	}
	if s.counts[Tried] > 0 && s.counts[Missing] > 0 {
		wrong("its caller was told that a branch is tried, and then that there is no such transaction")
	}
	switch {
	case e == nil && !s.left:
		wrong("it is not in the log")
	case e == nil:
	case s.counts[Confirmed] > 0 && e.state != "confirmed":
		wrong("its caller was told that it is confirmed, but it is %s", e.state)
	case s.counts[Cancelled] > 0 && e.state != "cancelled":
		wrong("its caller was told that it is cancelled, but it is %s", e.state)
	case s.left && e.state != "cancelled":
		wrong("nobody decided it, but it is %s", e.state)
	case s.hopeless && e.state == "confirmed":
		wrong("it asked for too much, but is confirmed")
	case e.state == "confirmed" && len(e.branches) != s.order.parts():
		wrong("it is confirmed with %d branches of %d", len(e.branches), s.order.parts())
	}
}

// balanceEntry compares a transaction in the log with its branches' traces.
func (b *books) balanceEntry(e *entry, wrong func(string, ...any)) {
	switch {
	case e.state != "confirmed" && e.state != "cancelled":
		wrong("it is still %s", e.state)
		return
	case b.told.stories[e.gid] == nil:
		wrong("nobody asked for it")
	case e.late:
		wrong("it was decided to be confirmed after its deadline")
	case b.conflicts[e.gid] > 0:
		wrong("%d of its calls contradicted what a branch had done", b.conflicts[e.gid])
	case e.decided.Before(e.created) || e.finished.Before(e.decided):
		wrong("its times are out of order: created %s, decided %s, finished %s", stamp(e.created), stamp(e.decided), stamp(e.finished))
	}
	for _, key := range e.branches {
		if text := b.checkBranch(e, key); text != "" {
			wrong("the branch %s, %s, %s", key.id, e.kinds[key.id], text)
		}
	}
}

// checkBranch says what is wrong with a branch of a finished transaction.
func (b *books) checkBranch(e *entry, key branch) string {
	kind, m := e.kinds[key.id], b.marks[key]
	if m == nil {
		m = &mark{}
	}
	if len(m.barriers) > 1 {
		return fmt.Sprintf("has barrier rows in two databases: %v", m.barriers)
	}
	barrier := strings.Join(m.barriers, "")
	switch {
	case e.state == "confirmed" && barrier != "confirmed":
		return fmt.Sprintf("has the barrier row %q, but the transaction is confirmed", barrier)
	case e.state == "cancelled" && barrier != "cancelled" && barrier != "suspended" && !(barrier == "" && e.untouched()):
		return fmt.Sprintf("has the barrier row %q, but the transaction is cancelled", barrier)
	}
	switch kind {
	case "stock.lock", "points.take":
		want := map[string]string{"confirmed": "try confirm", "cancelled": "try cancel"}[barrier]
		if notes := strings.Join(m.notes, " "); notes != want {
			return fmt.Sprintf("has the barrier row %q, but %q had effect", barrier, notes)
		}
	case "message.publish":
		want := map[string]string{"confirmed": "published", "cancelled": "discarded"}[barrier]
		if m.outbox != want {
			return fmt.Sprintf("has the barrier row %q, but the outbox row %q", barrier, m.outbox)
		}
		if n := b.effects[key.String()]; barrier == "confirmed" && (b.messages[key.String()] == 0 || n != 1) {
			return fmt.Sprintf("is confirmed, but its message is %d times in the stream and had its effect %d times", b.messages[key.String()], n)
		}
	case "payment":
		p := b.gateway.payment(key.String())
		switch {
		case p.wrong != "":
			return "was misused at the gateway: " + p.wrong
		case e.state == "confirmed" && p.state != Capture:
			return fmt.Sprintf("is confirmed, but not captured at the gateway: %q", p.state)
		case e.state == "cancelled" && (p.state == Hold || p.state == Capture):
			return fmt.Sprintf("is cancelled, but at the gateway it stands at %q", p.state)
		}
	}
	return ""
}

// untouched says whether a branch of the transaction may have no barrier row: its own
// execution has cancelled it, and does not cancel Trys that it never called or that
// were rolled back. Whatever such a branch had done would be an imbalance.
func (e *entry) untouched() bool { return e.planned && e.byCaller }

// balanceLevels compares stock and points with the confirmed orders.
func (b *books) balanceLevels(wrong func(string, ...any)) {
	gone := map[string]int64{}
	for gid, e := range b.log {
		if s := b.told.stories[gid]; s != nil && e.state == "confirmed" {
			gone[s.order.SKU] += s.order.Pieces
			gone[s.order.Account] += s.order.Points
		}
	}
	for _, l := range b.levels {
		put := int64(plenty)
		if l.name == scarce {
			put = scarceAt
		}
		switch {
		case l.free+l.held+l.gone != put:
			wrong("%s: %d free, %d held and %d gone are not the %d that were put in", l.name, l.free, l.held, l.gone, put)
		case l.held != 0:
			wrong("%s: %d are still held", l.name, l.held)
		case l.gone != gone[l.name]:
			wrong("%s: %d are gone, but the confirmed orders have %d", l.name, l.gone, gone[l.name])
		}
	}
}
