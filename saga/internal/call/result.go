package call

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/result"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
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

// withOwnResult adds the result of its own branch to the Cancel of an action, if the caller does
// not know it: the outcome of the Try was not known, or the process died before the log had
// the result.
func withOwnResult(ctx context.Context, tx *gorm.DB, b *txn.Branch, call saga.Call) (saga.Call, error) {
	if !b.Action || call.Op != barrier.Cancel || call.Results[call.BranchID] != nil {
		return call, nil
	}
	own, err := result.OfBranch(ctx, tx, call.Key())
	if err != nil || own == nil {
		return call, err
	}
	call.Results = maps.Clone(call.Results)
	if call.Results == nil {
		call.Results = make(map[string]json.RawMessage, 1)
	}
	call.Results[call.BranchID] = own
	return call, nil
}

// recallResult sets the result that an earlier call of the branch has stored.
func recallResult(ctx context.Context, tx *gorm.DB, call saga.Call) error {
	if call.Result == nil {
		return nil
	}
	stored, err := result.OfBranch(ctx, tx, call.Key())
	if err != nil {
		return err // the local transaction may run again, and then needs the result of this call
	}
	*call.Result = stored
	return nil
}
