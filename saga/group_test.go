package saga

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// batches records what a group writes, and how long each takes.
type batches struct {
	mu      sync.Mutex
	written [][]int
	working int
	most    int // at work at once
	takes   func(batch []int) time.Duration
}

func (b *batches) write(batch []int) {
	b.mu.Lock()
	b.written = append(b.written, slices.Clone(batch))
	b.working++
	b.most = max(b.most, b.working)
	b.mu.Unlock()
	time.Sleep(b.takes(batch))
	b.mu.Lock()
	b.working--
	b.mu.Unlock()
}

func (b *batches) check(t *testing.T, want ...[]int) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.EqualFunc(b.written, want, slices.Equal) {
		t.Errorf("batches %v, want %v", b.written, want)
	}
}

func (g *groups[T]) size() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.byKey)
}

// The first goes at once; what gathers meanwhile goes together, within the limit.
func TestWhatGathersIsTheNextBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &batches{takes: func([]int) time.Duration { return time.Millisecond }}
		g := groups[int]{most: 3, hands: 1, write: b.write}
		g.add("k", 0)
		synctest.Wait()
		for i := range 5 {
			g.add("k", i+1)
		}
		b.check(t, []int{0})
		time.Sleep(time.Second)
		b.check(t, []int{0}, []int{1, 2, 3}, []int{4, 5})
		if b.most != 1 {
			t.Errorf("%d batches at once", b.most)
		}
		if n := g.size(); n != 0 {
			t.Errorf("%d idle groups are kept", n)
		}
	})
}

func TestGroupsDoNotWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &batches{takes: func(batch []int) time.Duration { return time.Duration(batch[0]) * time.Millisecond }}
		g := groups[int]{most: 3, hands: 1, write: b.write}
		g.add("slow", 15)
		synctest.Wait()
		g.add("slow", 1)
		g.add("other", 2)
		synctest.Wait()
		b.check(t, []int{15}, []int{2})
		time.Sleep(time.Second)
		b.check(t, []int{15}, []int{2}, []int{1})
	})
}

// A batch that takes long, because of a lock that somebody else holds, does not
// hold up those behind it; and afterwards all is as before.
func TestAStuckBatchIsRelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &batches{takes: func(batch []int) time.Duration { return time.Duration(batch[0]) * time.Millisecond }}
		g := groups[int]{most: 3, hands: 1, write: b.write}
		g.add("k", 5000)
		synctest.Wait()
		g.add("k", 1)
		g.add("k", 2)
		time.Sleep(longBatch - time.Millisecond)
		b.check(t, []int{5000})
		time.Sleep(2 * time.Millisecond)
		b.check(t, []int{5000}, []int{1, 2})
		time.Sleep(time.Second)
		g.add("k", 3)
		synctest.Wait()
		g.add("k", 4)
		g.add("k", 5)
		time.Sleep(time.Minute)
		b.check(t, []int{5000}, []int{1, 2}, []int{3}, []int{4, 5})
		if n := g.size(); b.most != 2 || n != 0 {
			t.Errorf("%d batches at once; %d groups", b.most, n)
		}
	})
}

func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pace
		alone := func() (d time.Duration) {
			for p.stalling() {
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
			p.stall()
			p.stall() // of another batch that was at work
			d := alone()
			if i == 0 && d != firstStall || d > lastStall {
				t.Errorf("alone for %s after stall %d", d, i)
			}
			total += d
		}
		if total < 3*lastStall {
			t.Errorf("alone for %s in ten stalls", total)
		}
		p.flow()
		p.stall()
		if d := alone(); d != firstStall {
			t.Errorf("alone for %s after all had gone well", d)
		}
	})
}
