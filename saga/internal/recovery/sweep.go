package recovery

import (
	"time"

	"github.com/tccsaga/tccsaga/saga/internal/txlog"
)

// A sweep goes through all that is due, claim by claim. Each one goes on where
// the one before it ended: from the front, the database would pass again and
// again over the places in the index of all those claimed before, which it
// keeps for a while. What came due behind it, or was left out because somebody
// else held it, is for the next sweep.
//
// A sweep ends at what was due when it began, however long it takes: what an instance
// cannot drive keeps nothing that comes after it waiting.
type sweep struct {
	began   time.Time
	until   time.Time      // when it began, by the database's clock
	last    txlog.Position // that was looked at; zero at the front
	claimed bool           // something was taken over
	vain    time.Duration  // what the last sweep took that took nothing over, and left something
}

// from returns where the next claim begins.
func (s *sweep) from() txlog.Position {
	if s.last == (txlog.Position{}) {
		s.began, s.until, s.claimed = time.Now(), time.Time{}, false
	}
	return s.last
}

// pass notes what came of a claim.
func (s *sweep) pass(claims txlog.Claims) {
	s.claimed = s.claimed || len(claims.Claimed) > 0
	s.last, s.vain = txlog.Position{}, 0
	if s.until.IsZero() {
		s.until = claims.Now
	}
	switch {
	case claims.More && !claims.Last.Due.After(s.until):
		s.last = claims.Last
	case len(claims.Foreign) > 0 && !s.claimed:
		s.vain = time.Since(s.began)
	}
}
