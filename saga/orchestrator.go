package saga

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/batch"
	"github.com/tccsaga/tccsaga/saga/internal/inflight"
	"github.com/tccsaga/tccsaga/saga/internal/lease"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/schema"
)

// Orchestrator is the [Engine] that lives in the user's own process and
// database. Open one per process and database, register the branches, and keep
// Run going. It is safe for concurrent use.
type Orchestrator struct {
	caller
	kinds
	config   Config
	log      *txlog.Log
	logID    string // names the log, and so this engine, to every barrier
	instance txlog.Instance
	lease    *lease.Lease
	inFlight inflight.Registry
	wake     chan struct{} // capacity 1: something may be due
	driving  atomic.Int64  // bytes of payloads of what was claimed and is driven

	paused   pausedKinds
	repeated repeated

	shared    *local.Shared
	decisions *batch.Groups[*decideItem] // by the kinds of branches
	effects   *batch.Groups[*effectItem] // by the kind of branch and the operation
	finishes  *batch.Groups[*finishItem] // by the kinds of branches and the epoch

	work     context.Context // of everything driven; ends when Stop interrupts what is left
	halt     context.CancelFunc
	stopping chan struct{} // closed when Stop begins, or Run drains
	stopOnce sync.Once
	drained  chan struct{} // closed when nothing is under way any more
	left     error         // what could not be drained; readable after drained

	starting sync.Mutex
	running  chan struct{} // closed when Run returns; nil before Run
}

var _ Engine = (*Orchestrator)(nil)

// Open returns an orchestrator whose log is in db. It checks that the schema is
// complete and takes the first lease; nothing is driven before [Orchestrator.Run].
//
// Give it the handle that gorm.Open returned: not one in a local transaction. The
// engine commits by itself, whatever local transaction the caller has open, and
// waits for what that has locked.
//
// If the pool of db has a limit of n connections, the engine uses at most three
// quarters of them at once, and at least two: one is the heartbeat's own, and the
// local transactions share the rest. Others wait, and the user's own queries find a
// connection. So it is with the pool of a branch's own database, without a
// heartbeat. A pool of one or two connections works, but lets one local transaction
// run at a time. The limit counts that the pool has when it is first used here.
//
// For SQLite, open db with _txlock=immediate, a busy timeout and the WAL
// journal, as the examples do.
func Open(ctx context.Context, db *gorm.DB, config Config) (*Orchestrator, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := checkHandle(db); err != nil {
		return nil, invalid("open: the database: %w", err)
	}
	if err := schema.Check(ctx, db); err != nil {
		return nil, fmt.Errorf("saga: open: %w", err)
	}
	pool, err := local.Pool(db)
	if err != nil {
		return nil, fmt.Errorf("saga: open: %w", err)
	}
	log, err := txlog.New(db)
	if err != nil {
		return nil, fmt.Errorf("saga: open: %w", err)
	}
	logID, err := log.ID(ctx)
	if err != nil {
		return nil, fmt.Errorf("saga: open: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	instance := txlog.Instance{ID: uuid.NewString(), Host: host, PID: os.Getpid()}
	o := &Orchestrator{
		caller:   caller{timeout: config.CallTimeout, logger: config.Logger, instance: instance.ID, underWay: &underWay{}},
		kinds:    kinds{db: db, pool: pool},
		config:   config,
		log:      log,
		logID:    logID,
		instance: instance,
		wake:     make(chan struct{}, 1),
		stopping: make(chan struct{}),
		drained:  make(chan struct{}),
	}
	if o.shared, err = local.NewShared(db); err != nil {
		return nil, fmt.Errorf("saga: open: %w", err)
	}
	workers := maxWorkers
	if db.Name() == "sqlite" {
		workers = 1 // it lets one write at a time
	}
	o.decisions = batch.New(config.MaxBatch, workers, o.decideBatch)
	o.finishes = batch.New(config.MaxBatch, workers, o.finishBatch)
	o.effects = batch.New(config.MaxBatch, workers, o.runEffects)
	o.lease = lease.New(config.Lease, func(ctx context.Context) error {
		return log.Renew(ctx, o.instance, config.Lease)
	})
	o.work, o.halt = context.WithCancel(context.WithoutCancel(ctx))
	o.caller.over = o.work.Done()
	if err := o.lease.Renew(ctx); err != nil {
		return nil, fmt.Errorf("saga: open: %w", err)
	}
	if err := o.readPausedKinds(ctx); err != nil {
		return nil, fmt.Errorf("saga: open: %w", err)
	}
	return o, nil
}

// Register makes a kind of branch known; see [Registrar]. It checks the schema of
// the branch's database, if that is another one.
func (o *Orchestrator) Register(b Branch) error {
	return o.add(o.work, &branch{Branch: b, breaker: o.breaker(b.Kind)})
}

// Instance returns the id of this instance in the log, new at every Open.
func (o *Orchestrator) Instance() string { return o.instance.ID }

// Run renews the lease, meets deadlines, retries what failed, resumes what
// instances that are gone have left, and removes what is old, until ctx ends or [Orchestrator.Stop] is
// called. It then waits for what is under way, as Stop does, for at most
// [Config.Drain], and returns nil, or an error if it had to interrupt
// something. Call it once.
func (o *Orchestrator) Run(ctx context.Context) error {
	if err := o.startRunning(); err != nil {
		return err
	}
	defer close(o.running)

	// The heart beats until the last work is done, not only until ctx ends.
	beating, quiet := context.WithCancel(o.work)
	var background sync.WaitGroup
	background.Go(func() { o.keepLease(beating) })
	background.Go(func() { o.cleaning(beating) })
	background.Go(func() { o.watchPausedKinds(beating) })
	defer background.Wait()
	defer quiet()

	o.poll(ctx)

	draining, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.config.Drain)
	defer cancel()
	return o.drain(draining)
}

func (o *Orchestrator) startRunning() error {
	o.starting.Lock()
	defer o.starting.Unlock()
	if o.running != nil {
		return errors.New("saga: Run was called twice")
	}
	for kind := range o.config.KindLimits {
		if _, err := o.branch(kind); err != nil {
			return invalid("Config.KindLimits names the kind %q, which is not registered", kind)
		}
	}
	o.running = make(chan struct{})
	return nil
}

// Stop refuses new work, waits for what is under way until ctx ends, and gives
// the lease back, so that other instances resume at once what is left. It
// returns nil if everything came to its end, and otherwise an error after
// interrupting the rest, which is as safe as a crash. It may be called more
// than once, and without Run; the first call's context counts.
func (o *Orchestrator) Stop(ctx context.Context) error {
	err := o.drain(ctx)
	o.starting.Lock()
	running := o.running
	o.starting.Unlock()
	if running != nil {
		select {
		case <-running:
		case <-ctx.Done():
		}
	}
	return err
}

// grace is what an interrupted branch call gets to notice it.
const grace = time.Second

// drain does what Stop says, once; whoever comes later waits for the first.
func (o *Orchestrator) drain(ctx context.Context) error {
	first := false
	o.stopOnce.Do(func() { first = true; close(o.stopping) })
	if first {
		o.left = o.drainOnce(ctx)
		close(o.drained)
	}
	<-o.drained
	return o.left
}

func (o *Orchestrator) drainOnce(ctx context.Context) error {
	interrupted, idle := o.inFlight.Drain(ctx)
	var err error
	if !idle {
		err = fmt.Errorf("saga: stop: calls under way were interrupted, and what they left will be resumed: %w", context.Cause(ctx))
		o.halt()
		noticing, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		o.inFlight.Drain(noticing)
		cancel()
	}
	o.halt()
	o.shared.Close()
	resigning, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.config.Lease)
	defer cancel()
	if e := o.lease.Resign(func() error { return o.log.Resign(resigning, o.instance.ID, interrupted) }); e != nil {
		// The lease runs out by itself.
		o.config.Logger.Warn("saga: giving the lease back failed", slog.Any("error", e))
	}
	o.log.Close()
	return err
}

// admit admits a call of the user if the instance holds its lease. The context that it
// returns also ends when Stop interrupts what is left. The caller has to call leave at
// the end of the call.
func (o *Orchestrator) admit(ctx context.Context) (admitted context.Context, leave func(), err error) {
	if !o.inFlight.Enter() {
		return nil, nil, ErrStopped
	}
	if err := o.awaitLease(ctx); err != nil {
		o.inFlight.Leave()
		return nil, nil, err
	}
	admitted, cancel := context.WithCancelCause(ctx)
	unlink := context.AfterFunc(o.work, func() { cancel(ErrStopped) })
	return admitted, func() { unlink(); cancel(nil); o.inFlight.Leave() }, nil
}
