package lifetime_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tccsaga/tccsaga/saga/internal/lifetime"
)

type key struct{}

// Detached work keeps the values of its caller, and ends with the lifetime and not with
// the caller.
func TestDetach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		caller, leave := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
		l := lifetime.New(caller, time.Second)
		whole, cancelWhole := l.Detach(caller)
		defer cancelWhole()
		call, cancelCall := l.DetachCall(caller)
		defer cancelCall()
		other, cancelOther := l.Detach(caller)
		leave()
		if whole.Err() != nil || call.Err() != nil || whole.Value(key{}) != "value" {
			t.Errorf("after the caller has gone: %v, %v, value %v", whole.Err(), call.Err(), whole.Value(key{}))
		}
		cancelOther()
		if other.Err() == nil || whole.Err() != nil {
			t.Errorf("after one was cancelled: %v, the other %v", other.Err(), whole.Err())
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if call.Err() != context.DeadlineExceeded || whole.Err() != nil {
			t.Errorf("after the time of a call: %v, without a limit %v", call.Err(), whole.Err())
		}
		l.End()
		synctest.Wait()
		if whole.Err() != context.Canceled || l.Context().Err() == nil {
			t.Errorf("after the end: %v", whole.Err())
		}
	})
}
