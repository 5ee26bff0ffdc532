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

	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/internal/jitter"
	"github.com/tccsaga/tccsaga/saga/internal/local"
)

// lease is that of every process.
const lease = 5 * time.Second

// process is a process from its start to its death.
type process struct {
	world       *world
	number      int // the process that is started in its place has the same
	killed      atomic.Bool
	starting    bool // until start has returned
	pausedUntil time.Time
	orch        *embedded.Engine
	stop        context.CancelFunc
	ended       chan struct{}

	mu    sync.Mutex
	conns []*conn
	pools []*sql.DB
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
}

// awaitDeath waits until the process is dead, or until over is closed, and then
// returns true.
func (p *process) awaitDeath(over <-chan struct{}) (ended bool) {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if p.dead() {
				return false
			}
		case <-over:
			return true
		}
	}
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
func (p *process) start() error {
	here, err := p.open(p.world.log)
	if err != nil {
		return err
	}
	away, err := p.open(p.world.other)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(jitter.With(context.Background(), p.draw))
	p.stop = stop
	orch, err := embedded.Open(ctx, here, p.world.config)
	if err != nil {
		return err
	}
	p.orch = orch
	for _, b := range p.world.branches(p, away) {
		if err := orch.Register(b); err != nil {
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

// shutDown ends the goroutines of a process.
func (p *process) shutDown() {
	p.die()
	if p.stop != nil {
		p.stop()
	}
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
