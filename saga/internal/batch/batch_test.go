package batch

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// batches records the batches of a group, and says how long writing each takes.
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

func (g *Groups[T]) size() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.byKey)
}

// The first item is written at once. Items that arrive meanwhile form the next batches,
// up to the limit.
func TestArrivalsFormTheNextBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &batches{takes: func([]int) time.Duration { return time.Millisecond }}
		g := New(3, 1, b.write)
		g.Add("k", 0)
		synctest.Wait()
		for i := range 5 {
			g.Add("k", i+1)
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
		g := New(3, 1, b.write)
		g.Add("slow", 15)
		synctest.Wait()
		g.Add("slow", 1)
		g.Add("other", 2)
		synctest.Wait()
		b.check(t, []int{15}, []int{2})
		time.Sleep(time.Second)
		b.check(t, []int{15}, []int{2}, []int{1})
	})
}

// A slow batch does not hold up the next one, and leaves no worker behind.
func TestSlowBatchIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &batches{takes: func(batch []int) time.Duration { return time.Duration(batch[0]) * time.Millisecond }}
		g := New(3, 1, b.write)
		g.Add("k", 5000)
		synctest.Wait()
		g.Add("k", 1)
		g.Add("k", 2)
		time.Sleep(maxDelay - time.Millisecond)
		b.check(t, []int{5000})
		time.Sleep(2 * time.Millisecond)
		b.check(t, []int{5000}, []int{1, 2})
		time.Sleep(time.Second)
		g.Add("k", 3)
		synctest.Wait()
		g.Add("k", 4)
		g.Add("k", 5)
		time.Sleep(time.Minute)
		b.check(t, []int{5000}, []int{1, 2}, []int{3}, []int{4, 5})
		if n := g.size(); b.most != 2 || n != 0 {
			t.Errorf("%d batches at once; %d groups", b.most, n)
		}
	})
}

// A patient item begins no batch: it goes with the next item, or alone after a while.
func TestPatientItems(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &batches{takes: func([]int) time.Duration { return time.Millisecond }}
		g := New(10, 2, b.write)
		g.AddPatient("k", 1)
		g.AddPatient("k", 2)
		synctest.Wait()
		b.check(t)
		g.Add("k", 3)
		synctest.Wait()
		b.check(t, []int{1, 2, 3})
		g.AddPatient("k", 4) // while a batch is written
		time.Sleep(3 * time.Millisecond)
		b.check(t, []int{1, 2, 3}, []int{4})
		g.AddPatient("k", 5) // the timer of the first one ends before its own
		time.Sleep(patience - time.Millisecond)
		b.check(t, []int{1, 2, 3}, []int{4})
		time.Sleep(2 * time.Millisecond)
		b.check(t, []int{1, 2, 3}, []int{4}, []int{5})
		time.Sleep(time.Second)
		g.AddPatient("k", 6)
		g.Add("other", 7)
		time.Sleep(time.Second)
		b.check(t, []int{1, 2, 3}, []int{4}, []int{5}, []int{7}, []int{6})
		if n := g.size(); b.most != 1 || n != 0 {
			t.Errorf("%d batches at once; %d groups are kept", b.most, n)
		}
	})
}
