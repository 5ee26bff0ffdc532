// Package localwork carries the work of a caller, a function, in the context of a transaction
// to the branch that runs it.
package localwork

import (
	"context"

	"gorm.io/gorm"
)

// Work is work in the local transaction tx.
type Work func(ctx context.Context, tx *gorm.DB) error

type key struct{ gid string }

// With returns a context with the work of the transaction gid.
func With(ctx context.Context, gid string, work Work) context.Context {
	return context.WithValue(ctx, key{gid}, work)
}

// Of returns the work of the transaction gid; nil if ctx does not have it.
func Of(ctx context.Context, gid string) Work {
	work, _ := ctx.Value(key{gid}).(Work)
	return work
}
