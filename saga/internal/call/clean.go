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

// ErrClean is of a branch whose own Clean failed.
var ErrClean = errors.New("the branch failed to clean")

// errCleaning says that a Clean is still at work that was given up.
var errCleaning = errors.New("its Clean of before has not returned")

// opClean names a Clean in errors.
const opClean barrier.Op = "clean"

// Clean calls the Clean of a kind of branch, bounded in time. While one that was
// given up has not returned, it is not called again.
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
