package saga

import (
	"context"
	"errors"
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

// drive runs one round of a transaction, releases its entry, and then schedules the
// next poll. Recovery postpones what is in flight, so the entry goes first.
func (o *Orchestrator) drive(ctx context.Context, t *txn, entry *inflight.Entry) State {
	state := o.runRound(ctx, t)
	o.inFlight.Release(entry)
	if t.next > 0 {
		o.wakeAfter(t.next)
	}
	return state
}

// runRound calls Confirm, or Cancel, of every branch that is due, each once and
// all in parallel, and writes what came of it: the end of the transaction, or
// the failed attempts and when it is due again. It returns the state that the
// transaction is known to be in then.
func (o *Orchestrator) runRound(ctx context.Context, t *txn) State {
	r := &round{o: o, txn: t, op: barrier.Confirm, end: Confirmed}
	if t.state == Cancelling {
		r.op, r.end = barrier.Cancel, Cancelled
	}
	// Each call and commit is bounded; so that a connection that says nothing
	// any more does not keep the transaction for ever, all of it is too.
	ctx, cancel := context.WithTimeout(ctx, time.Duration(len(t.steps)+4)*o.config.CallTimeout)
	defer cancel()
	err := r.run(ctx)
	if ctx.Err() != nil && !r.finished {
		return t.state // interrupted; the log says all that others need
	}
	if !r.finished && !errors.Is(err, txlog.ErrStale) {
		err = errors.Join(err, r.conclude(ctx))
	}
	switch {
	case r.finished:
		return r.end
	case errors.Is(err, txlog.ErrStale) || errors.Is(err, local.ErrCommitUnknown):
		if record, err := o.readLocked(ctx, t.gid); err == nil {
			return State(record.State)
		}
	case err != nil:
		o.config.Logger.Error("saga: what a round of calls came to could not be written; the transaction will be resumed",
			slog.String("gid", t.gid), slog.Any("error", err))
	}
	return t.state
}

// slack is how much too early a branch may be called again: less than asking
// the log once more is worth.
const slack = 20 * time.Millisecond

// round is one call of each pending branch of a decided transaction.
type round struct {
	o   *Orchestrator
	txn *txn
	op  barrier.Op
	end State

	mu       sync.Mutex
	failures map[*step]error
	marked   map[*step]bool // done, and marked so in the log
	finished bool           // the end is written
	release  bool           // an instance that knows more kinds has to take over
}

func (r *round) pending() (due, waiting []*step) {
	pending, _ := split(r.txn.steps, func(s *step) bool { return !s.done })
	return split(pending, func(s *step) bool { return s.wait <= slack })
}

// run calls the branches. Its error is of the log; a branch's is a failure.
func (r *round) run(ctx context.Context) error {
	r.failures, r.marked = make(map[*step]error), make(map[*step]bool)
	r.holdBack(ctx)
	due, waiting := r.pending()
	early, due := split(due, func(s *step) bool { return s.early != nil })
	for _, s := range early {
		r.failed(s, s.early)
		s.early = nil
	}
	known, unknown := split(due, func(s *step) bool { return s.branch != nil })
	for _, s := range unknown {
		// An instance that knows the kind takes over at once.
		s.wait, s.held = slack+1, "this instance does not know the kind of branch "+s.kind
		r.release = true
	}
	fused, apart := split(known, func(s *step) bool { return s.branch.endFused() })
	var calls sync.WaitGroup
	for _, s := range apart {
		calls.Go(func() {
			r.ended(s, r.o.callApart(ctx, s.branch, r.txn.call(s, r.op)))
		})
	}
	err := r.runFused(ctx, fused, len(early)+len(waiting)+len(unknown)+len(apart) == 0)
	calls.Wait()
	return err
}

// holdBack puts off branches of paused kinds, and repeated calls beyond the
// limits of their kinds.
func (r *round) holdBack(ctx context.Context) {
	o := r.o
	due, _ := r.pending()
	for _, s := range due {
		switch {
		case o.paused.has(s.kind):
			s.wait, s.held = jitter.UpTo(ctx, o.config.MaxRetry)+slack, "an operator has paused the kind of branch "+s.kind
		case s.branch != nil && s.failed > 0:
			if hold := s.branch.breaker.Delay(ctx, o.config.MaxRetry, o.bulky(s.branch, r.op)); hold > 0 {
				s.wait, s.held = hold+slack, "too many calls of "+s.kind+" fail, or are repeated: see Config.Limits"
			}
		}
	}
}

// ended takes in how a call of its own went.
func (r *round) ended(s *step, err error) {
	var notYet *notYetError
	switch {
	case err == nil:
		r.done(s, false)
	case errors.As(err, &notYet):
		r.mu.Lock()
		defer r.mu.Unlock()
		s.wait, s.held = max(notYet.wait, slack+1), notYet.why
	default:
		r.failed(s, err)
	}
}

func (r *round) failed(s *step, err error) {
	if s.branch != nil && !errors.Is(err, barrier.ErrConflict) && !errors.Is(err, ErrOngoing) {
		s.branch.breaker.Failure(r.txn.gid)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures[s] = err
}

func (r *round) done(s *step, marked bool) {
	s.branch.breaker.Success()
	r.mu.Lock()
	defer r.mu.Unlock()
	s.done = true
	r.marked[s] = marked
}

// readyStep is a step that shares a commit, and whose Outside part, if any, succeeded.
type readyStep struct {
	*step
	call Call
	due  bool // the barrier said that the call was due, so that the Outside part ran
	look outsideLook
}

// runFused calls the branches in the orchestrator's own database in one local
// transaction, with the end of the transaction if these are all. One that fails
// there is left out of the next try, so that it holds up no other.
func (r *round) runFused(ctx context.Context, steps []*step, all bool) error {
	ready := r.deliver(ctx, steps)
	for len(ready) > 0 {
		var err error
		if all && len(ready) == len(steps) {
			err = r.finishInBatch(ctx, ready)
		} else {
			err = r.commit(ctx, ready, false)
		}
		var failed *branchError
		switch {
		case local.Aborted(err):
			return r.runAlone(ctx, ready)
		case errors.As(err, &failed):
			r.failed(ready[failed.index].step, failed.err)
			ready = slices.Delete(ready, failed.index, failed.index+1)
		case errors.Is(err, local.ErrCommitRefused):
			return r.runAlone(ctx, ready)
		default:
			return err
		}
	}
	return nil
}

// runAlone gives each step a commit of its own, after the database has refused
// the shared one without saying whose fault that was.
func (r *round) runAlone(ctx context.Context, ready []readyStep) error {
	for _, d := range ready {
		err := r.commit(ctx, []readyStep{d}, false)
		var failed *branchError
		switch {
		case errors.As(err, &failed):
			r.failed(d.step, failed.err)
		case errors.Is(err, local.ErrCommitRefused), local.Aborted(err):
			r.failed(d.step, err)
		case err != nil:
			return err
		}
	}
	return nil
}

// deliver makes the Outside parts in parallel and returns the steps that are
// ready for their commit.
func (r *round) deliver(ctx context.Context, steps []*step) []readyStep {
	all, failures := make([]readyStep, len(steps)), make([]error, len(steps))
	var acts []func()
	for i, s := range steps {
		all[i] = readyStep{step: s, call: r.txn.call(s, r.op)}
		if s.branch.Outside[r.op] == nil {
			all[i].due = true
			continue
		}
		acts = append(acts, func() {
			all[i].look, failures[i] = r.o.actFresh(ctx, s.branch, all[i].call, r.txn.fresh)
			all[i].due, all[i].call.Receipt = all[i].look.due, all[i].look.receipt
		})
	}
	inParallel(acts)
	var ready []readyStep
	for i, d := range all {
		if failures[i] != nil {
			r.failed(d.step, failures[i])
		} else {
			ready = append(ready, d)
		}
	}
	return ready
}

// inParallel calls the last function itself, and the others meanwhile.
func inParallel(calls []func()) {
	var others sync.WaitGroup
	for i, call := range calls {
		if i == len(calls)-1 {
			call()
		} else {
			others.Go(call)
		}
	}
	others.Wait()
}

// commit calls steps in one local transaction, and ends the transaction in it,
// or marks them done. An unanswered COMMIT is made again; the barrier then
// turns the calls away as duplicates.
func (r *round) commit(ctx context.Context, steps []readyStep, end bool) error {
	o, t := r.o, r.txn
	write := func(tx *gorm.DB) error {
		ids := make([]string, len(steps))
		for i, d := range steps {
			ids[i] = d.id
			if err := r.callInside(ctx, tx, d); err != nil {
				return &branchError{index: i, kind: d.kind, err: err}
			}
		}
		if end {
			return o.log.Finish(ctx, tx, t.gid, t.epoch)
		}
		return o.log.Done(ctx, tx, t.gid, ids...)
	}
	err := local.Run(ctx, o.db, write)
	for look := 1; look < maxLooks && errors.Is(err, local.ErrCommitUnknown); look++ {
		err = local.Run(ctx, o.db, write)
	}
	if err != nil {
		return err
	}
	r.committed(steps, end)
	return nil
}

// committed notes that steps are done, and whether that was the end.
func (r *round) committed(steps []readyStep, end bool) {
	for _, d := range steps {
		r.done(d.step, true)
	}
	r.finished = end
}

func (r *round) callInside(ctx context.Context, tx *gorm.DB, d readyStep) error {
	verdict, err := barrier.Call(ctx, tx, d.call.request())
	switch {
	case err != nil || verdict != barrier.Run:
		return err
	case !d.due:
		return errRaced
	}
	if d.look.by != "" {
		if err := r.o.noteOutside(ctx, tx, d.call, d.look); err != nil {
			return err
		}
	}
	return r.o.inside(ctx, tx, d.branch, d.call)
}

// conclude writes what the round came to: the end, or the failures.
func (r *round) conclude(ctx context.Context) error {
	o, t := r.o, r.txn
	due, waiting := r.pending()
	if len(t.steps) == 0 && t.planned {
		return errors.New("the log names no branch of a transaction that was begun with some: it is not finished without them")
	}
	if len(due)+len(waiting) == 0 {
		err := local.Run(ctx, o.db, func(tx *gorm.DB) error { return o.log.Finish(ctx, tx, t.gid, t.epoch) })
		r.finished = err == nil
		return err
	}
	var failures []txlog.Failure
	next := o.config.MaxRetry
	for _, s := range due {
		cause := r.failures[s]
		if cause == nil {
			// The commit that it shared has failed for a reason of the log's.
			continue
		}
		s.failed++
		pause := o.backoff(ctx, s.failed)
		next = min(next, pause)
		code := ""
		if errors.Is(cause, barrier.ErrConflict) {
			code = CodeConflict
		}
		failures = append(failures, txlog.Failure{BranchID: s.id, Operation: string(r.op), Attempt: s.failed,
			Error: clip(cause.Error(), maxError), Code: code, Instance: o.instance.ID, Next: pause})
		o.config.Logger.Warn("saga: a branch call failed and will be repeated", slog.String("gid", t.gid),
			slog.String("branch", s.id), slog.String("kind", s.kind), slog.String("operation", string(r.op)),
			slog.Int("attempt", s.failed), slog.Duration("next", pause), slog.Any("error", cause))
	}
	if len(failures) == 0 && len(waiting) == 0 {
		return nil // due again when the lease is
	}
	for _, s := range waiting {
		next = min(next, s.wait)
	}
	var unmarked []string
	for _, s := range t.steps {
		if marked, done := r.marked[s]; done && !marked {
			unmarked = append(unmarked, s.id)
		}
	}
	attention := r.attention()
	err := local.Run(ctx, o.db, func(tx *gorm.DB) error {
		if err := o.log.Done(ctx, tx, t.gid, unmarked...); err != nil {
			return err
		}
		return o.log.Fail(ctx, tx, txlog.Retry{GID: t.gid, Epoch: t.epoch, Due: next, Attention: attention, Release: r.release}, failures)
	})
	if err != nil {
		return err
	}
	t.next = next
	for _, s := range slices.Concat(due, waiting) {
		if s.branch != nil && !o.paused.has(s.kind) {
			s.branch.breaker.Postpone(t.gid)
		}
	}
	if attention != "" {
		t.attention = attention
		o.alarm(t)
	}
	return nil
}

// backoff returns the pause after the n-th failed attempt: full jitter, capped.
func (o *Orchestrator) backoff(ctx context.Context, n int) time.Duration {
	longest := o.config.MaxRetry
	if n < 32 && o.config.FirstRetry<<(n-1) < longest && o.config.FirstRetry<<(n-1) > 0 {
		longest = o.config.FirstRetry << (n - 1)
	}
	return jitter.UpTo(ctx, longest)
}
