package embedded

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// Overview returns the state of the log and its engines at a glance; see [saga.Overview].
func (v *viewer) Overview(ctx context.Context) (*saga.Overview, error) {
	o, err := v.overview(ctx)
	return o, txn.Wrap("overview", "", err)
}

func (v *viewer) overview(ctx context.Context) (o *saga.Overview, err error) {
	o = &saga.Overview{}
	if o.Now, err = v.log.Now(ctx); err != nil {
		return nil, err
	}
	groups, err := v.log.Unfinished(ctx)
	if err != nil {
		return nil, err
	}
	count(o, groups)
	if o.OldestUndecided, err = v.oldest(ctx, txlog.Trying); err != nil {
		return nil, err
	}
	if o.OldestUnfinished, err = v.oldest(ctx, txlog.Confirming, txlog.Cancelling); err != nil {
		return nil, err
	}
	if o.Kinds, err = v.kinds(ctx); err != nil {
		return nil, err
	}
	o.Instances, err = v.instances(ctx)
	return o, err
}

// count counts the groups of unfinished transactions.
func count(o *saga.Overview, groups []txlog.Group) {
	all := 0
	for _, g := range groups {
		all += g.N
		for _, c := range []struct {
			count   *saga.Count
			counted bool
		}{
			{&o.Trying, g.State == txlog.Trying}, {&o.Confirming, g.State == txlog.Confirming}, {&o.Cancelling, g.State == txlog.Cancelling},
			{&o.Attention, g.Attention}, {&o.Paused, g.Paused},
		} {
			if c.counted {
				c.count.N += g.N
			}
		}
	}
	more := all > txlog.Window
	for _, c := range []*saga.Count{&o.Trying, &o.Confirming, &o.Cancelling, &o.Attention, &o.Paused} {
		c.More = more
	}
}

// oldest returns the oldest unfinished transaction in one of the states; nil if there is none.
func (v *viewer) oldest(ctx context.Context, states ...string) (*saga.Summary, error) {
	found, err := v.log.Find(ctx, txlog.Search{States: states, Unfinished: true, OldestFirst: true, Limit: 1})
	if err != nil || len(found.Records) == 0 {
		return nil, err
	}
	oldest := summary(found.Records[0])
	return &oldest, nil
}

// Kinds returns the kinds of branches that are registered in this process, or paused, in the
// order of their names, with the last acts of operators on each.
func (v *viewer) Kinds(ctx context.Context) ([]saga.KindView, error) {
	kinds, err := v.kinds(ctx)
	if err != nil {
		return nil, txn.Wrap("kinds", "", err)
	}
	for i := range kinds {
		acts, _, err := v.log.FindActs(ctx, txlog.ActSearch{Kind: kinds[i].Kind, Limit: 20})
		if err != nil {
			return nil, txn.Wrap("kinds", "", err)
		}
		for _, a := range slices.Backward(acts) {
			kinds[i].Acts = append(kinds[i].Acts, action(a))
		}
	}
	return kinds, nil
}

func (v *viewer) kinds(ctx context.Context) ([]saga.KindView, error) {
	pauses, err := v.log.KindPauses(ctx)
	if err != nil {
		return nil, err
	}
	kinds := []saga.KindView{}
	for _, b := range v.registry.Branches() {
		kinds = append(kinds, v.kind(b))
	}
	for _, p := range pauses {
		i := slices.IndexFunc(kinds, func(k saga.KindView) bool { return k.Kind == p.Kind })
		if i < 0 {
			i = len(kinds)
			kinds = append(kinds, saga.KindView{Kind: p.Kind})
		}
		kinds[i].PausedAt = p.At
	}
	slices.SortFunc(kinds, func(a, b saga.KindView) int {
		switch {
		case a.Kind < b.Kind:
			return -1
		case a.Kind > b.Kind:
			return 1
		}
		return 0
	})
	return kinds, nil
}

// kind returns a registered kind of branch.
func (v *viewer) kind(b *txn.Branch) saga.KindView {
	view := saga.KindView{Kind: b.Kind, Registered: true, Place: "another database"}
	switch {
	case b.Remote != nil && b.Database == nil:
		view.Place = "another service"
	case b.Resident:
		view.Place = "the engine's database"
	}
	if v.running && b.Breaker != nil {
		s := b.Breaker.State()
		view.Circuit = &saga.Circuit{Open: s.Open, Failed: s.Failed, RetryAt: s.RetryAt, Postponed: s.Postponed}
	}
	return view
}

// Instances returns the running engines, and those that ended without resigning in the last
// hour, in the order of their starts; at most 1,000.
func (v *viewer) Instances(ctx context.Context) ([]saga.Instance, error) {
	instances, err := v.instances(ctx)
	return instances, txn.Wrap("instances", "", err)
}

func (v *viewer) instances(ctx context.Context) ([]saga.Instance, error) {
	leases, err := v.log.Instances(ctx)
	if err != nil {
		return nil, err
	}
	instances := make([]saga.Instance, len(leases))
	for i, l := range leases {
		instances[i] = saga.Instance{ID: l.ID, Host: l.Host, PID: l.PID, StartedAt: l.Started, LeaseUntil: l.Until, Alive: l.Held,
			This: v.running && l.ID == v.calls.Instance()}
	}
	return instances, nil
}

// maxParts is the most parts of time that Activity returns.
const maxParts = 240

// Activity returns what finished in the last n parts of time before until, the oldest part
// first. The parts begin at multiples of step. A zero until is now, by the database's clock. N
// is 1 to 240, and step at least a second. It reads at most 300 transactions of each part, so a
// rate, a share or a duration is an estimate if more finished.
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
	case until.IsZero():
		if until, err = v.log.Now(ctx); err != nil {
			return nil, err
		}
	}
	end := until.UTC().Truncate(step)
	for i := n; i > 0; i-- {
		from := end.Add(-time.Duration(i) * step)
		sample, more, err := v.log.Sample(ctx, from, from.Add(step))
		if err != nil {
			return nil, fmt.Errorf("of %s: %w", from.Format(time.RFC3339), err)
		}
		parts = append(parts, estimate(from, step, sample, more))
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
