package embedded

import (
	"context"
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
	if o.OldestUndecided, err = v.oldest(ctx, groups, txlog.Trying); err != nil {
		return nil, err
	}
	if o.OldestUnfinished, err = v.oldest(ctx, groups, txlog.Confirming, txlog.Cancelling); err != nil {
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

// oldest returns the oldest transaction in one of the states among those that were grouped; nil
// if there is none.
func (v *viewer) oldest(ctx context.Context, groups []txlog.Group, states ...string) (*saga.Summary, error) {
	var began time.Time
	for _, g := range groups {
		if slices.Contains(states, g.State) && (began.IsZero() || g.Oldest.Before(began)) {
			began = g.Oldest
		}
	}
	if began.IsZero() {
		return nil, nil
	}
	found, err := v.log.Find(ctx, txlog.Search{States: states, Unfinished: true, OldestFirst: true, Limit: 1,
		CreatedAfter: began.Add(-time.Millisecond), CreatedBefore: began.Add(time.Millisecond)}) // SQLite has milliseconds
	if err != nil || len(found.Records) == 0 {
		return nil, err // it is finished meanwhile
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
