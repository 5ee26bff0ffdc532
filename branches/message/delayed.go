package message

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"gorm.io/gorm"
)

const (
	// relayPoll is how often the relay looks for delayed messages that are due.
	relayPoll = time.Second

	// relayBatch is the most messages that it publishes at once.
	relayBatch = 200

	// relayClaim is how long a claim of a batch lasts.
	relayClaim = 30 * time.Second

	// maxRelayPause is the longest pause after a message could not be published.
	// The pause begins with a second and doubles.
	maxRelayPause = time.Minute
)

// relay publishes the delayed messages of a stream when they are due. The relays of all
// instances share the work.
type relay struct {
	p    *Publisher
	stop context.CancelFunc
	done chan struct{}
}

func startRelay(p *Publisher) *relay {
	ctx, stop := context.WithCancel(context.Background())
	r := &relay{p: p, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.run(ctx)
	}()
	return r
}

func (r *relay) end(ctx context.Context) error {
	r.stop()
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("message: stop the publisher of %s: %w", r.p.config.Stream, ctx.Err())
	}
}

// run publishes messages that are due, until ctx ends.
func (r *relay) run(ctx context.Context) {
	var last string
	for ctx.Err() == nil {
		published, err := r.round(ctx)
		if err != nil && strings.Contains(err.Error(), "sql: database is closed") {
			return // the program has ended without Stop
		}
		if err != nil && ctx.Err() == nil && err.Error() != last { // a repetition is not logged
			r.p.config.Logger.Warn("message: publishing delayed messages, which will be repeated",
				slog.String("stream", r.p.config.Stream), slog.Any("error", err))
		}
		if last = ""; err != nil {
			last = err.Error()
		}
		if err == nil && published == relayBatch {
			continue // there may be more
		}
		timer := time.NewTimer(relayPoll)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// round publishes a batch, and returns how many messages were published.
func (r *relay) round(ctx context.Context) (published int, err error) {
	ctx, cancel := context.WithTimeout(ctx, relayClaim/2)
	defer cancel()
	rows, err := r.claim(ctx)
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	r.p.publish(ctx, rows)
	// The broker has the messages: write this also if the relay is stopped.
	ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), relayClaim/3)
	defer cancel()
	for _, m := range rows {
		if m.done {
			published++
		}
	}
	return published, r.p.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error { return r.note(tx, rows) })
}

// claim claims messages that are due, so that no other relay publishes them.
func (r *relay) claim(ctx context.Context) (rows []*outboxRow, err error) {
	db := r.p.db.WithContext(ctx)
	free := "(claimed_until IS NULL OR claimed_until <= " + now(db) + ")"
	var ids []string
	err = db.Raw("SELECT message_id FROM saga_outbox_delayed WHERE destination = ? AND due_at <= "+now(db)+" AND "+free+" ORDER BY due_at LIMIT ?",
		r.p.config.Stream, relayBatch).Scan(&ids).Error
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	name := rand.Text()
	err = db.Exec("UPDATE saga_outbox_delayed SET claimed_by = ?, claimed_until = "+laterBy(db, fmt.Sprint(relayClaim.Microseconds()))+" WHERE message_id IN ? AND "+free,
		name, ids).Error
	if err != nil {
		return nil, err
	}
	// A read in a transaction is not sent to a replica.
	err = db.Transaction(func(tx *gorm.DB) error {
		return tx.Raw(`SELECT message_id, gid, branch_id, subject, headers, data, failures FROM saga_outbox_delayed
			WHERE message_id IN ? AND claimed_by = ? ORDER BY due_at`, ids, name).Scan(&rows).Error
	})
	return rows, err
}

// note writes the results of a batch.
func (r *relay) note(tx *gorm.DB, rows []*outboxRow) error {
	for _, m := range rows {
		if !m.done {
			pause := min(maxRelayPause, time.Second<<min(m.Failures, 10))
			r.p.config.Logger.Warn("message: a delayed message could not be published, which will be repeated", slog.String("message", m.MessageID),
				slog.String("subject", m.Subject), slog.Int("attempt", m.Failures+1), slog.Duration("next", pause), slog.Any("error", m.err))
			err := tx.Exec("UPDATE saga_outbox_delayed SET failures = failures + 1, error = ?, claimed_until = "+laterBy(tx, fmt.Sprint(pause.Microseconds()))+" WHERE message_id = ?",
				oneLine(m.err.Error()), m.MessageID).Error
			if err != nil {
				return err
			}
			continue
		}
		if err := tx.Exec("DELETE FROM saga_outbox_delayed WHERE message_id = ?", m.MessageID).Error; err != nil {
			return err
		}
		// After the retention of the transaction, its row does not exist.
		err := tx.Exec("UPDATE saga_outbox SET state = 'published', published_at = "+now(tx)+
			", stream = ?, sequence = ? WHERE gid = ? AND branch_id = ? AND message_id = ?", m.Stream, m.Sequence, m.GID, m.BranchID, m.MessageID).Error
		if err != nil {
			return err
		}
	}
	return nil
}
