package call

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
)

// UnderWay holds the calls that this process makes at this moment, except those in local
// transactions of the log.
type UnderWay struct {
	last atomic.Int64

	mu    sync.Mutex
	calls map[barrier.Key]saga.CallUnderWay
}

// number returns a number that no other call of this process has.
func (u *UnderWay) number() int64 { return u.last.Add(1) }

// Begin adds a call, until end is called.
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

// Of returns the call of a branch that is under way; false if there is none.
func (u *UnderWay) Of(key barrier.Key) (saga.CallUnderWay, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	call, known := u.calls[key]
	return call, known
}
