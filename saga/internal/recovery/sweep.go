package recovery

import (
	"time"

	"github.com/tccsaga/tccsaga/saga/internal/txlog"
)

// A sweep goes through the due transactions, claim by claim. Each claim begins where the
// last one ended. If it began at the front, the database would read the index entries of
// all transactions claimed before once more, because it keeps them for a while. A
// transaction that became due behind the sweep, or was locked by another instance, is left
// to the next sweep.
//
// A sweep ends at the transactions that were due when it began. So transactions that this
// instance cannot drive do not delay those that become due later.
type sweep struct {
	began   time.Time
	until   time.Time      // when it began, by the database's clock
	last    txlog.Position // of the last claim; zero at the front
	claimed bool           // a transaction was taken over
	idle    time.Duration  // how long the last sweep took, if it only found foreign transactions; else 0
}

// from returns where the next claim begins.
func (s *sweep) from() txlog.Position {
	if s.last == (txlog.Position{}) {
		s.began, s.until, s.claimed = time.Now(), time.Time{}, false
	}
	return s.last
}

// pass records the result of a claim.
func (s *sweep) pass(claims txlog.Claims) {
	s.claimed = s.claimed || len(claims.Claimed) > 0
	s.last, s.idle = txlog.Position{}, 0
	if s.until.IsZero() {
		s.until = claims.Now
	}
	switch {
	case claims.More && !claims.Last.Due.After(s.until):
		s.last = claims.Last
	case len(claims.Foreign) > 0 && !s.claimed:
		s.idle = time.Since(s.began)
	}
}
