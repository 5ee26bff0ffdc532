package saga

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/local"
)

// share runs work for a number of callers, whose steps are of the same kinds, in
// one local transaction. It gives up when one of them may keep the others
// waiting, by a lock that somebody else holds or by slow calls; those kinds of
// branches then go alone for a while.
func (o *Orchestrator) share(ctx context.Context, callers int, steps []*step, work func(tx *gorm.DB) error) error {
	if callers == 1 {
		return local.Run(ctx, o.db, work)
	}
	err := o.shared.Run(ctx, work)
	stalled := errors.Is(err, local.ErrLockWait) || errors.Is(err, errSlow) || err != nil && ctx.Err() != nil
	for _, s := range steps {
		switch {
		case stalled:
			s.branch.pace.stall()
		case err == nil:
			s.branch.pace.flow()
		}
	}
	return err
}

const (
	// quickCall is how long the calls of a branch may take on average if they
	// are made one after the other for callers who wait for all of them.
	quickCall = 3 * time.Millisecond

	// slowStart is what they may take in addition, however few they are: the
	// first one waits until others have gone who want the same row.
	slowStart = 500 * time.Millisecond
)

var errSlow = errors.New("the calls of the branch are too slow for a shared commit")

// singleFailure is the failure of one of several calls, after which the others
// were not made.
type singleFailure struct {
	index int
	err   error
}

func (f *singleFailure) Error() string { return f.err.Error() }
func (f *singleFailure) Unwrap() error { return f.err }

// jointly makes calls of the same operation of a branch: together, if it can do
// that, and else one after the other. The failures are in the order of the
// calls, and nil if there is none.
func (o *Orchestrator) jointly(ctx context.Context, tx *gorm.DB, b *branch, calls []JointCall) (failures []error, err error) {
	if b.Together != nil && len(calls) > 1 {
		return o.together(ctx, tx, b, calls)
	}
	began := time.Now()
	for i, c := range calls {
		if err := o.inside(c.Context, tx, b, c.Call); err != nil {
			return nil, &singleFailure{i, err}
		}
		if len(calls) > 1 && time.Since(began) > slowStart+time.Duration(i+1)*quickCall {
			return nil, errSlow
		}
	}
	return nil, nil
}

// together calls the Together part of a branch, bounded in time.
func (o *Orchestrator) together(ctx context.Context, tx *gorm.DB, b *branch, calls []JointCall) (failures []error, err error) {
	err = o.bounded(ctx, calls[0].Call, func(ctx context.Context) (err error) {
		failures, err = b.Together(ctx, tx.WithContext(ctx), calls[0].Op, calls)
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case failures != nil && len(failures) != len(calls):
		return nil, fmt.Errorf("%s: %d calls were made together, and %d results came back", b.Kind, len(calls), len(failures))
	case errors.Join(failures...) == nil:
		return nil, nil
	}
	return failures, nil
}
