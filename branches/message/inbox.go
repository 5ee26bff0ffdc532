package message

import (
	"context"
	"log/slog"
	"time"
)

const (
	// cleanPage is how many inbox rows are looked at, and at most deleted, at
	// once.
	cleanPage = 500

	// cleanShare keeps cleaning to a small share of a connection's time: the
	// pause after a page is this many times what the page took.
	cleanShare = 20

	// cleanRest is the longest rest after the last page; with a short retention
	// it is a tenth of that.
	cleanRest = time.Hour
)

// cleanInbox removes the consumer's inbox rows that are older than the
// retention, a page at a time, until ctx ends. It reads along the primary key,
// so that cleaning needs no index of its own.
func (c *Consumer) cleanInbox(ctx context.Context) {
	after := ""
	for {
		began := time.Now()
		last, err := c.cleanPage(ctx, after)
		if err != nil && ctx.Err() == nil {
			c.config.Logger.Warn("message: cleaning the inbox, which will be repeated",
				slog.String("consumer", c.config.Name), slog.Any("error", err))
		}
		pause := cleanShare * time.Since(began)
		if after = last; last == "" {
			pause = min(cleanRest, c.config.Retention/10)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// cleanPage cleans the page that begins after a message id and returns where
// the next one begins; empty at the end.
func (c *Consumer) cleanPage(ctx context.Context, after string) (last string, err error) {
	db := c.db.WithContext(ctx)
	var rows []struct {
		MessageID string
		Old       bool
	}
	err = db.Raw("SELECT message_id, handled_at < "+ago(db, c.config.Retention)+" AS old FROM saga_inbox WHERE consumer = ? AND message_id > ? ORDER BY message_id LIMIT ?",
		c.config.Name, after, cleanPage).Scan(&rows).Error
	if err != nil {
		return "", err
	}
	var old []string
	for _, row := range rows {
		last = row.MessageID
		if row.Old {
			old = append(old, row.MessageID)
		}
	}
	if len(rows) < cleanPage {
		last = ""
	}
	if len(old) == 0 {
		return last, nil
	}
	return last, db.Exec("DELETE FROM saga_inbox WHERE consumer = ? AND message_id IN ?", c.config.Name, old).Error
}
