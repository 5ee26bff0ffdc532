package embedded_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// An engine of one pattern acts on no other, and does not wait for what it has
// decided.
func TestWithin(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		ctx := t.Context()
		orch := sagatest.Open(t, db, embedded.Config{})
		release := make(chan struct{})
		free := sync.OnceFunc(func() { close(release) })
		ours, theirs := orch.Within("ours"), orch.Within("theirs")
		sagatest.Must(t, register(ours, spec{Kind: "slow", Encode: func(any) ([]byte, error) { return []byte("{}"), nil }, Remote: remote(func(call saga.Call) error {
			if call.Op != barrier.Try {
				<-release
			}
			return nil
		})}))
		t.Cleanup(func() { free(); sagatest.Must(t, orch.Stop(context.WithoutCancel(ctx))) })
		step := saga.Step{Kind: "slow"}
		for _, gid := range []string{"confirm", "cancel"} {
			sagatest.Must(t, ours.Begin(ctx, saga.Opening{GID: gid}))
			sagatest.Must(t, ours.Begin(ctx, saga.Opening{GID: gid, Pattern: "ours"}))
			sagatest.Must(t, ours.Try(ctx, gid, "01", step))
			for what, err := range map[string]error{
				"try again":      theirs.Try(ctx, gid, "01", step),
				"another branch": theirs.Try(ctx, gid, "02", step),
				"confirm":        second(theirs.Confirm(ctx, gid, saga.Options{})),
				"cancel":         second(theirs.Cancel(ctx, gid, "")),
				"lookup":         second(theirs.Lookup(ctx, gid)),
				"no gid":         second(ours.Confirm(ctx, "nobody", saga.Options{})),
				"no gid to try":  ours.Try(ctx, "nobody", "01", step),
			} {
				if !errors.Is(err, saga.ErrNotFound) {
					t.Errorf("%s: %v", what, err)
				}
			}
			for what, err := range map[string]error{
				"begin":   theirs.Begin(ctx, saga.Opening{GID: gid}),
				"execute": second(theirs.Execute(ctx, saga.Plan{GID: gid, Steps: []saga.Step{step}})),
			} {
				if !errors.Is(err, saga.ErrMismatch) {
					t.Errorf("%s: %v", what, err)
				}
			}
		}
		for what, err := range map[string]error{
			"begin":   theirs.Begin(ctx, saga.Opening{GID: "new", Pattern: "ours"}),
			"execute": second(theirs.Execute(ctx, saga.Plan{GID: "new", Pattern: "ours", Steps: []saga.Step{step}})),
		} {
			if !errors.Is(err, saga.ErrInvalid) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if outcome, err := ours.Confirm(ctx, "confirm", saga.Options{}); err != nil || outcome.State != saga.Confirming {
			t.Errorf("%+v, %v", outcome, err)
		}
		if outcome, err := ours.Cancel(ctx, "cancel", ""); err != nil || outcome.State != saga.Cancelling {
			t.Errorf("%+v, %v", outcome, err)
		}
		if err := theirs.Try(ctx, "confirm", "02", step); !errors.Is(err, saga.ErrNotFound) {
			t.Errorf("after the decision: %v", err)
		}
		if found, err := ours.Lookup(ctx, "confirm"); err != nil || found.State != saga.Confirming || len(found.Branches) != 1 {
			t.Errorf("%+v, %v", found, err)
		}
	})
}
