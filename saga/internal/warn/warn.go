// Package warn limits how often the same warning is logged, because an outage repeats it.
package warn

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Every is how often the same warning is logged.
const Every = 30 * time.Second

// Logger logs each warning at most once in [Every]. The attribute not_shown is how many were not
// logged since the last one. It is safe for concurrent use.
type Logger struct {
	logger *slog.Logger

	mu   sync.Mutex
	last map[string]time.Time // by message
	kept map[string]int       // how many were not logged since
}

// New returns a Logger that writes to logger.
func New(logger *slog.Logger) *Logger {
	return &Logger{logger: logger, last: make(map[string]time.Time), kept: make(map[string]int)}
}

// Warn logs a warning, with attributes such as the gid that it is about. If ctx has ended, the
// error follows from that and is not logged.
func (l *Logger) Warn(ctx context.Context, message string, err error, attributes ...slog.Attr) {
	if ctx.Err() != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.last[message]) < Every {
		l.kept[message]++
		return
	}
	l.logger.LogAttrs(ctx, slog.LevelWarn, message, append(attributes, slog.Any("error", err), slog.Int("not_shown", l.kept[message]))...)
	l.last[message], l.kept[message] = time.Now(), 0
}
