package call

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// ErrClean is wrapped by the error of a branch whose Clean failed.
var ErrClean = errors.New("the branch failed to clean")

// errCleaning says that an earlier Clean was abandoned and has not returned.
var errCleaning = errors.New("an earlier Clean has not returned")

// opClean names a Clean in errors.
const opClean barrier.Op = "clean"

// Clean calls the Clean of a kind of branch, bounded in time. It is not called while an
// abandoned one has not returned.
func (c *Caller) Clean(ctx context.Context, tx *gorm.DB, b *txn.Branch, gids []string) error {
	if b.Clean == nil {
		return nil
	}
	if !b.Cleaning.CompareAndSwap(false, true) {
		return fmt.Errorf("%w: %s: %w", ErrClean, b.Kind, errCleaning)
	}
	gids = slices.Clone(gids)
	err := c.bounded(ctx, saga.Call{Kind: b.Kind, Op: opClean}, func(ctx context.Context) error {
		return b.Clean(ctx, local.UserHandle(ctx, b.Database, tx), gids)
	}, func() { b.Cleaning.Store(false) })
	if !errors.Is(err, errAbandoned) {
		b.Cleaning.Store(false)
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrClean, b.Kind, err)
	}
	return nil
}
