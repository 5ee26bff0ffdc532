package embedded

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// maxParts is the most parts of time that Activity returns.
const maxParts = 240

// Activity returns what finished in the last n parts of time before until, the oldest part
// first. The parts begin at multiples of step. A zero until is now, by the database's clock. N
// is 1 to 240, and step at least a second. It reads at most 300 transactions of each part, so a
// rate, a share or a duration is an estimate if more finished. A part that ended long enough ago
// is read once, and then kept in memory.
func (v *viewer) Activity(ctx context.Context, until time.Time, step time.Duration, n int) ([]saga.Activity, error) {
	parts, err := v.activity(ctx, until, step, n)
	return parts, txn.Wrap("activity", "", err)
}

func (v *viewer) activity(ctx context.Context, until time.Time, step time.Duration, n int) (parts []saga.Activity, err error) {
	switch {
	case n < 1 || n > maxParts:
		return nil, txn.Invalid("%d parts of time are asked for, it must be 1 to %d", n, maxParts)
	case step < time.Second || step > 24*time.Hour:
		return nil, txn.Invalid("the step is %s, it must be between a second and a day", step)
	case outOfRange(until):
		return nil, txn.Invalid("the time must be in the years 1970 to 9999")
	}
	now, err := v.log.Now(ctx)
	if err != nil {
		return nil, err
	}
	if until.IsZero() {
		until = now
	}
	end := until.UTC().Truncate(step)
	for i := n; i > 0; i-- {
		from := end.Add(-time.Duration(i) * step)
		part, known := v.past.get(from, step)
		if !known {
			sample, more, err := v.log.Sample(ctx, from, from.Add(step))
			if err != nil {
				return nil, fmt.Errorf("of %s: %w", from.Format(time.RFC3339), err)
			}
			part = estimate(from, step, sample, more)
			if now.Sub(from.Add(step)) > settled {
				v.past.put(part)
			}
		}
		parts = append(parts, part)
	}
	return parts, nil
}

// estimate describes a part of time by a sample. More says that the sample may not be all.
func estimate(from time.Time, step time.Duration, sample []txlog.Ended, more bool) saga.Activity {
	a := saga.Activity{From: from, For: step}
	if len(sample) == 0 {
		return a
	}
	span := step
	if more {
		span = max(sample[len(sample)-1].Finished.Sub(from), time.Millisecond)
	}
	all := float64(len(sample))
	a.Rate = all / span.Seconds()
	took := make([]time.Duration, len(sample))
	for i, e := range sample {
		took[i] = e.Finished.Sub(e.Created)
		if e.State == txlog.Cancelled {
			a.Cancelled += 1 / all
		}
		if e.Failures > 0 {
			a.Failed += 1 / all
		}
	}
	slices.Sort(took)
	a.P50, a.P99 = took[(len(took)-1)/2], took[(len(took)-1)*99/100]
	return a
}

// settled is how long after its end a part of time does not change any more: each transaction
// that finished in it is committed.
const settled = time.Minute

// past keeps parts of time that do not change any more, so that a page that refreshes itself
// reads each of them once. The zero value is empty.
type past struct {
	mu    sync.Mutex
	parts map[partKey]saga.Activity
}

type partKey struct {
	from, step int64
}

// maxPast bounds the parts that are kept.
const maxPast = 8 * maxParts

func (p *past) get(from time.Time, step time.Duration) (saga.Activity, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	part, known := p.parts[partKey{from.UnixMicro(), int64(step)}]
	return part, known
}

func (p *past) put(part saga.Activity) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.parts == nil || len(p.parts) >= maxPast {
		p.parts = map[partKey]saga.Activity{}
	}
	p.parts[partKey{part.From.UnixMicro(), int64(part.For)}] = part
}
