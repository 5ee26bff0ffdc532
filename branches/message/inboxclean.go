package message

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message/broker"
)

const (
	// cleanPage is how many inbox rows are read, and at most deleted, at once.
	cleanPage = 500

	// cleanPauseFactor keeps cleaning to a small share of a connection's time: the
	// pause after a page is this many times the duration of the page.
	cleanPauseFactor = 20

	// maxCleanPause is the longest pause between two pages.
	maxCleanPause = 5 * time.Second

	// maxCleanInterval is the longest pause after the last page. With a short
	// retention it is a tenth of the retention.
	maxCleanInterval = time.Hour

	// cleanLease is how long a process has for a page.
	cleanLease = time.Minute
)

// cleaner removes old inbox rows.
type cleaner struct {
	broker broker.Broker
	config ConsumerConfig
	inbox  *inbox
	state  *state
}

// interval is the pause after the last page.
func (c *cleaner) interval() time.Duration { return min(maxCleanInterval, c.config.Retention/10) }

// run removes old rows, a page at a time, until ctx ends. Only one process of a consumer
// cleans at a time.
func (c *cleaner) run(ctx context.Context) {
	streams := []string{c.config.Stream}
	if c.inbox.old {
		streams = append(streams, "") // rows of schema version 1
	}
	for {
		pause := c.interval()
		for _, stream := range streams {
			next, err := c.turn(ctx, stream)
			if err != nil && ctx.Err() == nil {
				c.state.log.Warn("message: cleaning the inbox, which will be repeated", slog.Any("error", err))
			}
			pause = min(pause, next)
		}
		if sleep(ctx, max(pause, 10*time.Millisecond)) != nil {
			return
		}
	}
}

// turn cleans the next page of the rows of a stream, unless another process does. It
// returns the pause before the next turn.
func (c *cleaner) turn(ctx context.Context, stream string) (pause time.Duration, err error) {
	whole := c.interval()
	first, last, err := c.broker.Range(ctx, c.config.Stream)
	if errors.Is(err, broker.ErrNotFound) {
		return whole, nil // the stream may be created again
	}
	if err != nil {
		return min(whole, time.Minute), err
	}
	if last == 0 {
		first = 0
	}
	db, err := c.inbox.direct(ctx)
	if err != nil {
		return whole, err
	}
	after, mine, err := c.takeTurn(db, stream)
	if err != nil || !mine {
		return min(whole, time.Minute), err
	}
	began := time.Now()
	after, err = c.page(db, stream, after, first)
	if pause = min(cleanPauseFactor*time.Since(began), maxCleanPause); after == "" {
		pause = whole
	}
	if err != nil {
		return min(whole, time.Minute), err
	}
	return pause, db.Exec("UPDATE saga_inbox_cleaning SET after_id = ?, next_at = "+later(db, pause)+" WHERE consumer = ? AND stream = ?",
		after, c.config.Name, stream).Error
}

// takeTurn reports whether it is the turn of this process, and where the last page ended.
func (c *cleaner) takeTurn(db *gorm.DB, stream string) (after string, mine bool, err error) {
	insert, end := "INSERT INTO", " ON CONFLICT DO NOTHING"
	if db.Name() == "mysql" {
		insert, end = "INSERT IGNORE INTO", ""
	}
	err = db.Exec(insert+" saga_inbox_cleaning (consumer, stream, after_id, next_at) VALUES (?, ?, '', "+now(db)+")"+end, c.config.Name, stream).Error
	if err != nil {
		return "", false, err
	}
	taken := db.Exec("UPDATE saga_inbox_cleaning SET next_at = "+later(db, cleanLease)+" WHERE consumer = ? AND stream = ? AND next_at <= "+now(db),
		c.config.Name, stream)
	if taken.Error != nil || taken.RowsAffected == 0 {
		return "", false, taken.Error
	}
	err = db.Raw("SELECT after_id FROM saga_inbox_cleaning WHERE consumer = ? AND stream = ?", c.config.Name, stream).Scan(&after).Error
	return after, true, err
}

// page removes the rows of a page that are older than the retention, if their messages are
// no longer in the stream. It returns where the next page begins, or "" after the last
// page. It reads in the order of the primary key and needs no other index.
func (c *cleaner) page(db *gorm.DB, stream, after string, first uint64) (last string, err error) {
	var rows []struct {
		MessageID string
		Sequence  uint64
		Old       bool
	}
	err = db.Raw("SELECT message_id, sequence, COALESCE(handled_at, buried_at, received_at) < "+ago(db, c.config.Retention)+
		" AS old FROM saga_inbox WHERE consumer = ? AND stream = ? AND message_id > ? ORDER BY message_id LIMIT ?",
		c.config.Name, stream, after, cleanPage).Scan(&rows).Error
	if err != nil {
		return "", err
	}
	var old []string
	for _, r := range rows {
		last = r.MessageID
		if r.Old && r.Sequence < max(first, 1) {
			old = append(old, r.MessageID)
		}
	}
	if len(rows) < cleanPage {
		last = ""
	}
	if len(old) == 0 {
		return last, nil
	}
	// If a copy came meanwhile, the sequence has changed, and the row stays.
	return last, db.Exec("DELETE FROM saga_inbox WHERE consumer = ? AND stream = ? AND message_id IN ? AND sequence < ?",
		c.config.Name, stream, old, max(first, 1)).Error
}
