package saga

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/inflight"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
)

// Who decided, as the log names them.
const (
	byCaller   = "caller"
	byDeadline = "deadline"
	byRecovery = "recovery"
)

// Execute runs a transaction whose branches are all known; see [Engine].
//
// The Trys come in the order of the plan. Those in the orchestrator's own database
// share local transactions with the log: the ones before the first Try elsewhere
// are in the commit that begins the transaction, and the ones after the last are in
// the commit with the decision. If all live there, one local transaction begins
// it, tries every branch, decides, and confirms those that act on nothing else; a
// Try that fails leaves nothing to cancel; and callers at the same time share it.
//
// When ctx ends before the decision, the transaction is cancelled; after it, the
// Confirms go on. Either way Execute returns within a second of the end of ctx.
func (o *Orchestrator) Execute(ctx context.Context, p Plan) (Outcome, error) {
	t, err := o.prepare(p)
	if err != nil {
		return Outcome{}, err
	}
	timeout, err := p.timeout(o.config.Timeout)
	if err != nil {
		return Outcome{}, invalid("%s: %w", p.GID, err)
	}
	if err := local.Expired(ctx); err != nil {
		return Outcome{}, fmt.Errorf("execute %s: nothing was begun: %w", p.GID, err)
	}
	ctx, leave, err := o.admit(ctx)
	if err != nil {
		return Outcome{}, fmt.Errorf("execute %s: %w", p.GID, err)
	}
	return awaitOutcome(ctx, p.GID, func() (Outcome, error) {
		defer leave()
		return o.execute(ctx, p, t, timeout)
	})
}

func (o *Orchestrator) execute(ctx context.Context, p Plan, t *txn, timeout time.Duration) (Outcome, error) {
	digest := t.digest(p.Pattern)
	if err := o.refusePaused(t.steps); err != nil {
		if outcome, followErr := o.follow(ctx, t.gid, digest, nil); !errors.Is(followErr, txlog.ErrNotFound) {
			return outcome, followErr
		}
		return Outcome{}, fmt.Errorf("execute %s: %w", t.gid, err)
	}
	entry, first := o.inFlight.Start(t.gid)
	for entry != nil && !first {
		outcome, err := o.follow(ctx, t.gid, digest, entry)
		if !errors.Is(err, txlog.ErrNotFound) {
			return outcome, err
		}
		// The other caller went away before anything was written.
		entry, first = o.inFlight.Start(t.gid)
	}
	if entry == nil {
		return Outcome{}, fmt.Errorf("execute %s: %w", p.GID, ErrStopped)
	}
	e := &execution{o: o, txn: t, start: txlog.Start{
		GID: t.gid, Pattern: p.Pattern, Digest: digest, Owner: o.instance.ID, Deadline: timeout, Branches: t.rows(),
	}}
	cause := e.decide(ctx)
	switch {
	case errors.Is(cause, txlog.ErrExists):
		o.inFlight.Release(entry)
		return o.follow(ctx, t.gid, digest, nil)
	case !t.state.Decided():
		o.inFlight.Release(entry)
		return Outcome{GID: t.gid}, &UnknownError{GID: t.gid, Cause: cause}
	}
	if e.lost {
		o.inFlight.Release(entry)
		outcome := e.outcome()
		return outcome, outcome.Err(nil)
	}
	outcome := o.finish(ctx, t, entry, e.outcome(), p.ReturnDecided)
	return outcome, outcome.Err(cause)
}

// finish drives a decided transaction once, in the background as soon as the
// caller does not want to wait, and releases its entry.
func (o *Orchestrator) finish(ctx context.Context, t *txn, entry *inflight.Entry, outcome Outcome, returnDecided bool) Outcome {
	if t.state.Finished() {
		o.inFlight.Release(entry)
		return outcome
	}
	if t.decided.IsZero() {
		t.decided = time.Now()
	}
	driven := make(chan State, 1)
	go func() {
		ctx, cancel := o.detach(ctx)
		defer cancel()
		driven <- o.drive(ctx, t, entry)
	}()
	if returnDecided {
		return outcome
	}
	select {
	case outcome.State = <-driven:
	case <-ctx.Done():
	}
	return outcome
}

// detach returns a context with the values of ctx that ends when Stop
// interrupts what is left, or when cancel is called. The caller has to call cancel.
func (o *Orchestrator) detach(ctx context.Context) (detached context.Context, cancel func()) {
	detached, end := context.WithCancel(context.WithoutCancel(ctx))
	unlink := context.AfterFunc(o.work, end)
	return detached, func() { unlink(); end() }
}

// detachFor is detach with the time limit of a branch call.
func (o *Orchestrator) detachFor(ctx context.Context) (detached context.Context, cancel func()) {
	whole, end := o.detach(ctx)
	detached, stop := context.WithTimeout(whole, o.config.CallTimeout)
	return detached, func() { stop(); end() }
}

// execution is the first phase of Execute.
type execution struct {
	o      *Orchestrator
	txn    *txn
	start  txlog.Start
	reason reason // why it is cancelled, once it is
	lost   bool   // somebody else has taken the transaction over

	untouched []*step // their Trys were not called, or were rolled back: there is nothing to cancel
}

// outcome is what is known of the transaction.
func (e *execution) outcome() Outcome {
	return Outcome{GID: e.txn.gid, State: e.txn.state, Reason: e.reason.text, Code: e.reason.code, BranchID: e.reason.branchID}
}

// take takes over what the log says of the transaction.
func (e *execution) take(r txlog.Record) {
	e.txn.state, e.reason = State(r.State), reason{r.Reason, r.Code, r.BranchID}
}

// decide brings the transaction to its decision: afterwards its state is
// decided, or the error says why it is not. After a decision to cancel, the
// error is the cause.
func (e *execution) decide(ctx context.Context) error {
	// It counts from a moment before the database begins to count.
	trying, cancel := context.WithTimeoutCause(ctx, e.start.Deadline, errDeadline)
	defer cancel()
	runs := e.txn.runs()
	if len(runs) == 1 && runs[0].fused {
		return e.decideInBatch(trying)
	}
	var first []*step // in the commit that begins the transaction
	if runs[0].fused {
		first, runs = runs[0].steps, runs[1:]
	}
	if err := e.begin(trying, first); err != nil {
		return err
	}
	var last []*step // in the commit with the decision
	if n := len(runs) - 1; runs[n].fused {
		last, runs = runs[n].steps, runs[:n]
	}
	e.untouched = e.txn.steps[len(first):]
	for _, run := range runs {
		if s, err := e.tryRun(trying, run); err != nil {
			return e.cancel(ctx, s, causeOf(trying, err))
		}
	}
	e.untouched = nil
	err := e.confirm(trying, last)
	if err == nil || e.txn.state.Decided() {
		return err
	}
	var failed *branchError
	if errors.As(err, &failed) {
		e.untouched = last
		return e.cancel(ctx, last[failed.index], causeOf(trying, failed.err))
	}
	return e.cancel(ctx, nil, causeOf(trying, err))
}

// stepRun are steps that follow each other in a plan and are tried the same way.
type stepRun struct {
	steps []*step
	fused bool // in a local transaction with the log
}

// runs separates the steps of a plan where the way of their Trys changes.
func (t *txn) runs() (all []stepRun) {
	for _, s := range t.steps {
		fused := s.branch.tryFused()
		if n := len(all); n == 0 || all[n-1].fused != fused {
			all = append(all, stepRun{fused: fused})
		}
		run := &all[len(all)-1]
		run.steps = append(run.steps, s)
	}
	return all
}

// tryRun tries steps before the decision, and returns the one that failed.
func (e *execution) tryRun(ctx context.Context, run stepRun) (*step, error) {
	if !run.fused {
		for _, s := range run.steps {
			e.untouched = e.untouched[1:]
			if err := e.o.callApart(ctx, s.branch, e.txn.call(s, barrier.Try)); err != nil {
				return s, err
			}
		}
		return nil, nil
	}
	for look := 1; ; look++ {
		err := local.Run(ctx, e.o.db, func(tx *gorm.DB) error { return e.o.tryAll(ctx, tx, e.txn, run.steps) })
		if errors.Is(err, local.ErrCommitUnknown) && look < maxLooks {
			continue // the barrier knows whether it was made
		}
		var failed *branchError
		if errors.As(err, &failed) { // all of the run was rolled back
			return run.steps[failed.index], failed.err
		}
		e.untouched = e.untouched[len(run.steps):]
		return nil, err
	}
}

// errDeadline is why the Trys of a transaction end at its deadline.
var errDeadline = errors.New("the deadline of the transaction has passed")

// causeOf adds why ctx ended to an error that followed from it.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) && !strings.Contains(err.Error(), cause.Error()) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// decideAlone writes the transaction as decided, and tries every branch, in a
// local transaction of its own. Whether it was committed is certain in the end:
// the gid's row is written again if need be, and waits for an unanswered
// COMMIT.
func (e *execution) decideAlone(ctx context.Context) error {
	o, t := e.o, e.txn
	start := e.start
	start.State, start.DecidedBy, start.Due = txlog.Confirming, byCaller, o.config.Lease
	err := e.insert(ctx, start, func(tx *gorm.DB) error { return o.tryAll(ctx, tx, t, t.steps) })
	if err == nil {
		return nil
	}
	return e.refuse(ctx, err)
}

// refuse writes the transaction as cancelled because of err: of a Try, or of a
// COMMIT that the database has refused. Everything was rolled back, nothing was
// reserved, and what is left to write is that, and why. Other errors are
// returned as they are.
func (e *execution) refuse(ctx context.Context, err error) error {
	start := e.start
	var failed *branchError
	switch {
	case errors.As(err, &failed):
		err = causeOf(ctx, failed.err)
		e.reason = reasonOf(&branchError{id: failed.id, kind: failed.kind, err: err})
	case errors.Is(err, local.ErrCommitRefused):
		e.reason = reasonOf(err)
	default:
		return err
	}
	start.Reason, start.Code, start.BranchID = e.reason.text, e.reason.code, e.reason.branchID
	start.State, start.DecidedBy = txlog.Cancelled, byCaller
	recording, cancel := e.o.detachFor(ctx)
	defer cancel()
	if e := e.insert(recording, start, e.detail(recording, failed)); e != nil {
		return fmt.Errorf("%w; nothing was reserved, but recording that failed: %w", err, e)
	}
	return err
}

// begin writes the transaction as undecided, before any branch that lives
// elsewhere is called, and tries the first steps in the same local transaction. If
// one of these fails, nothing was begun, and it is written as cancelled.
func (e *execution) begin(ctx context.Context, first []*step) error {
	o := e.o
	start := e.start
	start.State, start.Due = txlog.Trying, min(o.config.Lease, start.Deadline)
	err := e.insert(ctx, start, func(tx *gorm.DB) error { return o.tryAll(ctx, tx, e.txn, first) })
	if err == nil {
		return nil
	}
	return e.refuse(ctx, err)
}

// insert writes the row of the transaction, and does more in the same local
// transaction, until it is certain how that went, and takes over its state. An
// unanswered COMMIT makes it run again: that waits for the COMMIT, and finds the
// row if it was written. ErrExists is of somebody else's.
func (e *execution) insert(ctx context.Context, start txlog.Start, more func(tx *gorm.DB) error) error {
	o, unanswered := e.o, false
	for look := 1; ; look++ {
		err := local.Run(ctx, o.db, func(tx *gorm.DB) error {
			if err := o.log.Insert(ctx, tx, start); err != nil || more == nil {
				return err
			}
			return more(tx)
		})
		switch {
		case err == nil:
			e.txn.state = State(start.State)
			return nil
		case errors.Is(err, local.ErrCommitUnknown) && look < maxLooks:
			unanswered = true
			continue
		case errors.Is(err, txlog.ErrExists) && unanswered:
			record, getErr := o.readLocked(ctx, start.GID)
			if getErr == nil && e.isOurs(record) {
				e.take(record)
				return nil
			}
			return errors.Join(err, getErr)
		}
		return err
	}
}

// isOurs recognises the row that this execution has written: nobody else in
// this instance writes the gid while its entry lasts.
func (e *execution) isOurs(r txlog.Record) bool {
	return r.Owner == e.o.instance.ID && r.Digest == e.start.Digest && r.Epoch == e.txn.epoch
}

// tryAll tries steps in the local transaction tx.
func (o *Orchestrator) tryAll(ctx context.Context, tx *gorm.DB, t *txn, steps []*step) error {
	for i, s := range steps {
		call := t.call(s, barrier.Try)
		verdict, err := barrier.Call(ctx, tx, call.request())
		if err == nil && verdict == barrier.Run {
			err = o.inside(ctx, tx, s.branch, call)
		}
		if err != nil {
			return &branchError{index: i, id: s.id, kind: s.kind, err: err}
		}
	}
	return nil
}

// Longest texts that the log holds, in characters.
const (
	maxReason = 1000
	maxError  = 2000
)

// clip shortens text to at most n characters, at a character's boundary, and
// replaces what is not UTF-8, which databases refuse.
func clip(text string, n int) string {
	valid := make([]rune, 0, min(len(text), n))
	for _, r := range text {
		if len(valid) == n {
			valid[n-1] = '…'
			break
		}
		if r == 0 {
			r = utf8.RuneError
		}
		valid = append(valid, r)
	}
	return string(valid)
}
