package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// killHost lets clients order, kills the host while batches of calls are under way there, waits
// until all transactions have ended, and checks the rules; and does it again, as often as the
// configuration says. It returns the last report, or the first one with a broken rule.
func (r *run) killHost(ctx context.Context) (*Report, error) {
	report := &Report{seed: r.config.Seed, faults: r.nemesis.counts}
	began := time.Now()
	for n := range r.config.HostKills {
		before := r.batches.Load()
		rng := rand.New(rand.NewPCG(r.config.Seed, 1000+uint64(n)))
		r.order(ctx, fmt.Sprintf("r%dc", n), func() {
			load := func() { wait(ctx, 200*time.Millisecond+time.Duration(rng.Int64N(int64(600*time.Millisecond)))) }
			load()
			i := injection{&r.nemesis, hostKilled, r.host, rng}
			if n%2 == 1 {
				i.fault = hostKilledAtCommit
				i.killAtCommit()
			} else {
				i.killWorker()
			}
			r.nemesis.ongoing.Wait()
			load()
		})
		if err := r.nemesis.err(); err != nil {
			return nil, fmt.Errorf("chaos: kill %d of the host: %w", n+1, err)
		}
		idle := r.awaitIdle(ctx)
		if idle != nil {
			idle = fmt.Errorf("chaos: after kill %d of the host: %w", n+1, idle)
		} else if r.batches.Load() == before {
			return nil, fmt.Errorf("chaos: no calls travelled together around kill %d of the host", n+1)
		}
		report.took, report.starts, report.batches = time.Since(began), r.host.starts, r.batches.Load()
		if err := r.check(ctx, report); err != nil {
			return nil, errors.Join(idle, err)
		}
		if idle != nil || !report.OK() {
			return report, idle
		}
	}
	return report, nil
}
