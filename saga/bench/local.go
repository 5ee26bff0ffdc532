package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// posting is a comparison of ways to commit an order of the user and a message together. A
// run is over when the callers have committed and the broker has acknowledged every message.
type posting struct {
	Name       string
	Database   string
	Contenders []string
	Callers    []int
}

// poster commits an order with its message. Place returns when both are durable; the message
// may be published later.
type poster interface {
	Place(ctx context.Context, order Order) error
	Close() error
}

// posters makes the contenders. Each calls seen with the id of an order when the broker has
// acknowledged its message.
var posters = map[string]func(ctx context.Context, db *Database, seen func(id string)) (poster, error){
	"publishin": newPublishIn,
	"tccsaga":   newEnlisted,
	"outbox":    newOutbox,
	"river":     newRiver,
	"dtm msg":   newDTMMsg,
	"half":      newHalfMessage,
}

func (s *Suite) posting() []posting {
	callers := []int{1, 16, 64}
	if s.Short {
		callers = []int{64}
	}
	return []posting{
		{"local", "mysql", []string{"outbox", "publishin", "tccsaga"}, callers},
		{"local", "postgres", []string{"outbox", "river", "publishin", "tccsaga"}, callers},
		// The local transaction is in a database that is not the coordinator's.
		{"half-message", "mysql", []string{"dtm msg", "half"}, callers},
	}
}

// messages is how many a run commits, the same for every contender.
func (s *Suite) messages(callers int) int {
	n := map[int]int{1: 1_000, 16: 8_000, 64: 16_000}[callers]
	if s.Short {
		n /= 8
	}
	return n
}

// postings measures each way once.
func (s *Suite) postings(ctx context.Context) error {
	for _, e := range s.posting() {
		if !s.wanted(e.Name, e.Database) {
			continue
		}
		for _, callers := range e.Callers {
			for _, contender := range e.Contenders {
				if !s.wantedCase(contender, callers) {
					continue
				}
				f, err := post(ctx, e.Database, contender, callers, s.messages(callers))
				if err != nil {
					return fmt.Errorf("%s on %s, %s, %d callers: %w", e.Name, e.Database, contender, callers, err)
				}
				k := Key{e.Name, e.Database, contender, callers}
				s.runs[k] = append(s.runs[k], f)
				if !s.Short {
					fmt.Fprintf(os.Stderr, "%-12s %-9s %-9s %4d callers %7.0f/s  p50 %8s  p99 %8s  published p50 %8s  p99 %8s  %5.2f statements\n", e.Name, e.Database, contender, callers, f.PerSecond,
						f.P50.Round(10*time.Microsecond), f.P99.Round(10*time.Microsecond), f.LagP50.Round(10*time.Microsecond), f.LagP99.Round(10*time.Microsecond), f.Statements)
				}
			}
		}
	}
	return nil
}

// post runs one contender.
func post(ctx context.Context, database, contender string, callers, messages int) (Figures, error) {
	db, err := openDatabase(ctx, database)
	if err != nil {
		return Figures{}, err
	}
	if err := db.Exec("CREATE TABLE bench_orders (id VARCHAR(64) NOT NULL PRIMARY KEY, sku VARCHAR(64) NOT NULL, quantity INT NOT NULL)").Error; err != nil {
		return Figures{}, err
	}
	var current atomic.Pointer[delivery]
	p, err := posters[contender](ctx, db, func(id string) {
		if d := current.Load(); d != nil {
			d.seen(id)
		}
	})
	if err != nil {
		return Figures{}, err
	}
	f, err := func() (Figures, error) {
		// Let connections come up, and caches fill.
		warm := newDelivery("warm", messages/8)
		current.Store(warm)
		if err := warm.run(ctx, p, callers); err != nil {
			return Figures{}, err
		}
		d := newDelivery("m", messages)
		current.Store(d)
		return d.measure(ctx, p, db, callers)
	}()
	return f, errors.Join(err, p.Close())
}

// delivery is a number of orders, each with when it was committed and published.
type delivery struct {
	name                string
	took                []time.Duration // of the local transaction
	committed           []time.Time
	published           []atomic.Int64 // in Unix nanoseconds; 0 is not yet
	next, left, givenUp atomic.Int64
	all                 chan struct{} // closed when every message is published
}

func newDelivery(name string, n int) *delivery {
	d := &delivery{name: name, took: make([]time.Duration, n), committed: make([]time.Time, n), published: make([]atomic.Int64, n), all: make(chan struct{})}
	d.left.Store(int64(n))
	return d
}

// seen notes that the message of an order is published. Later copies do not count.
func (d *delivery) seen(id string) {
	number, ours := strings.CutPrefix(id, d.name+"-")
	i, err := strconv.Atoi(number)
	if !ours || err != nil {
		return
	}
	if d.published[i].CompareAndSwap(0, time.Now().UnixNano()) && d.left.Add(-1) == 0 {
		close(d.all)
	}
}

// run lets callers place all orders, and waits until every message is published.
func (d *delivery) run(ctx context.Context, p poster, callers int) error {
	failures := make(chan error, callers)
	var placing sync.WaitGroup
	for range callers {
		placing.Go(func() {
			for i := d.next.Add(1) - 1; int(i) < len(d.took); i = d.next.Add(1) - 1 {
				began := time.Now()
				id := fmt.Sprintf("%s-%d", d.name, i)
				err := p.Place(ctx, Order{ID: id, SKU: spread(i)})
				d.committed[i] = time.Now()
				d.took[i] = d.committed[i].Sub(began)
				if errors.As(err, new(failed)) {
					d.givenUp.Add(1)
					d.seen(id)
				} else if err != nil {
					failures <- err
					return
				}
			}
		})
	}
	placing.Wait()
	select {
	case err := <-failures:
		return err
	default:
	}
	select {
	case <-d.all:
		return nil
	case <-time.After(5 * time.Minute):
		return fmt.Errorf("%d messages were not published", d.left.Load())
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *delivery) measure(ctx context.Context, p poster, db *Database, callers int) (Figures, error) {
	before, err := db.counters()
	if err != nil {
		return Figures{}, err
	}
	cpu, allocs, began := clientCPU(), allocations(), time.Now()
	if err := d.run(ctx, p, callers); err != nil {
		return Figures{}, err
	}
	elapsed := time.Since(began)
	cpu, allocs = clientCPU()-cpu, allocations()-allocs
	after, err := db.counters()
	if err != nil {
		return Figures{}, err
	}
	n := len(d.took)
	lag := make([]time.Duration, n)
	for i := range lag {
		lag[i] = max(0, time.Duration(d.published[i].Load()-d.committed[i].UnixNano()))
	}
	slices.Sort(d.took)
	slices.Sort(lag)
	return Figures{
		PerSecond: float64(int64(n)-d.givenUp.Load()) / elapsed.Seconds(),
		P50:       d.took[n/2], P99: d.took[n*99/100], LagP50: lag[n/2], LagP99: lag[n*99/100],
		Commits: float64(after.Commits-before.Commits) / float64(n), Statements: float64(after.Statements-before.Statements) / float64(n),
		ServerCPU: (after.CPU - before.CPU) / time.Duration(n), ClientCPU: cpu / time.Duration(n), Allocs: float64(allocs) / float64(n), Failed: float64(d.givenUp.Load()) / float64(n),
	}, nil
}
