package recovery

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// claim takes over due transactions, as far as there are free slots, and begins to drive
// them. It reports whether there may be more.
func (r *Recovery) claim(ctx context.Context, slots chan struct{}, sweep *sweep) (more bool) {
	limit := min(claimBatch, cap(slots)-len(slots))
	room := int64(2*r.MaxBytes) - r.driving.Load()
	if limit == 0 || room <= 0 {
		return false // the end of a driven transaction asks for the next claim
	}
	// With a limit, because a connection may never answer.
	ctx, cancel := context.WithTimeout(ctx, r.Lease)
	defer cancel()
	claims, err := r.Log.Claim(ctx, txlog.Claim{Instance: r.Instance, From: sweep.from(), Page: min(claimPage, 2*limit+minPage), Limit: limit,
		Bytes: int(room), Due: r.Lease, Busy: r.InFlight.Busy, Knows: r.Builder.Registry.Knows,
		Waiting: txlog.Waiting{Due: r.AttentionAge, Attention: whyWaiting}})
	if err != nil {
		r.Warn.Warn(ctx, "saga: claiming due transactions failed", err)
		return false
	}
	sweep.pass(claims)
	r.raiseForeign(ctx, claims.Foreign)
	for _, gid := range claims.Waiting {
		r.Alarm(&txn.Txn{GID: gid, Attention: whyWaiting})
	}
	r.Observe.TakenOver(ctx, r.takenOver(claims.Claimed))
	for _, claimed := range claims.Claimed {
		entry := r.InFlight.TakeOver(claimed.GID)
		if entry == nil {
			return false // the engine stops; they become due again
		}
		slots <- struct{}{}
		bytes := claimed.Bytes()
		r.driving.Add(bytes)
		go func() {
			defer r.free(slots, bytes)
			driving, cancel := r.Life.Detach(r.Observe.Extract(ctx, claimed.Trace))
			defer cancel()
			r.decideAndDrive(driving, claimed.Record, r.Builder.Load(claimed), entry)
		}()
	}
	return claims.More
}

// takenOver returns how many of the claimed transactions other instances have driven before.
func (r *Recovery) takenOver(claimed []txlog.Claimed) (n int) {
	for _, one := range claimed {
		if one.Owner != "" && one.Owner != r.Instance {
			n++
		}
	}
	return n
}

// free frees the slot and the bytes of a transaction. If there were none left, it asks for
// the next claim.
func (r *Recovery) free(slots chan struct{}, bytes int64) {
	<-slots
	full := r.driving.Add(-bytes)+bytes >= int64(2*r.MaxBytes)
	if full || len(slots) == cap(slots)-1 {
		r.wake.After(slotDelay)
	}
}

// whyWaiting is why a prepared nested transaction is raised to attention. Lookup shows the
// parent.
const whyWaiting = "prepared: its parent has not decided for a long time: look at the transaction of the parent"

// mostForeign is how many transactions a claim raises to attention.
const mostForeign = 10

// raiseForeign raises foreign transactions to attention that have waited too long for an
// instance that knows their kinds of branches.
func (r *Recovery) raiseForeign(ctx context.Context, foreign []txlog.Foreign) {
	raised := 0
	for _, f := range foreign {
		if f.Attention || f.Overdue < r.AttentionAge {
			continue
		}
		if raised++; raised > mostForeign {
			return
		}
		why := fmt.Sprintf("kind: no instance that runs knows the kind of branch %s: register it, or an alias for it", f.Kind)
		done, err := r.Log.Unclaimed(ctx, f.GID, why)
		if err != nil {
			r.Warn.Warn(ctx, "saga: raising a transaction to attention failed", err, slog.String("gid", f.GID), slog.String("kind", f.Kind))
			return
		}
		if done {
			r.Alarm(&txn.Txn{GID: f.GID, Attention: why})
		}
	}
}
