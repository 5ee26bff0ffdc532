package warn_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tccsaga/tccsaga/saga/internal/warn"
)

// The same warning is logged once in a while, with the number of those that were not.
func TestWarn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		w := warn.New(slog.New(slog.NewTextHandler(&out, nil)))
		for range 5 {
			w.Warn(t.Context(), "saga: one", errors.New("down"))
		}
		w.Warn(t.Context(), "saga: two", errors.New("down"))
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		w.Warn(ended, "saga: three", errors.New("down"))
		if n := strings.Count(out.String(), "\n"); n != 2 {
			t.Errorf("%d lines:\n%s", n, &out)
		}
		time.Sleep(warn.Every)
		w.Warn(t.Context(), "saga: one", errors.New("down"))
		if !strings.Contains(out.String(), `not_shown=4`) {
			t.Errorf("logged:\n%s", &out)
		}
	})
}
