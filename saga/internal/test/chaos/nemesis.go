package chaos

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// nemesis injects one fault after the other; those that last overlap.
type nemesis struct {
	rng      *rand.Rand
	workers  []*worker
	host     *worker
	mariadb  *mariadb
	broker   *broker
	gateway  *gateway
	engineDB *sql.DB // past the proxies

	ongoing sync.WaitGroup // faults that last

	mu       sync.Mutex
	counts   map[fault]int
	injected []injected
	crashes  []crash
	failures []error
}

// injected is a fault that has come.
type injected struct {
	at     time.Time
	fault  fault
	worker string // empty if it is at all workers
}

// component is a part of the run that can crash.
type component int

const (
	workerComponent component = iota
	mariaDBComponent
	natsComponent
)

func (c component) String() string { return [...]string{"a worker", "MariaDB", "NATS"}[c] }

// crash is a moment at which something was killed that transactions need.
type crash struct {
	component component
	at        time.Time
	driven    []string // gids that the worker was driving; nil for a server, which all transactions need
}

// run injects faults until ctx ends, waits for the end of those that last, and then
// takes all of them back.
func (n *nemesis) run(ctx context.Context) {
	defer n.heal()
	for {
		for _, at := range n.round() {
			if !wait(ctx, 50*time.Millisecond+time.Duration(n.rng.Int64N(int64(900*time.Millisecond)))) {
				return
			}
			worker := n.workers[n.rng.IntN(len(n.workers))]
			f := faults[at]
			f.inject(injection{n, f.fault, worker, rand.New(rand.NewPCG(n.rng.Uint64(), n.rng.Uint64()))})
		}
	}
}

// round is a shuffled round of faults, as indices of faults. Each fault is in it as
// often as it should be, so that none is missing from a short run.
func (n *nemesis) round() (round []int) {
	for at, f := range faults {
		for range f.times {
			round = append(round, at)
		}
	}
	n.rng.Shuffle(len(round), func(i, j int) { round[i], round[j] = round[j], round[i] })
	return round
}

// heal ends all faults.
func (n *nemesis) heal() {
	n.ongoing.Wait()
	n.gateway.heal()
	for _, w := range append(slices.Clone(n.workers), n.host) {
		for _, p := range w.proxies() {
			p.heal()
		}
	}
}

// note notes that a fault has come.
func (n *nemesis) note(f fault, worker string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.counts[f]++
	n.injected = append(n.injected, injected{time.Now(), f, worker})
}

// between returns the faults that may have affected what happened between two
// moments, as lines: also those from shortly before, because some of them last.
func (n *nemesis) between(from, to time.Time) (lines []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, i := range n.injected {
		if i.at.After(from.Add(-5*time.Second)) && i.at.Before(to.Add(time.Second)) {
			line := clockTime(i.at) + " " + i.fault.String()
			if i.worker != "" {
				line += " at " + i.worker
			}
			lines = append(lines, line)
		}
	}
	return lines
}

func (n *nemesis) crashed(c crash) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.crashes = append(n.crashes, c)
}

// failed notes that a fault could not be injected or taken back.
func (n *nemesis) failed(err error) {
	if err != nil {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.failures = append(n.failures, err)
	}
}

// err returns the failures that no fault explains.
func (n *nemesis) err() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	errs := append([]error{n.host.failure(), n.mariadb.failure(), n.broker.failure()}, n.failures...)
	for _, w := range n.workers {
		errs = append(errs, w.failure())
	}
	return errors.Join(errs...)
}

// noteCrash notes the transactions that a killed worker was driving. It notes
// nothing if MariaDB does not answer.
func (n *nemesis) noteCrash(instance string) {
	if instance == "" { // the host drives nothing
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), lease/2)
	defer cancel()
	rows, err := n.engineDB.QueryContext(ctx, "SELECT UTC_TIMESTAMP(6), gid FROM saga_transactions WHERE owner = ? AND due_at IS NOT NULL", instance)
	if err != nil {
		return
	}
	defer rows.Close()
	c := crash{component: workerComponent}
	for rows.Next() {
		var gid string
		if rows.Scan(&c.at, &gid) != nil {
			return
		}
		c.driven = append(c.driven, gid)
	}
	if rows.Err() == nil && len(c.driven) > 0 {
		n.crashed(c)
	}
}
