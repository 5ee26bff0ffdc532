package saga

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/inflight"
	"github.com/tccsaga/tccsaga/saga/internal/jitter"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
)

const (
	// claimBatch is the most transactions that one claim takes over. It looks at
	// twice as many that are due, at claimPage at the most, and at minPage more,
	// because some are for other instances.
	claimBatch, claimPage, minPage = 500, 1000, 50

	// idleClaims is how many times longer than it took the pause after a sweep is
	// that has found nothing that this instance can drive.
	idleClaims = 10

	// regain is how long a free slot waits for others that become free at the
	// same time, so that one claim fills them all.
	regain = 2 * time.Millisecond
)

// poll claims due transactions and drives them, until ctx ends or Stop begins.
func (o *Orchestrator) poll(ctx context.Context) {
	slots := make(chan struct{}, o.config.Drivers)
	var sweep sweep
	for {
		more := o.claim(ctx, slots, &sweep)
		pause := time.Duration(0)
		if !more {
			// Jitter keeps instances that started together from asking together.
			pause = max(o.config.Poll/2, idleClaims*sweep.vain) + jitter.UpTo(ctx, o.config.Poll/2+1)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-o.stopping:
			timer.Stop()
			return
		case <-o.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// wakeAfter lets poll look at the log after d, not only at its next turn.
func (o *Orchestrator) wakeAfter(d time.Duration) {
	time.AfterFunc(d, func() {
		select {
		case o.wake <- struct{}{}:
		default:
		}
	})
}

// A sweep goes through all that is due, claim by claim. Each one goes on where
// the one before it ended: from the front, the database would pass again and
// again over the places in the index of all those claimed before, which it
// keeps for a while. What came due behind it, or was left out because somebody
// else held it, is for the next sweep.
//
// A sweep ends at what was due when it began, however long it takes: what an instance
// cannot drive keeps nothing that comes after it waiting.
type sweep struct {
	began   time.Time
	until   time.Time      // when it began, by the database's clock
	last    txlog.Position // that was looked at; zero at the front
	claimed bool           // something was taken over
	vain    time.Duration  // what the last sweep took that took nothing over, and left something
}

// from returns where the next claim begins.
func (s *sweep) from() txlog.Position {
	if s.last == (txlog.Position{}) {
		s.began, s.until, s.claimed = time.Now(), time.Time{}, false
	}
	return s.last
}

// pass notes what came of a claim.
func (s *sweep) pass(claims txlog.Claims) {
	s.claimed = s.claimed || len(claims.Claimed) > 0
	s.last, s.vain = txlog.Position{}, 0
	if s.until.IsZero() {
		s.until = claims.Now
	}
	switch {
	case claims.More && !claims.Last.Due.After(s.until):
		s.last = claims.Last
	case len(claims.Foreign) > 0 && !s.claimed:
		s.vain = time.Since(s.began)
	}
}

// claim takes over what is due, as far as there are free slots, and begins to
// drive it. It reports whether there may be more.
func (o *Orchestrator) claim(ctx context.Context, slots chan struct{}, sweep *sweep) (more bool) {
	limit := min(claimBatch, cap(slots)-len(slots))
	if limit == 0 {
		// Whoever frees a slot wakes us.
		return false
	}
	// Bounded, so that a connection that says nothing any more does not end
	// recovery.
	ctx, cancel := context.WithTimeout(ctx, o.config.Lease)
	defer cancel()
	room := int64(2*o.config.MaxBytes) - o.driving.Load()
	if room <= 0 {
		return false // likewise
	}
	claims, err := o.log.Claim(ctx, txlog.Claim{Instance: o.instance.ID, From: sweep.from(), Page: min(claimPage, 2*limit+minPage), Limit: limit,
		Bytes: int(room), Due: o.config.Lease, Busy: o.inFlight.Has, Knows: o.knows})
	if err != nil {
		o.warn(ctx, "saga: asking the log for due transactions", err)
		return false
	}
	sweep.pass(claims)
	o.raiseForeign(ctx, claims.Foreign)
	for _, claimed := range claims.Claimed {
		entry := o.inFlight.TakeOver(claimed.GID)
		if entry == nil {
			return false // stopping; they become due again
		}
		slots <- struct{}{}
		bytes := claimed.Bytes()
		o.driving.Add(bytes)
		go func() {
			defer func() {
				<-slots
				full := o.driving.Add(-bytes)+bytes >= int64(2*o.config.MaxBytes)
				if full || len(slots) == cap(slots)-1 {
					o.wakeAfter(regain)
				}
			}()
			ctx, cancel := o.detach(ctx)
			defer cancel()
			o.resume(ctx, claimed.Record, o.assemble(claimed), entry)
		}()
	}
	return claims.More
}

// mostForeign is how many transactions a claim raises to attention.
const mostForeign = 10

// raiseForeign raises transactions to attention that have waited for long for an
// instance that knows their kinds of branches.
func (o *Orchestrator) raiseForeign(ctx context.Context, foreign []txlog.Foreign) {
	raised := 0
	for _, f := range foreign {
		if f.Attention || f.Overdue < o.config.AttentionAge {
			continue
		}
		if raised++; raised > mostForeign {
			return
		}
		why := fmt.Sprintf("kind: no instance that runs knows the kind of branch %s: register it, or an alias for it", f.Kind)
		done, err := o.log.Unclaimed(ctx, f.GID, why)
		if err != nil {
			o.warn(ctx, "saga: raising a transaction to attention", err)
			return
		}
		if done {
			o.alarm(&txn{gid: f.GID, attention: why})
		}
	}
}

func (o *Orchestrator) warn(ctx context.Context, message string, err error) {
	if ctx.Err() == nil {
		o.repeated.warn(o.config.Logger, message, err)
	}
}

// makeDue makes transactions due that were put off while the circuit of a kind was
// open, as far as they are still this instance's.
func (o *Orchestrator) makeDue(gids []string) {
	ctx, cancel := o.detachFor(o.work)
	defer cancel()
	for some := range slices.Chunk(gids, claimBatch) {
		err := local.Run(ctx, o.db, func(tx *gorm.DB) error { return o.log.MakeDue(ctx, tx, o.instance.ID, some) })
		if err != nil {
			o.warn(ctx, "saga: making postponed transactions due, which are called after their backoff now", err)
			return
		}
		o.wakeAfter(0)
	}
}

// repeated keeps warnings that come again and again, as in an outage, from flooding
// the log.
type repeated struct {
	mu   sync.Mutex
	last map[string]time.Time // by message
	kept map[string]int       // how many were kept back since
}

// repeatAfter is how often the same warning is logged.
const repeatAfter = 30 * time.Second

func (r *repeated) warn(logger *slog.Logger, message string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.last[message]) < repeatAfter {
		r.kept[message]++
		return
	}
	if r.last == nil {
		r.last, r.kept = make(map[string]time.Time), make(map[string]int)
	}
	logger.Warn(message, slog.Any("error", err), slog.Int("not shown since the last one", r.kept[message]))
	r.last[message], r.kept[message] = time.Now(), 0
}

// assemble makes a transaction of what the log holds.
func (o *Orchestrator) assemble(c txlog.Claimed) *txn {
	r := c.Record
	t := &txn{gid: r.GID, caller: o.logID, state: State(r.State), epoch: r.Epoch, decided: time.Now().Add(-r.SinceDecision), attention: r.Attention,
		planned: r.Digest != ""}
	byID := make(map[string]*step, len(c.Branches))
	for _, b := range c.Branches {
		s := &step{id: b.ID, kind: b.Kind, payload: []byte(b.Payload), done: !b.DoneAt.IsZero()}
		s.branch, _ = o.branch(b.Kind) // an unknown kind is a failed attempt
		byID[b.ID] = s
		t.steps = append(t.steps, s)
	}
	for _, a := range c.Attempts {
		// Attempts are in order: the last of each branch counts.
		if s := byID[a.BranchID]; s != nil && a.Operation != string(barrier.Try) {
			s.failed, s.wait = a.Number, a.Wait
		}
	}
	for _, s := range t.steps {
		if s.branch != nil && s.branch.breaker.TakeReleased(t.gid) {
			s.wait = 0
		}
	}
	return t
}

// resume brings a claimed transaction on: to its decision, if nobody has made
// it, and then through one round of calls.
func (o *Orchestrator) resume(ctx context.Context, record txlog.Record, t *txn, entry *inflight.Entry) {
	if t.state == Trying {
		strange := !t.known()
		if err := o.presumeAbort(ctx, record, strange); err != nil {
			o.inFlight.Release(entry)
			o.warn(ctx, "saga: cancelling an undecided transaction", err)
			return
		}
		t.state = Cancelling
		if record.Paused() || strange {
			o.inFlight.Release(entry)
			return
		}
	}
	o.drive(ctx, t, entry)
}

// presumeAbort cancels a transaction that nobody decided: its deadline has
// passed, or the process that executed it is gone. A strange one has kinds of
// branches that this instance does not know: another one drives it.
func (o *Orchestrator) presumeAbort(ctx context.Context, record txlog.Record, strange bool) error {
	decision := txlog.Decision{GID: record.GID, Epoch: record.Epoch, State: txlog.Cancelling,
		By: byDeadline, Reason: "it was undecided at its deadline", Code: CodeDeadline, Owner: o.instance.ID, Due: o.config.Lease}
	if record.Owner != "" && !record.Expired {
		decision.By, decision.Reason, decision.Code = byRecovery, "the process that executed it was gone before the decision", CodeGone
	}
	if strange {
		decision.Owner, decision.Due = "", 0
	}
	ctx, cancel := context.WithTimeout(ctx, o.config.CallTimeout)
	defer cancel()
	return local.Run(ctx, o.db, func(tx *gorm.DB) error { return o.log.Decide(ctx, tx, decision) })
}
