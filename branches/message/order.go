package message

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message/broker"
)

// publishRows publishes the wanted rows, which are prepared, and says in each of
// them what came of it. Those whose order counts are published in order, others
// beside them.
func (p *Publisher) publishRows(ctx context.Context, b book, wanted []*outboxRow) {
	var free, ordered []*outboxRow
	for _, r := range wanted {
		known, found := p.receipt.of(r.id())
		switch {
		case r.Delay > 0 || r.Stream != "": // not yet; or noted by somebody who needed it
			r.done = true
		case found:
			r.took(broker.Result{Receipt: known})
		case r.OrderKey != "" || len(b.line(r)) > 1:
			ordered = append(ordered, r)
		default:
			free = append(free, r)
		}
	}
	var beside sync.WaitGroup
	if len(ordered) > 0 {
		beside.Go(func() { p.inOrder(ctx, b, ordered) })
	}
	p.publish(ctx, free)
	beside.Wait()
}

// publish publishes rows at once.
func (p *Publisher) publish(ctx context.Context, rows []*outboxRow) {
	var messages []broker.Message
	var ready []*outboxRow
	for _, r := range rows {
		m, err := r.message()
		if r.err = err; err == nil {
			messages, ready = append(messages, m), append(ready, r)
		}
	}
	if len(ready) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, p.config.AckTimeout)
	defer cancel()
	for i, result := range p.stream.Publish(ctx, messages) {
		ready[i].took(result)
	}
}

// line returns the messages of a row's plan that go out in the order of the
// plan: those on the same subject of the same stream.
func (b book) line(r *outboxRow) (line []*outboxRow) {
	for _, other := range b[r.GID] {
		if other.State == statePrepared && other.Delay == 0 && other.Destination == r.Destination && other.Subject == r.Subject {
			line = append(line, other)
		}
	}
	return line
}

// mostInOrder is how many messages are looked at that come before a wanted one.
const mostInOrder = 500

// inOrder publishes wanted rows after all those that have to be published before
// them: the earlier ones of the plan on the same subject, and those of the same
// key whose transactions were decided before. If such a one is not published
// yet, because its own process has died or waits for its next attempt, it is
// published here, and its own process takes note.
//
// One call at a time does that in this process. Several processes may publish the
// same messages, each in order; the broker stores the first of each.
func (p *Publisher) inOrder(ctx context.Context, b book, wanted []*outboxRow) {
	select {
	case p.lane <- struct{}{}:
		defer func() { <-p.lane }()
	case <-ctx.Done():
		for _, r := range wanted {
			r.err = fmt.Errorf("waiting for other messages to be published in order: %w", context.Cause(ctx))
		}
		return
	}
	for open := wanted; len(open) > 0; {
		q, err := p.ordering(ctx, b, open)
		if err == nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			for _, r := range open {
				r.err = fmt.Errorf("looking for earlier messages: %w", err)
			}
			return
		}
		p.work(ctx, q)
		open = q.left(open)
	}
}

// ordering is what has to be published, in order, up to the wanted rows.
type ordering struct {
	rows   []*outboxRow                // in order
	before map[*outboxRow][]*outboxRow // those that a row comes right after
	helped map[*outboxRow]bool         // not wanted
	more   bool                        // there are more rows between these and the wanted ones
	failed map[string]error
}

// ordering looks for all that has to be published before the wanted rows. It adds
// to the book.
func (p *Publisher) ordering(ctx context.Context, b book, wanted []*outboxRow) (*ordering, error) {
	keys := map[string]bool{}
	for _, r := range wanted {
		if r.OrderKey != "" {
			keys[r.OrderKey] = true
		}
	}
	for {
		ranked, err := p.ranked(ctx, keys)
		if err != nil {
			return nil, err
		}
		var missing []string
		for _, at := range ranked {
			if b[at.GID] == nil && !slices.Contains(missing, at.GID) {
				missing = append(missing, at.GID)
			}
		}
		if len(missing) > 0 {
			if err := p.read(ctx, b, missing); err != nil {
				return nil, err
			}
		}
		q := arrange(b, wanted, ranked)
		known := len(keys)
		for _, r := range q.rows {
			if r.OrderKey != "" {
				keys[r.OrderKey] = true
			}
		}
		if len(keys) == known {
			return q, nil
		}
	}
}

// place is a message of a key in the order of the decisions.
type place struct {
	GID      string `gorm:"column:gid"`
	BranchID string
	Paused   bool
}

// ranked returns the first messages of the keys that are decided and not out, in
// the order of the decisions. It reads in a transaction, so that the database
// that takes writes is asked, and not a replica that may not know them yet.
func (p *Publisher) ranked(ctx context.Context, keys map[string]bool) (places []place, err error) {
	if len(keys) == 0 {
		return nil, nil
	}
	tie := "t.created_at, t.gid"
	if p.db.Name() == "sqlite" {
		tie = "t.rowid" // its clock has milliseconds
	}
	var named []string
	for key := range keys {
		named = append(named, key)
	}
	look := func(tx *gorm.DB) error {
		return tx.Raw(`SELECT q.gid, q.branch_id, t.paused_at IS NOT NULL AS paused FROM saga_outbox_order q
			JOIN saga_transactions t ON t.gid = q.gid
			JOIN saga_branches b ON b.gid = q.gid AND b.branch_id = q.branch_id
			WHERE q.destination = ? AND q.order_key IN ? AND t.state = 'confirming' AND b.done_at IS NULL
			ORDER BY t.decided_at, `+tie+`, q.branch_id LIMIT ?`, p.config.Stream, named, mostInOrder).Scan(&places).Error
	}
	if p.db.Name() == "sqlite" {
		return places, look(p.db.WithContext(ctx))
	}
	return places, p.db.WithContext(ctx).Transaction(look)
}

// arrange puts the wanted rows, and all that come before them, in order.
func arrange(b book, wanted []*outboxRow, ranked []place) *ordering {
	q := &ordering{before: map[*outboxRow][]*outboxRow{}, helped: map[*outboxRow]bool{}, failed: map[string]error{}, more: len(ranked) == mostInOrder}
	last := map[string]*outboxRow{} // of each key
	previous := map[*outboxRow]*outboxRow{}
	rank := map[*outboxRow]int{}
	for i, at := range ranked {
		r := b.row(at.GID, at.BranchID)
		if r == nil || r.State != statePrepared {
			continue // published meanwhile
		}
		if at.Paused {
			r.err = errors.New("an operator has paused its transaction")
		}
		previous[r], rank[r] = last[r.OrderKey], i+1
		last[r.OrderKey] = r
	}
	seen := map[*outboxRow]bool{}
	var need func(r *outboxRow)
	need = func(r *outboxRow) {
		if seen[r] {
			return
		}
		seen[r] = true
		var before []*outboxRow
		if earlier := previous[r]; earlier != nil {
			before = append(before, earlier)
		}
		line := b.line(r)
		if at := slices.Index(line, r); at > 0 {
			before = append(before, line[at-1])
		}
		for _, earlier := range before {
			need(earlier)
		}
		q.before[r] = before
		q.helped[r] = !slices.Contains(wanted, r)
		q.rows = append(q.rows, r)
	}
	for _, r := range wanted {
		if r.OrderKey == "" || rank[r] > 0 {
			need(r)
			continue
		}
		// It is behind those that were looked at, or its transaction is not in
		// the log of this database.
		if earlier := last[r.OrderKey]; earlier != nil {
			need(earlier)
			previous[r] = earlier
		}
		if !q.more {
			need(r)
		}
	}
	return q
}

// work publishes the rows of an ordering, each after those before it are stored.
func (p *Publisher) work(ctx context.Context, q *ordering) {
	level := map[*outboxRow]int{}
	var waves [][]*outboxRow
	for _, r := range q.rows { // a row comes after those before it
		n := 0
		for _, earlier := range q.before[r] {
			n = max(n, level[earlier]+1)
		}
		level[r] = n
		if n == len(waves) {
			waves = append(waves, nil)
		}
		waves[n] = append(waves[n], r)
	}
	for _, wave := range waves {
		var now []*outboxRow
		for _, r := range wave {
			if p.passes(q, r) {
				now = append(now, r)
			}
		}
		p.publish(ctx, now)
		p.remember(ctx, q, now)
		for _, r := range wave {
			if !r.done && r.OrderKey != "" && q.failed[r.OrderKey] == nil {
				q.failed[r.OrderKey] = r.err
			}
		}
	}
}

// passes says whether a row is to be published now. It says in the row why not.
func (p *Publisher) passes(q *ordering, r *outboxRow) bool {
	if known, found := p.receipt.of(r.id()); found {
		r.took(broker.Result{Receipt: known})
	}
	if r.done || r.Stream != "" {
		r.done = true
		return false
	}
	if r.err != nil {
		return false
	}
	for _, earlier := range q.before[r] {
		if !earlier.done {
			r.err = behind(earlier)
			return false
		}
	}
	return true
}

// behindError is of a message that waits for an earlier one.
type behindError struct {
	id  string // of the first one that could not be published
	err error
}

func (e *behindError) Error() string {
	return fmt.Sprintf("the earlier message %s, after which it goes, is not published: %v", e.id, e.err)
}

func behind(earlier *outboxRow) error {
	var first *behindError
	if errors.As(earlier.err, &first) {
		return first
	}
	return &behindError{earlier.id(), earlier.err}
}

// left returns the rows that nothing has come of, because too many are before
// them. Those whose key does not go on fail.
func (q *ordering) left(open []*outboxRow) (left []*outboxRow) {
	for _, r := range open {
		if !r.done && r.err == nil {
			if err := q.failed[r.OrderKey]; err != nil && r.OrderKey != "" {
				r.err = &behindError{"of its key", err}
				continue
			}
			left = append(left, r)
		}
	}
	return left
}

// remember keeps the receipts of messages whose order counted: others publish
// after them, although they are not marked published yet. Those that this call
// has published for others are also noted in the outbox.
func (p *Publisher) remember(ctx context.Context, q *ordering, rows []*outboxRow) {
	for _, r := range rows {
		if !r.done {
			continue
		}
		p.receipt.keep(r.id(), broker.Receipt{Stream: r.Stream, Sequence: r.Sequence})
		if !q.helped[r] {
			continue
		}
		// If that fails, it is published once more, and the broker knows it.
		_ = p.db.WithContext(ctx).Exec("UPDATE saga_outbox SET stream = ?, sequence = ? WHERE gid = ? AND branch_id = ? AND message_id = ? AND state = 'prepared'",
			r.Stream, r.Sequence, r.GID, r.BranchID, r.MessageID).Error
	}
}

// receipts are those of the last messages whose order counted. It is safe for
// concurrent use.
type receipts struct {
	mu   sync.Mutex
	byID map[string]broker.Receipt
	ids  []string // oldest first
}

// mostReceipts bounds what is kept in memory.
const mostReceipts = 10_000

func (r *receipts) keep(id string, receipt broker.Receipt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byID == nil {
		r.byID = map[string]broker.Receipt{}
	}
	if _, known := r.byID[id]; !known {
		r.ids = append(r.ids, id)
	}
	r.byID[id] = receipt
	if len(r.ids) > mostReceipts {
		delete(r.byID, r.ids[0])
		r.ids = r.ids[1:]
	}
}

func (r *receipts) of(id string) (receipt broker.Receipt, found bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	receipt, found = r.byID[id]
	return receipt, found
}
