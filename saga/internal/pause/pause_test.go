package pause_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/pause"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
	"github.com/tccsaga/tccsaga/saga/internal/warn"
)

// paused is a log that answers with kinds, or fails if they are nil.
type paused struct{ kinds atomic.Pointer[[]string] }

func (p *paused) PausedKinds(context.Context) ([]string, error) {
	if kinds := p.kinds.Load(); kinds != nil {
		return *kinds, nil
	}
	return nil, errors.New("the database is down")
}

// What the log says counts after the next look, and what it said last counts as long as
// it cannot be asked.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, stopping := &paused{}, make(chan struct{})
		log.kinds.Store(&[]string{"b", "a"})
		var told []string
		kinds := pause.New(log, warn.New(slog.New(slog.NewTextHandler(io.Discard, nil))), func(kind string, paused bool) { told = append(told, fmt.Sprint(kind, " ", paused)) })
		if err := kinds.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		go kinds.Watch(t.Context(), time.Second, time.Second, stopping)
		check := func(when string, want ...string) {
			t.Helper()
			if got := kinds.List(); !slices.Equal(got, want) {
				t.Errorf("%s: %v are paused, want %v", when, got, want)
			}
		}
		check("at first", "a", "b")
		if err := kinds.Refuse([]*txn.Step{{ID: "01", Kind: "c"}, {ID: "02", Kind: "a"}}); !errors.Is(err, saga.ErrPaused) {
			t.Errorf("a step of a paused kind: %v", err)
		}
		if err := kinds.Refuse([]*txn.Step{{ID: "01", Kind: "c"}}); err != nil {
			t.Errorf("a step of another kind: %v", err)
		}
		log.kinds.Store(nil)
		time.Sleep(2 * time.Second)
		check("while the log cannot be asked", "a", "b")
		log.kinds.Store(&[]string{"c"})
		time.Sleep(2 * time.Second)
		check("after a look", "c")
		close(stopping)
		synctest.Wait()
		if want := []string{"a true", "b true", "c true", "a false", "b false"}; !slices.Equal(told, want) {
			t.Errorf("told %v, want %v", told, want)
		}
	})
}
