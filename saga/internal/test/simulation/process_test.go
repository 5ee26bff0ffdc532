package simulation

import (
	"context"
	"database/sql"
	"hash/fnv"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/internal/jitter"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/remote"
)

// lease is that of every process.
const lease = 5 * time.Second

// process is a process from its start to its death. The goroutines of a dead process
// end at moments that the seed does not decide. So nobody waits for them: callers and
// supervisors go on when gone is closed.
type process struct {
	world       *world
	number      int // the process that is started in its place has the same
	killed      atomic.Bool
	gone        chan struct{} // closed when it is dead
	starting    bool          // until start has returned
	pausedUntil time.Time
	entering    *call // the last one of a caller; only for the scheduler
	orch        *embedded.Engine
	host        *remote.Host  // of the process that hosts branches; it has no engine
	db          *gorm.DB      // of the log
	ended       chan struct{} // closed when the engine has ended; nil if it does not run

	mu         sync.Mutex
	leaseUntil time.Time // of the last renewal
	conns      []*conn
	pools      []*sql.DB
}

func newProcess(w *world, number int) *process {
	return &process{world: w, number: number, starting: true, gone: make(chan struct{})}
}

func (p *process) dead() bool { return p.killed.Load() }

func (p *process) track(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, c)
}

// die is kill -9: the databases roll back what was not committed, and nothing that
// the process does from now on has any effect.
func (p *process) die() {
	if p.killed.Swap(true) {
		return
	}
	p.mu.Lock()
	conns := slices.Clone(p.conns)
	p.mu.Unlock()
	for _, c := range conns {
		c.disconnect()
	}
	close(p.gone)
}

// admits says whether the next caller may call the process. Without a lease, the engine
// lets its callers wait, and all of them go on at the moment of the renewal, in any order.
// So one waits in the engine, and the others wait at the gate.
func (p *process) admits() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Now().Before(p.leaseUntil) {
		p.entering = nil
	}
	return p.entering == nil || p.entering.over.Load()
}

// renewed notes a renewal of the lease that was sent at some time.
func (p *process) renewed(sent time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leaseUntil = sent.Add(lease)
}

// live runs the process until it is dead, and then waits for its goroutines.
func (p *process) live() {
	ctx, stop := context.WithCancel(jitter.With(context.Background(), p.draw))
	defer stop()
	err := p.start(ctx)
	switch {
	case p.dead():
	case err != nil:
		p.world.gate.report("%d does not start: %v", p.number, err)
		p.die()
	default:
		p.world.set(p.number, p)
		p.world.gate.report("%d is up", p.number)
	}
	<-p.gone
	stop()
	p.shutDown()
}

func (p *process) open(d *database) (*gorm.DB, error) {
	pool := sql.OpenDB(connector{p, d})
	local.Unordered(pool) // the gate has its own order
	p.mu.Lock()
	p.pools = append(p.pools, pool)
	p.mu.Unlock()
	return gorm.Open(&sqlite.Dialector{Conn: pool}, &gorm.Config{Logger: logger.Discard, SkipDefaultTransaction: true})
}

// start opens the engine and runs it.
func (p *process) start(ctx context.Context) error {
	away, err := p.open(p.world.other)
	if err != nil {
		return err
	}
	if p.number == hostNumber {
		return p.startHost(ctx, away)
	}
	here, err := p.open(p.world.log)
	if err != nil {
		return err
	}
	orch, err := embedded.Open(ctx, here, p.world.config)
	if err != nil {
		return err
	}
	p.orch, p.db = orch, here
	if err := register(orch, p.world.branches(p, away)); err != nil {
		return err
	}
	if p.world.hosted {
		service, err := p.service()
		if err != nil {
			return err
		}
		if err := register(orch, remoteBranches(service)); err != nil {
			return err
		}
	}
	p.starting = false
	p.ended = make(chan struct{})
	go func() {
		defer close(p.ended)
		orch.Run(ctx)
	}()
	return nil
}

func register(with saga.Registrar, branches []saga.Branch) error {
	for _, b := range branches {
		if err := with.Register(b); err != nil {
			return err
		}
	}
	return nil
}

// draw returns a random pause that depends on the seed and the moment only: with a
// generator it would depend on which goroutine draws first.
func (p *process) draw(longest time.Duration) time.Duration {
	hash := fnv.New64a()
	for _, part := range []uint64{p.world.seed, uint64(p.number), uint64(time.Now().UnixNano()), uint64(longest)} {
		for ; part > 0; part >>= 8 {
			hash.Write([]byte{byte(part)})
		}
	}
	return time.Duration(hash.Sum64()%uint64(longest)) + 1
}

// shutDown ends the goroutines of a dead process.
func (p *process) shutDown() {
	if p.orch != nil {
		over, cancel := context.WithCancel(jitter.With(context.Background(), p.draw))
		cancel()
		p.orch.Stop(over)
	}
	if p.ended != nil {
		<-p.ended
	}
	for _, pool := range p.pools {
		pool.Close()
	}
}

var quiet = slog.New(slog.DiscardHandler)
