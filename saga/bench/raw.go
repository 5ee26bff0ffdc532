package main

import (
	"context"

	"gorm.io/gorm"
)

// Raw is what somebody writes who coordinates nothing: the same statements, in
// four local transactions. If it dies in between, nobody finds out.
type Raw struct{ db *Database }

func (r Raw) Name() string { return "raw" }
func (r Raw) Close() error { r.db.close(); return nil }

// The statements that all contenders make, one by one or many at once.
const (
	tryStock     = "UPDATE saga_stock SET available = available - 1, locked = locked + 1 WHERE sku = ? AND available >= 1"
	confirmStock = "UPDATE saga_stock SET locked = locked - 1, sold = sold + 1 WHERE sku = ?"
	cancelStock  = "UPDATE saga_stock SET locked = locked - 1, available = available + 1 WHERE sku = ?"
	prepare      = "INSERT INTO saga_outbox (gid, branch_id, state, subject, headers, data, prepared_at) VALUES (?, ?, 'prepared', 'orders.placed', '{}', ?, CURRENT_TIMESTAMP)"
	send         = "UPDATE saga_outbox SET state = 'published', published_at = CURRENT_TIMESTAMP WHERE gid = ? AND branch_id = ? AND state = 'prepared'"
	discard      = "UPDATE saga_outbox SET state = 'discarded', discarded_at = CURRENT_TIMESTAMP WHERE gid = ? AND branch_id = ? AND state = 'prepared'"
)

func (r Raw) Place(ctx context.Context, o Order) error {
	return inOrder(ctx, r.db, o, func() error { return nil })
}

// write runs work in a local transaction. On SQLite, which has one writer at a time and no
// queue for the others, the callers take turns.
func (d *Database) write(ctx context.Context, work func(tx *gorm.DB) error) error {
	if d.turns != nil {
		select {
		case d.turns <- struct{}{}:
			defer func() { <-d.turns }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return d.WithContext(ctx).Transaction(work)
}

// rawShared is the most that calls of one branch at a time can reach: the statements of orders
// that come at the same time are made one by one, in one local transaction, without a log or a
// barrier. Nobody could use it: all orders of a local transaction fail together.
type rawShared struct {
	Raw
	waiting chan rawOrder
	ended   chan struct{}
}

type rawOrder struct {
	Order
	done chan error
}

func newRawShared(db *Database) Contender {
	r := &rawShared{Raw{db}, make(chan rawOrder, 1024), make(chan struct{})}
	// While one local transaction commits, the orders of the next one make their statements.
	for range 2 {
		go r.run()
	}
	return r
}

func (r *rawShared) Name() string { return "raw, shared" }

func (r *rawShared) Place(ctx context.Context, o Order) error {
	order := rawOrder{o, make(chan error, 1)}
	select {
	case r.waiting <- order:
		return <-order.done
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *rawShared) run() {
	for {
		var batch []rawOrder
		select {
		case first := <-r.waiting:
			batch = append(batch, first)
		case <-r.ended:
			return
		}
		for len(batch) < 100 && len(r.waiting) > 0 {
			batch = append(batch, <-r.waiting)
		}
		err := r.db.Transaction(func(tx *gorm.DB) error {
			for stage := range 4 {
				for _, o := range batch {
					if err := byHand(o.Order)[stage](tx); err != nil {
						return err
					}
				}
			}
			return nil
		})
		for _, o := range batch {
			o.done <- err
		}
	}
}

func (r *rawShared) Close() error {
	close(r.ended)
	return r.Raw.Close()
}
