package limit_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/tccsaga/tccsaga/saga/internal/limit"
)

const firstBackoff, lastBackoff = 5 * time.Second, 5 * time.Minute

func TestBatchBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b limit.BatchBackoff
		alone := func() (d time.Duration) {
			for b.Active() {
				time.Sleep(time.Second)
				d += time.Second
			}
			return d
		}
		if alone() != 0 {
			t.Error("alone from the start")
		}
		var total time.Duration
		for i := range 10 {
			b.Penalize()
			b.Penalize() // of another batch that was at work
			d := alone()
			if i == 0 && d != firstBackoff || d > lastBackoff {
				t.Errorf("alone for %s after penalty %d", d, i)
			}
			total += d
		}
		if total < 3*lastBackoff {
			t.Errorf("alone for %s in ten penalties", total)
		}
		b.Reset()
		b.Penalize()
		if d := alone(); d != firstBackoff {
			t.Errorf("alone for %s after all had gone well", d)
		}
	})
}

func TestRejections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r limit.Rejections
		if r.Recent() {
			t.Error("recent without a rejection")
		}
		r.Note()
		time.Sleep(9 * time.Second)
		if !r.Recent() {
			t.Error("not recent after nine seconds")
		}
		time.Sleep(time.Second)
		if r.Recent() {
			t.Error("recent after ten seconds")
		}
	})
}
