package embedded_test

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
)

// counted counts the records of a logger that have a text.
type counted struct {
	slog.Handler
	text string
	n    *atomic.Int64
}

func (c counted) Enabled(context.Context, slog.Level) bool { return true }

func (c counted) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, c.text) {
		c.n.Add(1)
	}
	return nil
}
