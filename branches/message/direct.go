package message

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"gorm.io/gorm"
)

const (
	// watchFor is how long the commit of a local transaction is watched for. After that,
	// and after the claim of its messages, the relay publishes them.
	watchFor = 5 * time.Second

	// exchangeTimeout limits the local transaction that looks for commits.
	exchangeTimeout = 5 * time.Second

	// firstLook is the time from PublishIn to the first look for the commit. The pauses
	// after that grow with its age.
	firstLook = time.Millisecond

	// ageShare is the part of the age of a PublishIn that it waits for the next look.
	ageShare = 4

	// maxExpected and maxExpectedBytes limit the messages that are kept in memory until
	// they are published. The relay publishes those that have no room.
	maxExpected      = 10_000 // calls of PublishIn
	maxExpectedBytes = 16 << 20
)

// direct publishes the messages that PublishIn wrote, soon after the commit. Nobody reports
// a commit, so it looks for the rows. The rows are claimed when they are written, so that no
// relay publishes them meanwhile.
type direct struct {
	p    *Publisher
	pool *sql.DB
	stop context.CancelFunc
	done chan struct{}
	wake chan struct{} // holds one: the next look is earlier

	mu      sync.Mutex
	stopped bool
	held    int // expected ones that are reserved, watched or not settled
	bytes   int // of their messages
	watched map[*expected]struct{}
	next    time.Time // of the next look; zero if there is none
	rested  time.Time // no look is earlier
	down    time.Time // until when the relay does the publishing, because the broker failed

	// Only the goroutine of run uses these.
	ready []*expected // with results that are not written
	last  string      // error of the last look
}

// expected has the messages of one PublishIn, whose commit is expected.
type expected struct {
	rows          []*outboxRow
	bytes         int
	written, next time.Time
}

func startDirect(p *Publisher) (*direct, error) {
	pool, err := p.db.DB()
	if err != nil {
		return nil, fmt.Errorf("finding the pool of the database: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	d := &direct{p: p, pool: pool, stop: stop, done: make(chan struct{}), wake: make(chan struct{}, 1), watched: map[*expected]struct{}{}}
	go func() {
		defer close(d.done)
		d.run(ctx)
	}()
	return d, nil
}

// end stops after a last look.
func (d *direct) end(ctx context.Context) error {
	d.mu.Lock()
	d.stopped = true
	d.mu.Unlock()
	d.stop()
	return d.p.ended(ctx, d.done)
}

// claim is how long the claim of a new row lasts: until the last look for it has ended, and
// the publishing after that.
func (d *direct) claim() time.Duration { return watchFor + exchangeTimeout + d.p.config.AckTimeout }

// reserve reserves room for the messages of a PublishIn. It returns nil if the relay has to
// publish them. Otherwise the caller has to call watch or drop.
func (d *direct) reserve(rows []*outboxRow) (*expected, error) {
	soon, bytes := kept(rows)
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.stopped:
		return nil, errors.New("the publisher has stopped")
	case len(soon) == 0, now.Before(d.down), d.held >= maxExpected, d.held > 0 && d.bytes+bytes > maxExpectedBytes:
		return nil, nil
	}
	d.held, d.bytes = d.held+1, d.bytes+bytes
	return &expected{rows: soon, bytes: bytes, written: now}, nil
}

// drop gives the room back.
func (d *direct) drop(x *expected) {
	if x == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.release(x)
}

func (d *direct) release(x *expected) {
	delete(d.watched, x)
	d.held, d.bytes = d.held-1, d.bytes-x.bytes
}

// watch begins to look for the commit. The rows are written in the local transaction.
func (d *direct) watch(x *expected) {
	if x == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	x.next = time.Now().Add(firstLook)
	d.watched[x] = struct{}{}
	at := x.next
	if at.Before(d.rested) {
		at = d.rested
	}
	if !d.next.IsZero() && !at.Before(d.next) {
		return
	}
	d.next = at
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// run looks for commits until ctx ends.
func (d *direct) run(ctx context.Context) {
	for d.wait(ctx) {
		if err := d.round(false); isClosed(err) {
			return // the program has ended without Stop
		}
	}
	// What is committed by now is published. If that fails, another Publisher does it.
	if d.round(true) == nil && len(d.ready) > 0 {
		_ = d.round(true)
	}
}

// wait waits until the next look. It returns false if ctx ends.
func (d *direct) wait(ctx context.Context) bool {
	for ctx.Err() == nil {
		var timer <-chan time.Time
		if at := d.plan(); !at.IsZero() {
			timer = time.After(time.Until(at))
		}
		select {
		case <-ctx.Done():
			return false
		case <-d.wake:
		case <-timer:
			return ctx.Err() == nil
		}
	}
	return false
}

// plan sets when the next look is.
func (d *direct) plan() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.next = time.Time{}
	if len(d.ready) > 0 {
		d.next = d.rested
	}
	for x := range d.watched {
		if d.next.IsZero() || x.next.Before(d.next) {
			d.next = x.next
		}
	}
	if !d.next.IsZero() && d.next.Before(d.rested) {
		d.next = d.rested
	}
	return d.next
}

// round writes the results of the round before, looks for commits, and publishes the
// messages of those that it finds.
func (d *direct) round(all bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), exchangeTimeout)
	defer cancel()
	began := time.Now()
	due := d.take(began, all)
	committed, err := d.exchange(ctx, due)
	d.rest(due, began, err)
	if err != nil {
		return err
	}
	ctx, cancel = context.WithTimeout(context.Background(), d.p.config.AckTimeout)
	defer cancel()
	rows := rowsOf(committed)
	d.p.publishChains(ctx, rows)
	d.p.logFailures(rows)
	d.ready = committed
	if len(rows) > 0 && !slices.ContainsFunc(rows, func(r *outboxRow) bool { return r.done }) {
		d.mu.Lock()
		d.down = time.Now().Add(relayPoll)
		d.mu.Unlock()
	}
	return nil
}

// rest plans the pauses after a look.
func (d *direct) rest(due []*expected, began time.Time, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	for _, x := range due {
		x.next = now.Add(max(firstLook, now.Sub(x.written)/ageShare))
	}
	if d.rested = now.Add(now.Sub(began)); err == nil {
		d.last = ""
		return
	}
	d.rested = now.Add(relayPoll)
	if err.Error() != d.last && !isClosed(err) {
		d.p.config.Logger.Warn("message: looking for commits of local transactions with messages, which will be repeated",
			slog.String("stream", d.p.config.Stream), slog.Any("error", err))
	}
	d.last = err.Error()
}

// take returns those that it is time for, or all.
func (d *direct) take(now time.Time, all bool) (due []*expected) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for x := range d.watched {
		switch {
		case now.Sub(x.written) >= watchFor:
			d.release(x) // the relay publishes it if it is committed
		case all || len(due) < mostNamed && !x.next.After(now):
			due = append(due, x)
		}
	}
	return due
}

// exchange writes the results of the round before, and returns which of due are committed. It
// does so at READ COMMITTED, also if the pool has another level, because a level that shows
// what is not committed would break the promise. A read in a local transaction is not sent to a
// replica.
func (d *direct) exchange(ctx context.Context, due []*expected) (committed []*expected, err error) {
	results := rowsOf(d.ready)
	var shown []string
	work := func(tx *gorm.DB) (err error) {
		shown = nil
		if len(results) > 0 {
			if err = settle(tx, "", results); err != nil {
				return err
			}
		}
		for some := range slices.Chunk(due, mostNamed) {
			ids := make([]string, len(some))
			for i, x := range some {
				ids[i] = x.rows[0].MessageID // the others of its INSERT are there, too
			}
			var found []string
			err = tx.Raw("SELECT message_id FROM saga_outbox_delayed WHERE claimed_by = '' AND message_id IN ?", ids).Scan(&found).Error
			if err != nil {
				return fmt.Errorf("reading the outbox: %w", err)
			}
			shown = append(shown, found...)
		}
		return nil
	}
	if d.p.db.Name() == "sqlite" && len(results) == 0 {
		err = work(d.p.db.WithContext(ctx)) // does not wait for a local transaction that writes
	} else {
		err = d.p.local.Run(ctx, work)
	}
	if err != nil {
		return nil, err
	}
	found := make(map[string]bool, len(shown))
	for _, id := range shown {
		found[id] = true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, x := range d.ready {
		d.release(x)
	}
	d.ready = nil
	for _, x := range due {
		if found[x.rows[0].MessageID] {
			delete(d.watched, x)
			committed = append(committed, x)
		}
	}
	return committed, nil
}

func rowsOf(all []*expected) (rows []*outboxRow) {
	for _, x := range all {
		rows = append(rows, x.rows...)
	}
	return rows
}
