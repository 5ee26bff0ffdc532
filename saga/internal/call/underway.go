package call

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
)

// UnderWay are the calls that this process makes at this moment outside of the
// log's local transactions.
type UnderWay struct {
	last atomic.Int64

	mu    sync.Mutex
	calls map[barrier.Key]saga.CallUnderWay
}

// number returns another number each time.
func (u *UnderWay) number() int64 { return u.last.Add(1) }

// Begin notes a call, until end is called.
func (u *UnderWay) Begin(call saga.Call) (end func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.calls == nil {
		u.calls = make(map[barrier.Key]saga.CallUnderWay)
	}
	u.calls[call.Key()] = saga.CallUnderWay{Op: call.Op, Since: time.Now()}
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		delete(u.calls, call.Key())
	}
}

// Of returns the call of a branch that is under way.
func (u *UnderWay) Of(key barrier.Key) (saga.CallUnderWay, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	call, known := u.calls[key]
	return call, known
}
