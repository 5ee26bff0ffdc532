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

// publishRows publishes the wanted rows, which are prepared, and sets their results.
// Ordered rows are published in order, and the others at the same time.
func (p *Publisher) publishRows(ctx context.Context, o outboxRows, wanted []*outboxRow) {
	var free, ordered []*outboxRow
	for _, r := range wanted {
		known, found := p.receipts.of(r.id())
		switch {
		case r.Delay > 0 || r.Stream != "": // it is delayed, or another process has published it
			r.done = true
		case found:
			r.setResult(broker.Result{Receipt: known})
		case r.OrderKey != "" || len(o.sameSubject(r)) > 1:
			ordered = append(ordered, r)
		default:
			free = append(free, r)
		}
	}
	var inOrder sync.WaitGroup
	if len(ordered) > 0 {
		inOrder.Go(func() { p.publishOrdered(ctx, o, ordered) })
	}
	p.publish(ctx, free)
	inOrder.Wait()
}

// publish publishes rows, all at once.
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
		ready[i].setResult(result)
	}
}

// sameSubject returns the messages of a row's transaction that have an order: those on the
// same subject of the same stream, in the order of the plan.
func (o outboxRows) sameSubject(r *outboxRow) (same []*outboxRow) {
	for _, other := range o[r.GID] {
		if other.State == statePrepared && other.Delay == 0 && other.Destination == r.Destination && other.Subject == r.Subject {
			same = append(same, other)
		}
	}
	return same
}

// maxRanked is the most messages that are read to find those before a wanted one.
const maxRanked = 500

// publishOrdered publishes the wanted rows after all rows that have to be published before
// them: the earlier ones of the plan on the same subject, and those of the same key with
// earlier decisions. An earlier row may not be published yet, because its own process has
// died or waits for its next attempt. Then it is published here, and its own process finds
// the receipt.
//
// Only one call at a time does this in a process. Several processes may publish the same
// messages, each in order. The broker stores only the first copy of each.
func (p *Publisher) publishOrdered(ctx context.Context, o outboxRows, wanted []*outboxRow) {
	select {
	case p.ordering <- struct{}{}:
		defer func() { <-p.ordering }()
	case <-ctx.Done():
		for _, r := range wanted {
			r.err = fmt.Errorf("waiting for other messages to be published in order: %w", context.Cause(ctx))
		}
		return
	}
	for open := wanted; len(open) > 0; {
		q, err := p.findOrder(ctx, o, open)
		if err == nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			for _, r := range open {
				r.err = fmt.Errorf("finding earlier messages: %w", err)
			}
			return
		}
		p.publishInOrder(ctx, q)
		open = q.left(open)
	}
}

// ordering has the rows to publish, in order, up to the wanted rows.
type ordering struct {
	rows   []*outboxRow                // in order
	before map[*outboxRow][]*outboxRow // the rows right before a row
	others map[*outboxRow]bool         // true for a row that is not wanted
	more   bool                        // there are more rows between these and the wanted ones
	failed map[string]error            // by key: why it does not go on
}

// findOrder finds all rows that have to be published before the wanted rows. It adds them
// to o.
func (p *Publisher) findOrder(ctx context.Context, o outboxRows, wanted []*outboxRow) (*ordering, error) {
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
			if o[at.GID] == nil && !slices.Contains(missing, at.GID) {
				missing = append(missing, at.GID)
			}
		}
		if len(missing) > 0 {
			if err := p.read(ctx, o, missing); err != nil {
				return nil, err
			}
		}
		q := arrange(o, wanted, ranked)
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

// rankedMessage is a message of a key in the order of the decisions.
type rankedMessage struct {
	GID      string `gorm:"column:gid"`
	BranchID string
	Paused   bool
}

// ranked returns the first messages of the keys whose transactions are decided and that are
// not published, in the order of the decisions. It reads in a transaction, because a replica
// may not have them yet.
func (p *Publisher) ranked(ctx context.Context, keys map[string]bool) (messages []rankedMessage, err error) {
	if len(keys) == 0 {
		return nil, nil
	}
	tie := "t.created_at, t.gid"
	if p.db.Name() == "sqlite" {
		tie = "t.rowid" // decisions of one statement have one time
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
			ORDER BY t.decided_at, `+tie+`, q.branch_id LIMIT ?`, p.config.Stream, named, maxRanked).Scan(&messages).Error
	}
	if p.db.Name() == "sqlite" {
		return messages, look(p.db.WithContext(ctx))
	}
	return messages, p.db.WithContext(ctx).Transaction(look)
}

// arrange puts the wanted rows, and all rows before them, in order.
func arrange(o outboxRows, wanted []*outboxRow, ranked []rankedMessage) *ordering {
	q := &ordering{before: map[*outboxRow][]*outboxRow{}, others: map[*outboxRow]bool{}, failed: map[string]error{}, more: len(ranked) == maxRanked}
	last := map[string]*outboxRow{} // of each key
	previous := map[*outboxRow]*outboxRow{}
	rank := map[*outboxRow]int{}
	for i, at := range ranked {
		r := o.row(at.GID, at.BranchID)
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
		same := o.sameSubject(r)
		if at := slices.Index(same, r); at > 0 {
			before = append(before, same[at-1])
		}
		for _, earlier := range before {
			need(earlier)
		}
		q.before[r] = before
		q.others[r] = !slices.Contains(wanted, r)
		q.rows = append(q.rows, r)
	}
	for _, r := range wanted {
		if r.OrderKey == "" || rank[r] > 0 {
			need(r)
			continue
		}
		// It comes after those that were read, or its transaction is not in the log
		// of this database.
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

// publishInOrder publishes the rows of an ordering, each after the rows before it are
// stored.
func (p *Publisher) publishInOrder(ctx context.Context, q *ordering) {
	step := map[*outboxRow]int{}
	var steps [][]*outboxRow
	for _, r := range q.rows { // a row comes after the rows before it
		n := 0
		for _, earlier := range q.before[r] {
			n = max(n, step[earlier]+1)
		}
		step[r] = n
		if n == len(steps) {
			steps = append(steps, nil)
		}
		steps[n] = append(steps[n], r)
	}
	for _, rows := range steps {
		var now []*outboxRow
		for _, r := range rows {
			if p.mayPublish(q, r) {
				now = append(now, r)
			}
		}
		p.publish(ctx, now)
		p.keepReceipts(ctx, q, now)
		for _, r := range rows {
			if !r.done && r.OrderKey != "" && q.failed[r.OrderKey] == nil {
				q.failed[r.OrderKey] = r.err
			}
		}
	}
}

// mayPublish reports whether to publish a row now. If not, the row is done, or its err says
// why.
func (p *Publisher) mayPublish(q *ordering, r *outboxRow) bool {
	if known, found := p.receipts.of(r.id()); found {
		r.setResult(broker.Result{Receipt: known})
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

// behindError is the error of a message that waits for an earlier one.
type behindError struct {
	id  string // of the first one that could not be published
	err error
}

func (e *behindError) Error() string {
	return fmt.Sprintf("the earlier message %s is not published yet: %v", e.id, e.err)
}

// behind returns the error of a message after earlier. It names the first message that
// could not be published.
func behind(earlier *outboxRow) error {
	var first *behindError
	if errors.As(earlier.err, &first) {
		return first
	}
	return &behindError{earlier.id(), earlier.err}
}

// left returns the rows without a result: there were too many rows before them. A row fails
// if an earlier row of its key has failed.
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

// keepReceipts keeps the receipts of ordered messages in memory. So later messages can be
// published before these are marked as published. Receipts of rows that were not wanted are
// also written to the outbox, for their own process.
func (p *Publisher) keepReceipts(ctx context.Context, q *ordering, rows []*outboxRow) {
	for _, r := range rows {
		if !r.done {
			continue
		}
		p.receipts.keep(r.id(), broker.Receipt{Stream: r.Stream, Sequence: r.Sequence})
		if !q.others[r] {
			continue
		}
		// If this fails, it is published again, and the broker drops the repetition.
		_ = p.db.WithContext(ctx).Exec("UPDATE saga_outbox SET stream = ?, sequence = ? WHERE gid = ? AND branch_id = ? AND message_id = ? AND state = 'prepared'",
			r.Stream, r.Sequence, r.GID, r.BranchID, r.MessageID).Error
	}
}

// receipts has the receipts of the last ordered messages. It is safe for concurrent use.
type receipts struct {
	mu   sync.Mutex
	byID map[string]broker.Receipt
	ids  []string // oldest first
}

// maxReceipts is the most receipts that are kept in memory.
const maxReceipts = 10_000

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
	if len(r.ids) > maxReceipts {
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
