package txlog_test

import (
	"context"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/txlog"
)

// A driver marks steps as tried while the transaction is undecided and driven under its epoch,
// and learns whether an operator has paused it.
func TestTriedStage(t *testing.T) {
	each(t, func(b bench) {
		mark := func(gid string, epoch int64) (paused bool, err error) {
			err = b.run(func(ctx context.Context, tx *gorm.DB) error {
				paused, err = b.log.TriedStage(ctx, tx, gid, epoch, "01")
				return err
			})
			return paused, err
		}
		for _, gid := range []string{"plain", "paused", "decided"} {
			b.want("insert", b.insert(txlog.Start{GID: gid, Pattern: "saga", Digest: "d", State: txlog.Trying, Owner: "i", TryAttempts: -1,
				Deadline: time.Hour, Due: time.Hour, Branches: []txlog.Branch{{ID: "01", Kind: "k", Payload: "{}", Stage: 1, Role: txlog.RoleAction}}}), nil)
		}
		b.want("pause", b.db.Exec("UPDATE saga_transactions SET paused_at = created_at WHERE gid = 'paused'").Error, nil)
		b.want("decide", b.decide("decided", 1, txlog.Cancelling), nil)
		for _, c := range []struct {
			gid    string
			epoch  int64
			paused bool
			want   error
		}{
			{"plain", 2, false, txlog.ErrStale}, {"plain", 1, false, nil}, {"paused", 1, true, nil}, {"decided", 1, false, txlog.ErrStale}, {"none", 1, false, txlog.ErrStale},
		} {
			paused, err := mark(c.gid, c.epoch)
			b.want(c.gid, err, c.want)
			branches, readErr := b.branches(c.gid)
			b.want("read", readErr, nil)
			if tried := len(branches[c.gid]) == 1 && branches[c.gid][0].Tried; paused != c.paused || tried != (c.want == nil) {
				b.Errorf("%s, epoch %d: paused %t, tried %t", c.gid, c.epoch, paused, tried)
			}
		}
	})
}
