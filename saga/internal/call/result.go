package call

import (
	"context"
	"encoding/json"
	"fmt"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/result"
)

// CheckResult returns an error if a branch has set a result that cannot be kept. A nil result
// is none.
func CheckResult(r json.RawMessage) error {
	switch {
	case r == nil:
		return nil
	case len(r) > saga.MaxResult:
		return fmt.Errorf("the result has %d bytes, %d are allowed", len(r), saga.MaxResult)
	case !json.Valid(r):
		return fmt.Errorf("the result is not JSON: %.80q", []byte(r))
	}
	return nil
}

// keepResult stores the result that a call has set, in the local transaction of the call.
func keepResult(ctx context.Context, tx *gorm.DB, call saga.Call) error {
	if call.Result == nil || *call.Result == nil {
		return nil
	}
	if err := CheckResult(*call.Result); err != nil {
		return err
	}
	return result.Put(ctx, tx, result.Result{Key: call.Key(), JSON: *call.Result})
}

// recallResult sets the result that an earlier call of the branch has stored.
func recallResult(ctx context.Context, tx *gorm.DB, call saga.Call) (err error) {
	if call.Result == nil {
		return nil
	}
	*call.Result, err = result.OfBranch(ctx, tx, call.Key())
	return err
}
