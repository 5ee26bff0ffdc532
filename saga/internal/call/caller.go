package call

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/barrierrows"
	"github.com/tccsaga/tccsaga/saga/internal/batch"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/observe"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// Config of a [Caller].
type Config struct {
	Timeout  time.Duration // of one call
	Logger   *slog.Logger
	Instance string          // makes the calls; the barrier rows of calls under way name it
	Prefix   string          // of the names of callers in the barrier rows
	Stopped  <-chan struct{} // closed when no further call may begin; nil for never
	AskAfter time.Duration   // a branch in doubt for so long asks for the outcome; 0 for never
	MaxBatch int             // the most calls that share a local transaction of the branch's database; 0 or 1 for none
	Observe  *observe.Notifier
}

// Caller calls branches, each within a time limit, in local transactions without the log.
// It is safe for concurrent use.
type Caller struct {
	bounds
	instance string
	prefix   string
	stopped  <-chan struct{}
	askAfter time.Duration
	gatherer *gatherer // nil if every call is made alone
	observe  *observe.Notifier

	// UnderWay holds the calls that this process makes at this moment.
	UnderWay UnderWay
}

// New returns a Caller.
func New(c Config) *Caller {
	made := &Caller{bounds: bounds{timeout: c.Timeout, logger: c.Logger}, instance: c.Instance, prefix: c.Prefix, stopped: c.Stopped, askAfter: c.AskAfter, observe: c.Observe}
	if c.MaxBatch > 1 {
		made.gatherer = newGatherer(made, c.MaxBatch)
	}
	return made
}

// Close closes the connections that are kept for shared local transactions. Calls may still
// be made.
func (c *Caller) Close() {
	if c.gatherer != nil {
		c.gatherer.close()
	}
}

// Instance returns the id of the instance that makes the calls.
func (c *Caller) Instance() string { return c.instance }

// ErrRaced says that a Try was committed between two reads of the barrier.
var ErrRaced = errors.New("a Try came in between")

// Request returns the request of a call to the barrier.
func Request(call saga.Call) barrier.Request {
	return barrier.Request{Key: call.Key(), Op: call.Op, Caller: call.Caller, Kind: call.Kind, Input: call.Payload}
}

// Request returns the request of a call to the barrier, with the prefix of this Caller.
func (c *Caller) Request(call saga.Call) barrier.Request {
	request := Request(call)
	request.Caller = c.prefix + request.Caller
	return request
}

// Call makes one branch call in a local transaction of the branch's database, if it has one.
// Calls that are made at the same time may share it.
func (c *Caller) Call(ctx context.Context, b *txn.Branch, call saga.Call) error {
	ctx, observed := c.observe.Call(ctx, call, b.Remote != nil)
	if b.Remote != nil {
		call.Trace = c.observe.Inject(ctx)
	}
	err := c.call(ctx, b, call, observed)
	if observed != nil {
		observed.End(ResultOf(b, call.Op, err), err)
	}
	return err
}

func (c *Caller) call(ctx context.Context, b *txn.Branch, call saga.Call, observed *observe.Call) error {
	defer c.UnderWay.Begin(call)()
	if !b.Action {
		call.Result = nil // only an action has a result; a host does not know the branch before
	}
	if b.Remote != nil {
		err := c.bounded(ctx, call, func(ctx context.Context) error { return b.Remote.Call(ctx, call) }, nil)
		if err == nil && call.Result != nil {
			err = CheckResult(*call.Result)
		}
		return err
	}
	// The limit includes the local transactions, because a database may not answer.
	limit := c.timeout
	if b.Effect(call.Op) != nil {
		limit *= 2 // the effect, and the local transactions before and after it
	}
	ctx, cancel := withLimit(ctx, limit, &limitError{call.Op, call.Kind, didNotEnd, limit})
	defer cancel()
	gathers := c.gatherer != nil && gathers(b, call)
	if gathers {
		if verdict, err := c.gatherer.call(ctx, b, call); !errors.Is(err, batch.ErrAlone) {
			observed.Saw(verdict)
			return err
		}
	}
	for run := 1; ; run++ {
		verdict, err := c.callOnce(ctx, b, call)
		observed.Saw(verdict)
		if gathers && err == nil {
			c.observe.Batch(ctx, batchCalls, 1)
		}
		again := errors.Is(err, ErrRaced) || errors.Is(err, local.ErrCommitUnknown)
		if !again || run == txn.MaxRuns || ctx.Err() != nil {
			return err
		}
	}
}

// callOnce returns what the barrier has said; no verdict if it was not asked.
func (c *Caller) callOnce(ctx context.Context, b *txn.Branch, call saga.Call) (barrier.Verdict, error) {
	switch {
	case call.Op == barrier.Ask:
		return c.ask(ctx, b, call)
	case b.Effect(call.Op) == nil:
		return c.withBarrier(ctx, b, call, func(tx *gorm.DB) error { return c.CallWork(ctx, tx, b, call) })
	case call.Op == barrier.Try:
		return tryEffect{c}.run(ctx, b, call)
	case call.Op == barrier.Apply:
		return c.applyExternal(ctx, b, call)
	}
	return c.endExternal(ctx, b, call)
}

// withBarrier makes one branch call in a local transaction of its own. It writes the
// barrier row first, and then does the work if the verdict is Run. A call that the barrier
// turns away commits as well, so that the barrier counts it.
func (c *Caller) withBarrier(ctx context.Context, b *txn.Branch, call saga.Call, work func(tx *gorm.DB) error) (verdict barrier.Verdict, err error) {
	var refused error
	err = c.run(ctx, b.Database, func(tx *gorm.DB) (err error) {
		verdict, err = barrier.Call(ctx, tx, c.Request(call))
		if refused = nil; errors.Is(err, barrier.ErrSuspended) || errors.Is(err, barrier.ErrConflict) {
			refused = err
			return nil
		}
		if err == nil {
			err = c.noteDoubt(ctx, tx, call, verdict)
		}
		if err != nil {
			return err
		}
		return obey(ctx, tx, call, verdict, func() error { return work(tx) })
	})
	return verdict, errors.Join(err, refused)
}

// run runs work in a local transaction of db.
func (c *Caller) run(ctx context.Context, db *gorm.DB, work func(tx *gorm.DB) error) error {
	if c.gatherer != nil {
		if p, err := c.gatherer.in(db); err == nil {
			return p.shared.Alone().Run(ctx, work)
		}
	}
	return local.Run(ctx, db, work)
}

// obey does what a verdict says: the work, after which it stores the result, or nothing. A
// repeated call gets the result of the first one.
func obey(ctx context.Context, tx *gorm.DB, call saga.Call, verdict barrier.Verdict, work func() error) error {
	switch verdict {
	case barrier.Run:
		if err := work(); err != nil {
			return err
		}
		return keepResult(ctx, tx, call)
	case barrier.Duplicate:
		return recallResult(ctx, tx, call)
	default:
		return nil
	}
}

// LocalWork calls work of the user in the local transaction tx of the framework, bounded in
// time, with a session of db. Its error is a [*WorkError].
func (c *Caller) LocalWork(ctx context.Context, db, tx *gorm.DB, gid string, work func(context.Context, *gorm.DB) error) error {
	err := c.bounded(ctx, saga.Call{GID: gid, Kind: "local work", Op: opWork}, func(ctx context.Context) error {
		return work(ctx, local.UserHandle(ctx, db, tx))
	}, nil)
	if err != nil {
		return &WorkError{err}
	}
	return nil
}

// opWork names local work in errors.
const opWork barrier.Op = "run"

// WorkError is the error of local work.
type WorkError struct{ Err error }

func (e *WorkError) Error() string { return "local work: " + e.Err.Error() }
func (e *WorkError) Unwrap() error { return e.Err }

// CallWork calls the Work of a branch, bounded in time, in the engine's local transaction
// tx.
func (c *Caller) CallWork(ctx context.Context, tx *gorm.DB, b *txn.Branch, call saga.Call) error {
	if !b.Works(call.Op) {
		return nil
	}
	call, err := withOwnResult(ctx, tx, b, call)
	if err != nil {
		return err
	}
	return c.bounded(ctx, call, func(ctx context.Context) error { return b.RunWork(ctx, tx, call) }, nil)
}

// callWorkInBatch is CallWork for a member of a batch, which the Watch of the batch bounds.
func (c *Caller) callWorkInBatch(ctx context.Context, tx *gorm.DB, b *txn.Branch, call saga.Call) error {
	if !b.Works(call.Op) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	return withCause(ctx, c.protected(ctx, call, func(ctx context.Context) error { return b.RunWork(ctx, tx, call) }))
}

// CallInLog makes one branch call in the local transaction tx of the log: it writes the
// barrier row and then, if the verdict is Run, does the work. Observers are not told of it.
func (c *Caller) CallInLog(ctx context.Context, tx *gorm.DB, b *txn.Branch, call saga.Call) (barrier.Verdict, error) {
	verdict, err := barrier.Call(ctx, tx, Request(call))
	if err != nil {
		return verdict, err
	}
	return verdict, obey(ctx, tx, call, verdict, func() error { return c.CallWork(ctx, tx, b, call) })
}

// WorkInLog calls the Work of a branch in the local transaction tx of the log, and stores
// its result there. Observers are not told of it.
func (c *Caller) WorkInLog(ctx context.Context, tx *gorm.DB, b *txn.Branch, call saga.Call) error {
	if err := c.CallWork(ctx, tx, b, call); err != nil {
		return err
	}
	return keepResult(ctx, tx, call)
}

// ReadLocked reads the barrier row of a call with a locking read; nil if there is none.
func (c *Caller) ReadLocked(ctx context.Context, b *txn.Branch, call saga.Call) (row *barrier.Row, err error) {
	err = local.Run(ctx, b.Database, func(tx *gorm.DB) (err error) {
		row, err = barrierrows.LookLocked(ctx, tx, call.Key())
		return err
	})
	return row, err
}
