package sagatest_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/tccsaga/tccsaga/saga/sagatest"
)

func TestMust(t *testing.T) {
	t.Parallel()
	goneOn := false
	failures := record(func(t testing.TB) {
		sagatest.Must(t, nil)
		sagatest.Must(t, errors.New("on purpose"))
		goneOn = true
	})
	if !slices.Equal(failures, []string{"on purpose"}) || goneOn {
		t.Errorf("failures %q; the test has gone on: %t", failures, goneOn)
	}
}

func TestEventually(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		failures := record(func(t testing.TB) {
			sagatest.Eventually(t, "the third time", func() bool { asked++; return asked == 3 })
		})
		if asked != 3 || failures != nil {
			t.Errorf("asked %d times; failures %q", asked, failures)
		}
		failures = record(func(t testing.TB) {
			sagatest.Eventually(t, "the impossible", func() bool { return false })
		})
		if !slices.Equal(failures, []string{"never came: the impossible"}) {
			t.Errorf("failures %q", failures)
		}
	})
}

func TestGID(t *testing.T) {
	t.Parallel()
	if one, other := sagatest.GID(), sagatest.GID(); one == other {
		t.Errorf("%s twice", one)
	}
}
