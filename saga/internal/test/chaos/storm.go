package chaos

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

// storm brings one fault after the other; those that last overlap.
type storm struct {
	rng     *rand.Rand
	workers []*worker
	mariadb *mariadb
	broker  *broker
	gateway *gateway
	direct  *sql.DB // to home, past the proxies

	lasting sync.WaitGroup

	mu       sync.Mutex
	counts   map[string]int // by fault
	journal  []incident
	deaths   []death
	failures []error
}

// death is a moment at which something was killed that transactions need.
type death struct {
	of  string
	at  time.Time
	hit []string // gids that the dead worker was driving; nil for a server, which hits all that are under way
}

// run brings faults until ctx ends, waits for the end of those that last, and
// heals everything.
func (s *storm) run(ctx context.Context) {
	defer s.calm()
	for {
		for _, f := range s.shuffled() {
			if !wait(ctx, 50*time.Millisecond+time.Duration(s.rng.Int64N(int64(900*time.Millisecond)))) {
				return
			}
			worker := s.workers[s.rng.IntN(len(s.workers))]
			f.do(strike{s, f, worker, rand.New(rand.NewPCG(s.rng.Uint64(), s.rng.Uint64()))})
		}
	}
}

// shuffled is a deck of faults: each turns up as often as it should, and none
// is missing from a short run.
func (s *storm) shuffled() (deck []fault) {
	for _, f := range faults {
		for range f.times {
			deck = append(deck, f)
		}
	}
	s.rng.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
	return deck
}

func (s *storm) calm() {
	s.lasting.Wait()
	s.gateway.calm()
	for _, w := range s.workers {
		w.database.heal()
		w.nats.heal()
	}
}

// incident is a fault that has happened.
type incident struct {
	at   time.Time
	what string
}

func (s *storm) note(f fault, where string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[f.name]++
	s.journal = append(s.journal, incident{time.Now(), f.name + where})
}

// between are the faults that may have had to do with what happened then: also
// those from a while before, because some of them last.
func (s *storm) between(from, to time.Time) (lines []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range s.journal {
		if i.at.After(from.Add(-5*time.Second)) && i.at.Before(to.Add(time.Second)) {
			lines = append(lines, stamp(i.at)+" "+i.what)
		}
	}
	return lines
}

func (s *storm) died(d death) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deaths = append(s.deaths, d)
}

// tell notes what went wrong with a fault itself.
func (s *storm) tell(err error) {
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.failures = append(s.failures, err)
	}
}

// err is what went wrong that no fault explains.
func (s *storm) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	errs := append([]error{s.mariadb.failure(), s.broker.failure()}, s.failures...)
	for _, w := range s.workers {
		errs = append(errs, w.failure())
	}
	return errors.Join(errs...)
}

// bury notes what a dead instance has left unfinished, and when; if the
// database is down as well, nothing.
func (s *storm) bury(instance string) {
	ctx, cancel := context.WithTimeout(context.Background(), lease/2)
	defer cancel()
	rows, err := s.direct.QueryContext(ctx, "SELECT UTC_TIMESTAMP(6), gid FROM saga_transactions WHERE owner = ? AND due_at IS NOT NULL", instance)
	if err != nil {
		return
	}
	defer rows.Close()
	d := death{of: "a worker"}
	for rows.Next() {
		var gid string
		if rows.Scan(&d.at, &gid) != nil {
			return
		}
		d.hit = append(d.hit, gid)
	}
	if rows.Err() == nil && len(d.hit) > 0 {
		s.died(d)
	}
}
