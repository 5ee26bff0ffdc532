package saga

import (
	"runtime"
	"sync"
	"time"
)

// groups let callers share commits, with those who have the same key. What
// gathers while a batch is at work is the next batch, so that nobody waits when
// nothing is under way, and a batch is as large as the load makes it.
type groups[T any] struct {
	most  int       // items in a batch
	hands int       // batches of a group at work at once
	write func([]T) // writes a batch, and tells each item how that went

	mu    sync.Mutex
	byKey map[string]*group[T] // those with work to do
}

type group[T any] struct {
	waiting []T
	workers int
}

// enough is how many items a batch needs to be at work beside another one. Fewer
// do better if they wait and go with more.
const enough = 8

// add lets item travel with the next batch of its group.
func (g *groups[T]) add(key string, item T) {
	g.mu.Lock()
	defer g.mu.Unlock()
	in := g.byKey[key]
	if in == nil {
		if g.byKey == nil {
			g.byKey = make(map[string]*group[T])
		}
		in = &group[T]{}
		g.byKey[key] = in
	}
	in.waiting = append(in.waiting, item)
	if in.workers == 0 || in.workers < g.hands && len(in.waiting) >= enough {
		in.workers++
		go g.work(key, in)
	}
}

func (g *groups[T]) work(key string, in *group[T]) {
	for {
		// Those who run at this moment, because they come together or were
		// told just now, are in the batch.
		runtime.Gosched()
		batch := g.take(key, in)
		if batch == nil || g.relieved(key, in, batch) {
			return
		}
	}
}

// longBatch is how long a batch may keep the next one waiting.
const longBatch = 20 * time.Millisecond

// relieved writes a batch. If that takes long, because the database is far away
// or somebody holds a lock, another worker takes this one's place meanwhile.
func (g *groups[T]) relieved(key string, in *group[T], batch []T) bool {
	var written, replaced bool
	timer := time.AfterFunc(longBatch, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if !written {
			replaced = true
			go g.work(key, in)
		}
	})
	g.write(batch)
	timer.Stop()
	g.mu.Lock()
	defer g.mu.Unlock()
	written = true
	return replaced
}

// take returns the next batch; nil ends the worker.
func (g *groups[T]) take(key string, in *group[T]) []T {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := min(len(in.waiting), g.most)
	if n == 0 || n < enough && in.workers > 1 {
		if in.workers--; in.workers == 0 {
			delete(g.byKey, key)
		}
		return nil
	}
	batch := in.waiting[:n:n]
	in.waiting = in.waiting[n:]
	return batch
}
