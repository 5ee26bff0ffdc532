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
	// cleanPage is how many inbox rows are looked at, and at most deleted, at
	// once.
	cleanPage = 500

	// cleanShare keeps cleaning to a small share of a connection's time: the
	// pause after a page is this many times what the page took.
	cleanShare = 20

	// cleanMost is the longest such pause.
	cleanMost = 5 * time.Second

	// cleanRest is the longest rest after the last page; with a short retention
	// it is a tenth of that.
	cleanRest = time.Hour

	// cleanLease is how long a process has for a page.
	cleanLease = time.Minute
)

// clean removes old inbox rows, a page at a time, until ctx ends. Of all processes
// of the consumer, one works at a time.
func (c *Consumer) clean(ctx context.Context) {
	streams := []string{c.config.Stream}
	if c.inbox.old {
		streams = append(streams, "") // rows of schema version 1
	}
	for {
		pause := min(cleanRest, c.config.Retention/10)
		for _, stream := range streams {
			next, err := c.cleanTurn(ctx, stream)
			if err != nil && ctx.Err() == nil {
				c.config.Logger.Warn("message: cleaning the inbox, which will be repeated",
					slog.String("consumer", c.config.Name), slog.Any("error", err))
			}
			pause = min(pause, next)
		}
		if rest(ctx, max(pause, 10*time.Millisecond)) != nil {
			return
		}
	}
}

// cleanTurn cleans the next page of a stream's rows, if no other process does, and
// returns when to look again.
func (c *Consumer) cleanTurn(ctx context.Context, stream string) (pause time.Duration, err error) {
	whole := min(cleanRest, c.config.Retention/10)
	first, last, err := c.broker.Range(ctx, c.config.Stream)
	if errors.Is(err, broker.ErrNotFound) {
		return whole, nil // it may come back
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
	after, err = c.cleanPage(db, stream, after, first)
	if pause = min(cleanShare*time.Since(began), cleanMost); after == "" {
		pause = whole
	}
	if err != nil {
		return min(whole, time.Minute), err
	}
	return pause, db.Exec("UPDATE saga_inbox_cleaning SET after_id = ?, next_at = "+later(db, pause)+" WHERE consumer = ? AND stream = ?",
		after, c.config.Name, stream).Error
}

// takeTurn reports whether it is this process's turn, and where the last page ended.
func (c *Consumer) takeTurn(db *gorm.DB, stream string) (after string, mine bool, err error) {
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

// cleanPage removes the rows of a page that are older than the retention and whose
// message the stream has no longer, and returns where the next page begins; empty
// at the end. It reads along the primary key, so that it needs no index of its own.
func (c *Consumer) cleanPage(db *gorm.DB, stream, after string, first uint64) (last string, err error) {
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
	// A copy may have come meanwhile, and then the row stays.
	return last, db.Exec("DELETE FROM saga_inbox WHERE consumer = ? AND stream = ? AND message_id IN ? AND sequence < ?",
		c.config.Name, stream, old, max(first, 1)).Error
}
