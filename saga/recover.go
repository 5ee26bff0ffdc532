package saga

import (
	"context"
	"log/slog"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/jitter"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
)

const (
	// claimBatch is the most transactions that one claim takes over.
	claimBatch = 500

	// regain is how long a free slot waits for others that become free at the
	// same time, so that one claim fills them all.
	regain = 2 * time.Millisecond
)

// poll claims due transactions and drives them, until ctx ends or Stop begins.
func (o *Orchestrator) poll(ctx context.Context) {
	slots := make(chan struct{}, o.config.Drivers)
	sweep := sweep{most: o.config.Poll}
	for {
		more := o.claim(ctx, slots, &sweep)
		pause := time.Duration(0)
		if !more {
			// Jitter keeps instances that started together from asking together.
			pause = o.config.Poll/2 + jitter.UpTo(ctx, o.config.Poll/2+1)
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
type sweep struct {
	most  time.Duration // for how long it goes on
	began time.Time
	since time.Time // due time of the last claimed; zero at the front
}

// from returns where the next claim begins.
func (s *sweep) from() time.Time {
	if s.since.IsZero() || time.Since(s.began) > s.most {
		s.began, s.since = time.Now(), time.Time{}
	}
	return s.since
}

// pass notes what a claim took, and whether there may be more.
func (s *sweep) pass(claimed []txlog.Record, more bool) {
	s.since = time.Time{}
	if more {
		s.since = claimed[len(claimed)-1].DueAt
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
	if err := o.readPausedKinds(ctx); err != nil {
		o.warn(ctx, "saga: asking which kinds of branch are paused", err)
		return false
	}
	claimed, err := o.log.Claim(ctx, o.instance.ID, sweep.from(), limit, o.config.Lease, o.flights.inFlight)
	if err != nil {
		o.warn(ctx, "saga: asking the log for due transactions", err)
		return false
	}
	more = len(claimed) == limit
	sweep.pass(claimed, more)
	txns, err := o.load(ctx, claimed)
	if err != nil {
		o.warn(ctx, "saga: reading due transactions, which will be due again", err)
		return false
	}
	for i, record := range claimed {
		flight := o.flights.takeOver(record.GID)
		if flight == nil {
			return false // stopping; they become due again
		}
		slots <- struct{}{}
		go func() {
			defer func() {
				<-slots
				if len(slots) == cap(slots)-1 {
					o.wakeAfter(regain)
				}
			}()
			ctx, cancel := o.detach(ctx)
			defer cancel()
			o.resume(ctx, record, txns[i], flight)
		}()
	}
	return more
}

func (o *Orchestrator) warn(ctx context.Context, message string, err error) {
	if ctx.Err() == nil {
		o.config.Logger.Warn(message, slog.Any("error", err))
	}
}

// load reads what driving the records takes.
func (o *Orchestrator) load(ctx context.Context, records []txlog.Record) ([]*txn, error) {
	gids := make([]string, len(records))
	var failing []string
	for i, r := range records {
		gids[i] = r.GID
		if r.Failures > 0 {
			failing = append(failing, r.GID)
		}
	}
	branches, err := o.log.Branches(ctx, gids...)
	if err != nil {
		return nil, err
	}
	attempts, err := o.log.Attempts(ctx, failing...)
	if err != nil {
		return nil, err
	}
	txns := make([]*txn, len(records))
	for i, r := range records {
		txns[i] = o.assemble(r, branches[r.GID], attempts[r.GID])
	}
	return txns, nil
}

func (o *Orchestrator) assemble(r txlog.Record, branches []txlog.Branch, attempts []txlog.Attempt) *txn {
	t := &txn{gid: r.GID, state: State(r.State), epoch: r.Epoch, decided: time.Now().Add(-r.SinceDecision), attention: r.Attention}
	byID := make(map[string]*step, len(branches))
	for _, b := range branches {
		s := &step{id: b.ID, kind: b.Kind, payload: []byte(b.Payload), done: !b.DoneAt.IsZero()}
		s.branch, _ = o.branch(b.Kind) // an unknown kind is a failed attempt
		byID[b.ID] = s
		t.steps = append(t.steps, s)
	}
	for _, a := range attempts {
		// Attempts are in order: the last of each branch counts.
		if s := byID[a.BranchID]; s != nil && a.Operation != string(barrier.Try) {
			s.failed, s.wait = a.Number, a.Wait
		}
	}
	return t
}

// resume brings a claimed transaction on: to its decision, if nobody has made
// it, and then through one round of calls.
func (o *Orchestrator) resume(ctx context.Context, record txlog.Record, t *txn, flight *flight) {
	if t.state == Trying {
		if err := o.presumeAbort(ctx, record); err != nil {
			o.flights.land(flight)
			o.warn(ctx, "saga: cancelling an undecided transaction", err)
			return
		}
		t.state = Cancelling
		if record.Paused() {
			o.flights.land(flight)
			return
		}
	}
	o.fly(ctx, t, flight)
}

// presumeAbort cancels a transaction that nobody decided: its deadline has
// passed, or the process that executed it is gone.
func (o *Orchestrator) presumeAbort(ctx context.Context, record txlog.Record) error {
	decision := txlog.Decision{GID: record.GID, Epoch: record.Epoch, State: txlog.Cancelling,
		By: byDeadline, Reason: "it was undecided at its deadline", Owner: o.instance.ID, Due: o.config.Lease}
	if record.Owner != "" && !record.Expired {
		decision.By, decision.Reason = byRecovery, "the process that executed it was gone before the decision"
	}
	ctx, cancel := context.WithTimeout(ctx, o.config.CallTimeout)
	defer cancel()
	return local.Run(ctx, o.db, func(tx *gorm.DB) error { return o.log.Decide(ctx, tx, decision) })
}
