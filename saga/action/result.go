package action

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/tcc"
)

// ErrNoResult is wrapped by the error of [ResultOf] if the step has no result.
var ErrNoResult = errors.New("there is no result")

// ResultOf returns the result of a step of the same saga. Ctx is the context that a method of
// an action or of a TCC branch got, in any service. The branch id is that of the step: "01" for
// the first step of the plan; see [saga.BranchID]. R need not be the type that the action has
// returned. It has to fit the JSON, and fields that it does not have are ignored.
//
// A call gets the results of the steps whose Do has ended before the call began. The error
// wraps [ErrNoResult] if the step has none: it is not before this one, it is in the same
// parallel group, its outcome is unknown, or its result is [None].
func ResultOf[R any](ctx context.Context, branchID string) (result R, err error) {
	call := tcc.CallOf(ctx)
	if call.GID == "" {
		return result, fmt.Errorf("action: the result of branch %s: the context is not the one of a call: %w", branchID, saga.ErrInvalid)
	}
	results, err := resultsOf[R]()
	if err == nil {
		var found *R
		if found, err = results.of(call, branchID); err == nil && found == nil {
			err = ErrNoResult
		}
		if err == nil {
			return *found, nil
		}
	}
	return result, fmt.Errorf("action: the result of branch %s for %s of %s, %s: %w", branchID, call.Op, call.Key(), call.Kind, err)
}

// results turns results of the type R into JSON and back.
type results[R any] struct {
	codec tcc.Codec[R]
	none  bool // R is None
}

func resultsOf[R any]() (results[R], error) {
	codec, err := tcc.CodecOf[R]()
	if err != nil {
		err = fmt.Errorf("the result %w", err)
	}
	return results[R]{codec, reflect.TypeFor[R]() == reflect.TypeFor[None]()}, err
}

// of returns the result of a branch that a call has; nil if it has none.
func (r results[R]) of(call saga.Call, branchID string) (*R, error) {
	text, found := call.Results[branchID]
	if !found {
		return nil, nil
	}
	result, err := r.codec.Decode(text)
	if err != nil {
		return nil, fmt.Errorf("the stored result does not fit the type %T: %w", result, err)
	}
	return &result, nil
}

// own returns the result of the branch that a call compensates.
func (r results[R]) own(call saga.Call) (*R, error) {
	if r.none {
		return nil, nil
	}
	return r.of(call, call.BranchID)
}

// set sets the result of a call.
func (r results[R]) set(call saga.Call, result R) error {
	if r.none || call.Result == nil {
		return nil
	}
	text, err := r.codec.Encode(result)
	if err != nil {
		return fmt.Errorf("the result: %w", err)
	}
	*call.Result = json.RawMessage(text)
	return nil
}
