package embedded

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/call"
	"github.com/tccsaga/tccsaga/saga/internal/clean"
	"github.com/tccsaga/tccsaga/saga/internal/commit"
	"github.com/tccsaga/tccsaga/saga/internal/decide"
	"github.com/tccsaga/tccsaga/saga/internal/drive"
	"github.com/tccsaga/tccsaga/saga/internal/enlist"
	"github.com/tccsaga/tccsaga/saga/internal/follow"
	"github.com/tccsaga/tccsaga/saga/internal/inflight"
	"github.com/tccsaga/tccsaga/saga/internal/lease"
	"github.com/tccsaga/tccsaga/saga/internal/lifetime"
	"github.com/tccsaga/tccsaga/saga/internal/limit"
	"github.com/tccsaga/tccsaga/saga/internal/observe"
	"github.com/tccsaga/tccsaga/saga/internal/pause"
	"github.com/tccsaga/tccsaga/saga/internal/recovery"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
	"github.com/tccsaga/tccsaga/saga/internal/warn"
	"github.com/tccsaga/tccsaga/saga/schema"
)

// Engine is a [saga.Engine] in the user's own process, with its log in the user's own
// database. Open one per process and database, register the branches, and call Run in a
// goroutine. It is safe for concurrent use.
type Engine struct {
	planned
	enlisted
	opened
	operators
	viewer
	answerer
	nesting
	recorder

	config   Config
	instance txlog.Instance
	log      *txlog.Log
	registry *txn.Registry
	calls    *call.Caller
	shared   *call.Shared
	inFlight *inflight.Registry
	lease    *lease.Lease
	life     *lifetime.Lifetime // ends when Stop interrupts the remaining calls
	warn     *warn.Logger
	observe  *observe.Notifier
	paused   *pause.Kinds
	decider  *decide.Decider
	driver   *drive.Driver
	recovery *recovery.Recovery
	commits  *commit.Writer
	watcher  *enlist.Watcher
	cleaner  *clean.Cleaner

	stopping   chan struct{} // closed when the engine begins to stop
	stopOnce   sync.Once
	drained    chan struct{} // closed when the engine has stopped
	drainError error         // set before drained is closed

	starting sync.Mutex
	running  chan struct{} // closed when Run returns; nil before Run
}

var _ saga.LocalEngine = (*Engine)(nil)

// Open returns an engine with its log in db. It checks that the schema is complete and takes
// the first lease. It drives no transaction before [Engine.Run].
//
// Db is the handle that gorm.Open returned, and not one in a local transaction. The engine
// commits by itself. If the caller has a local transaction open, the engine does not take part
// in it, and waits for its locks.
//
// If the pool of db has a limit of n connections, the engine uses at most three quarters of
// them at once, and at least two: one for the heartbeat, and the others for local
// transactions. Further local transactions wait, so that the user's own queries find a
// connection. The same holds for the pool of a branch's own database, without the heartbeat.
// A pool of one or two connections works, but only one local transaction runs at a time. The
// engine reads the limit when it first uses the pool.
//
// For SQLite, open db with _txlock=immediate, a busy timeout and the WAL journal, as the
// examples do.
func Open(ctx context.Context, db *gorm.DB, config Config) (*Engine, error) {
	e, err := open(ctx, db, config)
	return e, txn.Wrap("open", "", err)
}

func open(ctx context.Context, db *gorm.DB, config Config) (*Engine, error) {
	e, err := openEngine(ctx, db, config)
	if err != nil {
		return nil, err
	}
	if err := e.lease.Renew(ctx); err != nil {
		return nil, err
	}
	if err := e.paused.Read(ctx); err != nil {
		return nil, err
	}
	return e, nil
}

// openEngine checks what an engine needs, and makes it. It writes nothing.
func openEngine(ctx context.Context, db *gorm.DB, config Config) (*Engine, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	if err = txn.CheckHandle(db); err != nil {
		return nil, txn.Invalid("the database: %w", err)
	}
	if err = schema.Check(ctx, db); err != nil {
		return nil, err
	}
	return newEngine(ctx, db, config)
}

// newEngine makes an engine and its parts. It writes nothing.
func newEngine(ctx context.Context, db *gorm.DB, config Config) (*Engine, error) {
	registry, err := txn.NewRegistry(db)
	if err != nil {
		return nil, err
	}
	log, err := txlog.New(db)
	if err != nil {
		return nil, err
	}
	logID, err := log.ID(ctx)
	if err != nil {
		return nil, err
	}
	observers, err := saga.NewObservers(config.Logger, config.Observers)
	if err != nil {
		return nil, txn.Invalid("Config.Observers: %w", err)
	}
	observed := observe.New(observers, false)
	e := &Engine{
		config:   config,
		instance: newInstance(),
		log:      log,
		registry: registry,
		inFlight: &inflight.Registry{},
		life:     lifetime.New(observed.Attach(ctx), config.CallTimeout),
		warn:     warn.New(config.Logger),
		observe:  observed,
		stopping: make(chan struct{}),
		drained:  make(chan struct{}),
	}
	e.lease = lease.New(config.Lease, func(ctx context.Context) error { return log.Renew(ctx, e.instance, config.Lease) }, observed.Lease)
	e.paused = pause.New(log, e.warn, observed.Kind)
	if err := e.wire(db, logID); err != nil {
		return nil, err
	}
	return e, nil
}

// newInstance returns a new instance in this process.
func newInstance() txlog.Instance {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return txlog.Instance{ID: uuid.NewString(), Host: host, PID: os.Getpid()}
}

// wire makes the parts of the engine and connects them.
func (e *Engine) wire(db *gorm.DB, logID string) (err error) {
	config, instance := e.config, e.instance.ID
	e.calls = call.New(call.Config{Timeout: config.CallTimeout, Logger: config.Logger, Instance: instance, Stopped: e.life.Context().Done(), MaxBatch: config.MaxBatch, Observe: e.observe})
	calls := e.calls
	if e.shared, err = call.NewShared(db, calls, config.MaxBatch); err != nil {
		return err
	}
	e.commits = commit.New(e.log, e.life, e.shared.Local(), e.shared.Alone(), config.MaxBatch, e.shared.Workers(), e.observe.Log)
	builder := &txn.Builder{Registry: e.registry, Caller: logID, MaxPayload: config.MaxPayload, MaxBytes: config.MaxBytes}
	reader := follow.New(db, e.log, config.Poll)
	waker := recovery.NewWaker(config.Poll)
	alarm := &alarm{logger: config.Logger, hook: config.OnAttention, inFlight: e.inFlight, life: e.life, timeout: config.CallTimeout, observe: e.observe}
	e.decider = decide.New(decide.Parts{
		DB: db, Log: e.log, Reader: reader, Calls: calls, Shared: e.shared, Commits: e.commits, Life: e.life, Warn: e.warn, Instance: instance, Lease: config.Lease,
		Paused: e.paused, Logger: config.Logger, MinBackoff: config.MinBackoff, MaxBackoff: config.MaxBackoff,
		AttentionAttempts: config.AttentionAttempts, AttentionAge: config.AttentionAge, Alarm: alarm.raise, Observe: e.observe,
	})
	e.driver = drive.New(drive.Parts{
		DB: db, Log: e.log, LogID: logID, Reader: reader, Calls: calls, Shared: e.shared, Commits: e.commits, Life: e.life, Paused: e.paused, InFlight: e.inFlight,
		Logger: config.Logger, Instance: instance, CallTimeout: config.CallTimeout, MinBackoff: config.MinBackoff, MaxBackoff: config.MaxBackoff,
		AttentionAttempts: config.AttentionAttempts, AttentionAge: config.AttentionAge, Again: func(t *txn.Txn, postponed bool) { e.recovery.Again(t, postponed) }, Alarm: alarm.raise, Observe: e.observe,
	})
	e.recovery = recovery.New(recovery.Parts{
		DB: db, Log: e.log, Builder: builder, Life: e.life, InFlight: e.inFlight, Warn: e.warn, Instance: instance, Stopping: e.stopping,
		Lease: config.Lease, PollEvery: config.Poll, CallTimeout: config.CallTimeout, AttentionAge: config.AttentionAge,
		Workers: config.MaxWorkers, MaxBytes: config.MaxBytes, Continue: e.continueTrys, Ask: e.ask, Drive: e.driver.Drive, Alarm: alarm.raise, Observe: e.observe,
	}, waker)
	e.watcher = enlist.New(enlist.Parts{
		DB: db, Log: e.log, Life: e.life, InFlight: e.inFlight, Warn: e.warn, Instance: instance, Stopping: e.stopping,
		For: min(config.Lease, 2*config.Poll), Most: config.MaxWorkers, MaxBytes: 2 * config.MaxBytes, Drive: e.driver.Drive, Observe: e.observe,
	})
	e.cleaner = clean.New(clean.Parts{
		DB: db, Log: e.log, Registry: e.registry, Calls: calls, Logger: config.Logger, Warn: e.warn, Stopping: e.stopping,
		Retention: config.Retention, CallTimeout: config.CallTimeout, MinRest: config.Poll,
	})
	e.wireCalls(db, logID, calls, builder, reader, waker)
	return nil
}

// wireCalls makes the parts that have the methods of the Engine.
func (e *Engine) wireCalls(db *gorm.DB, logID string, calls *call.Caller, builder *txn.Builder, reader *follow.Reader, waker *recovery.Waker) {
	config, instance := e.config, e.instance.ID
	admission := &admission{inFlight: e.inFlight, lease: e.lease, life: e.life, stopping: e.stopping}
	finisher := &finisher{life: e.life, inFlight: e.inFlight, driver: e.driver}
	e.planned = planned{
		admission: admission, builder: builder, paused: e.paused, inFlight: e.inFlight, decider: e.decider, finisher: finisher,
		reader: reader, again: e.recovery.Again, instance: instance, timeout: config.Timeout, observe: e.observe,
	}
	e.enlisted = enlisted{
		admission: admission, builder: builder, paused: e.paused, decider: e.decider, db: db, log: e.log, timeout: config.Timeout,
		instance: instance, commits: e.watcher, wake: waker, observe: e.observe,
	}
	e.opened = opened{
		admission: admission, builder: builder, paused: e.paused, decider: e.decider, calls: calls, db: db, log: e.log, commits: e.commits, reader: reader,
		tries:    call.NewLogTries(e.shared, joins{e.log, builder}),
		inFlight: e.inFlight, finisher: finisher, instance: instance, lease: config.Lease, timeout: config.OpenTimeout, observe: e.observe,
	}
	e.recorder = recorder{opened: &e.opened}
	e.nesting = nesting{opened: &e.opened, attentionAge: config.AttentionAge}
	e.viewer = viewer{db: db, log: e.log, logID: logID, registry: e.registry, calls: calls, inFlight: e.inFlight, running: true, past: &past{}}
	e.answerer = answerer{db: db, log: e.log, logID: logID}
	e.operators = operators{
		opened: &e.opened, viewer: &e.viewer, db: db, log: e.log, logID: logID, paused: e.paused, registry: e.registry, calls: calls, wake: waker,
	}
}

// continueTrys runs the first phase of a claimed transaction with forward recovery.
func (e *Engine) continueTrys(ctx context.Context, t *txn.Txn, left time.Duration) (drive bool) {
	decision := e.decider.Continue(ctx, t, left)
	if !decision.State.Decided() {
		e.warnUndecided(ctx, t, decision.Cause)
		return false
	}
	return !decision.Taken
}

// ask asks the branch that decides a claimed transaction.
func (e *Engine) ask(ctx context.Context, t *txn.Txn) (committed bool, err error) {
	committed, err = e.decider.Ask(ctx, t)
	e.warnUndecided(ctx, t, err)
	return committed, err
}

// warnUndecided logs why a claimed transaction stays undecided, if the log has no attempt that
// says so.
func (e *Engine) warnUndecided(ctx context.Context, t *txn.Txn, why error) {
	if why != nil && !errors.Is(why, decide.ErrPostponed) && !errors.Is(why, decide.ErrNotAnswered) {
		e.warn.Warn(ctx, "saga: continuing an undecided transaction failed; it is due again when the lease ends", why, slog.String("gid", t.GID))
	}
}

// Register registers a kind of branch; see [saga.Registrar]. If the branch has a database of
// its own, Register checks the schema there.
func (e *Engine) Register(b saga.Branch) error {
	registered, err := txn.NewBranch(b, e.breaker(b.Kind()))
	if err == nil {
		err = e.registry.Add(e.life.Context(), registered)
	}
	return txn.Wrap("register", b.Kind(), err)
}

// breaker returns the breaker of a kind of branch.
func (e *Engine) breaker(kind string) *limit.Breaker {
	limits, own := e.config.KindLimits[kind]
	if !own {
		limits = e.config.Limits
	}
	return limit.NewBreaker(kind, limit.Limits(limits), e.config.Logger,
		limit.Hooks{Release: e.recovery.MakeDue, Changed: func(open bool) { e.observe.Circuit(kind, open) }})
}

// Instance returns the id of this instance in the log. It is a new one at every Open.
func (e *Engine) Instance() string { return e.instance.ID }
