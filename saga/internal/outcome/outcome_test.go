package outcome

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
)

// Each answer has one call, or none.
func TestDue(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		state saga.State
		err   error
		want  barrier.Op
		fails bool
	}{
		{saga.Trying, nil, "", false},
		{saga.Confirming, nil, barrier.Confirm, false},
		{saga.Confirmed, nil, barrier.Confirm, false},
		{saga.Cancelling, nil, barrier.Cancel, false},
		{saga.Cancelled, nil, barrier.Cancel, false},
		{"", nil, "", true},
		{"unknown", nil, "", true},
		{"", fmt.Errorf("gid: %w", saga.ErrNotFound), barrier.Cancel, false},
		{"", fmt.Errorf("gid: %w", saga.ErrOngoing), "", false},
		{"", fmt.Errorf("gid: %w", saga.ErrOtherLog), "", true},
		{"", errors.Join(saga.ErrNotFound, saga.ErrOtherLog), "", true},
		{saga.Confirmed, errors.New("no answer"), "", true},
		{saga.Cancelled, saga.ErrOtherLog, "", true},
	} {
		if op, err := due(c.state, c.err); op != c.want || (err != nil) != c.fails {
			t.Errorf("%q, %v: %q, %v, want %q", c.state, c.err, op, err, c.want)
		}
	}
}

// The pause grows with the time in doubt, and has limits.
func TestPause(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ after, since, longest time.Duration }{
		{time.Minute, 0, time.Minute},
		{time.Minute, time.Minute, time.Minute},
		{time.Minute, 10 * time.Minute, 5 * time.Minute},
		{time.Minute, 1000 * time.Hour, time.Hour},
		{24 * time.Hour, 1000 * time.Hour, 24 * time.Hour},
		{time.Nanosecond, 0, 2},
	} {
		for range 100 {
			got := New(Parts{After: c.after}).pause(t.Context())(c.since)
			if got <= 0 || got < c.longest/2 || got > c.longest+2 {
				t.Fatalf("after %s, in doubt for %s: %s, want at most %s", c.after, c.since, got, c.longest)
			}
		}
	}
}
