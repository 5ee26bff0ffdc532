package sagatest

import (
	"testing"
	"time"
)

// patience is far more than a busy machine needs, so that only a fault exceeds it.
const patience = time.Minute

// interval is short beside a call of a database.
const interval = 10 * time.Millisecond

// Must ends the test as failed if err is not nil. As [testing.T.FailNow], it must be called
// from the goroutine that runs the test.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Eventually returns when condition is true. It asks every few milliseconds, and ends the
// test as failed, with what, if condition is still false after a minute. It is for work of
// other goroutines and processes that gives no signal. As [testing.T.FailNow], it must be
// called from the goroutine that runs the test.
func Eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for !condition() {
		select {
		case <-ticker.C:
		case <-limit.C:
			t.Fatalf("never came: %s", what)
		}
	}
}
