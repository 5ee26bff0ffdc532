// Package enlist drives transactions that users write in local transactions of their own. It
// waits for the commit, which nobody reports, by reading the log.
//
// A transaction is watched for a limited time. It is due in the log after that time, so that
// recovery drives it if it is committed later, or if the process has died. Both write under
// the epoch of the transaction, and only one of them ends it.
package enlist

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/inflight"
	"github.com/tccsaga/tccsaga/saga/internal/lifetime"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/observe"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
	"github.com/tccsaga/tccsaga/saga/internal/warn"
)

// Parts are what a [Watcher] works with.
type Parts struct {
	DB       *gorm.DB // of the log
	Log      *txlog.Log
	Life     *lifetime.Lifetime
	InFlight *inflight.Registry
	Warn     *warn.Logger
	Instance string
	Stopping <-chan struct{} // closed when the engine begins to stop

	For      time.Duration // how long a transaction is watched
	Most     int           // transactions that are watched or driven at once
	MaxBytes int           // of their inputs

	Drive func(context.Context, *txn.Txn, *inflight.Entry) saga.State // drives a transaction once, and releases its entry

	Observe *observe.Notifier
}

// Watcher watches for commits. It is safe for concurrent use.
type Watcher struct {
	Parts

	mu      sync.Mutex
	held    int // transactions that are reserved, watched or driven
	bytes   int // of their inputs
	watched map[*Expected]struct{}
	polling bool
	timer   *time.Timer // of the next poll; nil if there is none, or while a poll runs
	at      time.Time   // of that poll
}

// New returns a Watcher.
func New(parts Parts) *Watcher {
	return &Watcher{Parts: parts, watched: make(map[*Expected]struct{})}
}

// Expected is a transaction whose commit is expected.
type Expected struct {
	w             *Watcher
	ctx           context.Context
	txn           *txn.Txn
	digest        string
	bytes         int
	written, next time.Time
}

// Reserve reserves room for a transaction. It returns nil if there is none; then only recovery
// drives the transaction. The caller has to call Watch or Drop.
func (w *Watcher) Reserve(ctx context.Context, t *txn.Txn, digest string) *Expected {
	bytes := 0
	for _, s := range t.Steps {
		bytes += len(s.Payload)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.held >= w.Most || w.held > 0 && w.bytes+bytes > w.MaxBytes {
		return nil
	}
	w.held, w.bytes = w.held+1, w.bytes+bytes
	return &Expected{w: w, ctx: context.WithoutCancel(ctx), txn: t, digest: digest, bytes: bytes}
}

// Held returns how many transactions take room. Tests use it.
func (w *Watcher) Held() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.held
}

// Drop gives the room back.
func (x *Expected) Drop() {
	x.w.mu.Lock()
	defer x.w.mu.Unlock()
	x.w.drop(x)
}

func (w *Watcher) drop(x *Expected) {
	delete(w.watched, x)
	w.held, w.bytes = w.held-1, w.bytes-x.bytes
}

const (
	// firstPause is the time from the last statement of a transaction to the first look for
	// its commit. The pauses after that grow with its age.
	firstPause = time.Millisecond

	// ageShare is the part of a transaction's age that it waits for the next look. A commit
	// is found late by at most this part of the time that it took.
	ageShare = 4

	// restFactor multiplies the time of a poll. The pause after it is at least that long.
	restFactor = 2

	// mostRead is the most transactions that one statement reads.
	mostRead = 500
)

// Watch begins to watch for the commit. The transaction is written in the local transaction.
func (x *Expected) Watch() {
	w := x.w
	w.mu.Lock()
	defer w.mu.Unlock()
	x.written = time.Now()
	x.next = x.written.Add(firstPause)
	w.watched[x] = struct{}{}
	if !w.polling {
		w.pollAt(x.next)
	}
}

// pollAt polls at a time, or at an earlier one that is set already.
func (w *Watcher) pollAt(at time.Time) {
	switch {
	case w.timer == nil:
		w.timer = time.AfterFunc(time.Until(at), w.poll)
	case at.Before(w.at):
		w.timer.Reset(time.Until(at))
	default:
		return
	}
	w.at = at
}

// poll looks for the commits of the transactions that it is time for, and drives those that
// are committed.
func (w *Watcher) poll() {
	began := time.Now()
	due, ok := w.take(began)
	if !ok {
		return
	}
	for some := range slices.Chunk(due, mostRead) {
		w.look(some)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.polling = false
	if len(w.watched) == 0 {
		return
	}
	next := time.Time{}
	for x := range w.watched {
		if next.IsZero() || x.next.Before(next) {
			next = x.next
		}
	}
	now := time.Now()
	if rested := now.Add(restFactor * now.Sub(began)); next.Before(rested) {
		next = rested
	}
	w.pollAt(next)
}

// take returns the transactions to look for. It returns false if a poll runs already, or if
// the engine stops; then recovery, or another instance, drives what is committed.
func (w *Watcher) take(now time.Time) (due []*Expected, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.polling {
		return nil, false
	}
	w.timer = nil
	select {
	case <-w.Stopping:
		for x := range w.watched {
			w.drop(x)
		}
		return nil, false
	default:
	}
	for x := range w.watched {
		switch {
		case now.Sub(x.written) >= w.For:
			w.drop(x) // it is due, and recovery drives it if it is committed
		case !x.next.After(now):
			due = append(due, x)
		}
	}
	w.polling = true
	return due, true
}

// look reads which transactions are committed and drives them. The others wait for the next
// look.
func (w *Watcher) look(due []*Expected) {
	byGID := make(map[string]string, len(due))
	for _, x := range due {
		byGID[x.txn.GID] = ""
	}
	ctx, cancel := w.Life.DetachCall(w.Life.Context())
	defer cancel()
	shown, err := w.Log.Shown(ctx, w.Instance, slices.Collect(maps.Keys(byGID)))
	if err != nil {
		w.Warn.Warn(ctx, "saga: looking for the commit of a local transaction failed; recovery finds it later", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range due {
		if shown[x.txn.GID] == x.digest {
			delete(w.watched, x)
			w.drive(x)
			continue
		}
		now := time.Now()
		x.next = now.Add(max(firstPause, now.Sub(x.written)/ageShare))
	}
}

// drive begins to drive a transaction, unless another call of this process drives it.
func (w *Watcher) drive(x *Expected) {
	entry, started := w.InFlight.Start(x.txn.GID)
	if !started {
		w.drop(x)
		return
	}
	t := x.txn
	t.State, t.Fresh, t.Decided = saga.Confirming, true, time.Now()
	for _, s := range t.Steps {
		if s.Done = s.EndsWithDecision(); s.Done {
			s.Branch.Breaker.Success()
		}
	}
	go func() {
		defer x.Drop()
		ctx, cancel := w.Life.Detach(x.ctx)
		defer cancel()
		w.Observe.Decided(ctx, t.Subject(), t.State, txlog.ByCaller, "", t.Begun)
		if err := w.readResults(ctx, t); err != nil {
			w.InFlight.Release(entry)
			w.Warn.Warn(ctx, "saga: reading the results of a transaction failed; recovery drives it later", err, slog.String("gid", t.GID))
			return
		}
		w.Drive(ctx, t, entry)
	}()
}

// readResults reads the results that are committed. Those in memory may be of another local
// transaction, which was rolled back and had the same plan.
func (w *Watcher) readResults(ctx context.Context, t *txn.Txn) error {
	if len(t.Results(t.Steps)) == 0 {
		return nil
	}
	return local.Run(ctx, w.DB, func(tx *gorm.DB) error {
		results, err := w.Log.Results(ctx, tx, t.GID)
		t.SetResults(results[t.GID])
		return err
	})
}
