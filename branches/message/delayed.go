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
	// relayPoll is how often the relay looks for messages that are due.
	relayPoll = time.Second

	// relayBatch is the most messages that it publishes at once.
	relayBatch = 200

	// relayClaim is how long a claim of a batch lasts.
	relayClaim = 30 * time.Second

	// maxRelayPause is the longest pause after a message could not be published.
	// The pause begins with a second and doubles.
	maxRelayPause = time.Minute
)

// relay publishes the messages of a stream in saga_outbox_delayed when they are due. The
// relays of all instances share the work.
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
	return r.p.ended(ctx, r.done)
}

// ended waits until done is closed, or until ctx ends.
func (p *Publisher) ended(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("message: stop the publisher of %s: %w", p.config.Stream, ctx.Err())
	}
}

// run publishes messages that are due, until ctx ends.
func (r *relay) run(ctx context.Context) {
	var last string
	for ctx.Err() == nil {
		more, err := r.round(ctx)
		if isClosed(err) {
			return // the program has ended without Stop
		}
		if err != nil && ctx.Err() == nil && err.Error() != last { // a repetition is not logged
			r.p.config.Logger.Warn("message: publishing messages of the outbox, which will be repeated",
				slog.String("stream", r.p.config.Stream), slog.Any("error", err))
		}
		if last = ""; err != nil {
			last = err.Error()
		}
		if err == nil && more {
			continue
		}
		_ = sleep(ctx, relayPoll)
	}
}

// isClosed reports whether err is that of a pool that was closed.
func isClosed(err error) bool {
	return err != nil && strings.Contains(err.Error(), "sql: database is closed")
}

// round publishes a batch. It returns true if there may be more messages to publish at once.
func (r *relay) round(ctx context.Context) (more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, relayClaim/2)
	defer cancel()
	rows, name, err := r.claim(ctx)
	if err != nil || len(rows) == 0 {
		return false, err
	}
	r.p.publishChains(ctx, rows)
	r.p.logFailures(rows)
	for _, m := range rows {
		more = more || m.done && len(rows) == relayBatch
	}
	// The broker has the messages: write this also if the relay is stopped.
	ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), relayClaim/3)
	defer cancel()
	return more, r.p.local.Run(ctx, func(tx *gorm.DB) error { return settle(tx, name, rows) })
}

// claim claims messages that are due, so that no other relay publishes them. A message whose
// earlier message is claimed by another relay, or could not be published, gets an error.
func (r *relay) claim(ctx context.Context) (rows []*outboxRow, name string, err error) {
	db := r.p.db.WithContext(ctx)
	due := "destination = ? AND due_at <= " + now(db) + " AND (claimed_until IS NULL OR claimed_until <= " + now(db) + ")"
	var found []string // without a local transaction, which locks all of SQLite
	err = db.Raw("SELECT message_id FROM saga_outbox_delayed WHERE "+due+" LIMIT 1", r.p.config.Stream).Scan(&found).Error
	if err != nil || len(found) == 0 {
		return nil, "", err
	}
	name = rand.Text()
	from, lock := "saga_outbox_delayed", " FOR UPDATE SKIP LOCKED"
	switch db.Name() {
	case "mysql":
		from += " FORCE INDEX (saga_outbox_delayed_due)" // other rows are not locked
	case "sqlite":
		lock = ""
	}
	err = r.p.local.Run(ctx, func(tx *gorm.DB) (err error) {
		rows = nil
		err = tx.Raw("SELECT message_id, gid, branch_id, after_id, subject, headers, data, failures FROM "+from+
			" WHERE "+due+" ORDER BY due_at, message_id LIMIT ?"+lock, r.p.config.Stream, relayBatch).Scan(&rows).Error
		if err != nil || len(rows) == 0 {
			return err
		}
		err = tx.Exec("UPDATE "+byID(tx)+" SET claimed_by = ?, claimed_until = "+later(tx, relayClaim)+" WHERE message_id IN ?", name, idsOf(rows)).Error
		if err != nil {
			return err
		}
		return findEarlier(tx, rows)
	})
	return rows, name, err
}

// byID is the table of the messages that wait, searched by its primary key. With another
// plan, MySQL would wait for rows of local transactions that are not committed.
func byID(db *gorm.DB) string {
	if db.Name() == "mysql" {
		return "saga_outbox_delayed FORCE INDEX (PRIMARY)"
	}
	return "saga_outbox_delayed"
}

func idsOf(rows []*outboxRow) []string {
	ids := make([]string, len(rows))
	for i, r := range rows {
		ids[i] = r.MessageID
	}
	return ids
}
