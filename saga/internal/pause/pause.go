// Package pause keeps a copy of the list of paused kinds of branches. Operators pause kinds
// in the log, and every instance reads the list at intervals.
package pause

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
	"github.com/tccsaga/tccsaga/saga/internal/warn"
)

// Log has the list of the paused kinds.
type Log interface {
	PausedKinds(ctx context.Context) ([]string, error)
}

// Kinds holds the paused kinds of branches, as the log had them at the last Read. It is
// safe for concurrent use.
type Kinds struct {
	log     Log
	warn    *warn.Logger
	tell    func(kind string, paused bool)
	reading sync.Mutex // keeps an older result from replacing a newer one

	mu    sync.RWMutex
	kinds map[string]struct{}
}

// New returns Kinds without a list. Call Read before the first use. Tell is called for each
// kind that a Read finds paused or not paused any more.
func New(log Log, warn *warn.Logger, tell func(kind string, paused bool)) *Kinds {
	return &Kinds{log: log, warn: warn, tell: tell}
}

// Has reports whether a kind is paused.
func (k *Kinds) Has(kind string) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	_, paused := k.kinds[kind]
	return paused
}

// List returns the paused kinds, in order.
func (k *Kinds) List() []string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return slices.Sorted(maps.Keys(k.kinds))
}

// Refuse returns an error that wraps [saga.ErrPaused] if the kind of a step is paused.
func (k *Kinds) Refuse(steps []*txn.Step) error {
	for _, s := range steps {
		if k.Has(s.Kind) {
			return fmt.Errorf("branch %s, %s: %w", s.ID, s.Kind, saga.ErrPaused)
		}
	}
	return nil
}

// Read reads the list from the log.
func (k *Kinds) Read(ctx context.Context) error {
	k.reading.Lock()
	defer k.reading.Unlock()
	kinds, err := k.log.PausedKinds(ctx)
	if err != nil {
		return err
	}
	paused := make(map[string]struct{}, len(kinds))
	for _, kind := range kinds {
		paused[kind] = struct{}{}
	}
	k.mu.Lock()
	before := k.kinds
	k.kinds = paused
	k.mu.Unlock()
	k.tellChanges(before, paused)
	return nil
}

// tellChanges tells which kinds differ between two lists, in order.
func (k *Kinds) tellChanges(before, after map[string]struct{}) {
	for _, kind := range slices.Sorted(maps.Keys(after)) {
		if _, known := before[kind]; !known {
			k.tell(kind, true)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(before)) {
		if _, still := after[kind]; !still {
			k.tell(kind, false)
		}
	}
}

// Watch reads the list every interval, until ctx ends or stopping is closed. Timeout limits
// one read.
func (k *Kinds) Watch(ctx context.Context, interval, timeout time.Duration, stopping <-chan struct{}) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-stopping:
			return
		case <-ticker.C:
		}
		reading, cancel := context.WithTimeout(ctx, timeout)
		if err := k.Read(reading); err != nil {
			k.warn.Warn(ctx, "saga: reading the paused kinds of branches failed", err)
		}
		cancel()
	}
}
