package message

import (
	"slices"
	"sync"
	"time"
)

// queue gives messages to workers in the order in which they came. Only one worker at a
// time has messages of the same key. It is safe for concurrent use.
type queue struct {
	mu     sync.Mutex
	filled *sync.Cond
	ready  []*entry
	keys   map[string]*keyQueue
	closed bool

	workers int
	idle    int // workers that wait for messages
}

// keyQueue has the messages of one key that wait for earlier messages of the key.
type keyQueue struct {
	waiting []*entry
	active  int // messages that a worker has
}

func newQueue(workers int) *queue {
	q := &queue{keys: map[string]*keyQueue{}, workers: workers}
	q.filled = sync.NewCond(&q.mu)
	return q
}

// add queues messages in their order. It reports false if the queue is closed.
func (q *queue) add(entries ...*entry) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	for _, e := range entries {
		if key := e.m.Key; key != "" {
			if k := q.keys[key]; k != nil {
				k.waiting = append(k.waiting, e)
				continue
			}
			q.keys[key] = &keyQueue{}
		}
		q.ready = append(q.ready, e)
		q.filled.Signal()
	}
	return true
}

// take waits for messages and returns up to wanted() of them, or nil if the queue is
// closed. If other workers wait, too, it returns only a share. A message that has to be
// alone is returned alone.
func (q *queue) take(wanted func() int) (batch []*entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.ready) == 0 && !q.closed {
		q.idle++
		q.filled.Wait()
		q.idle--
	}
	if q.closed {
		return nil
	}
	most := min(wanted(), (len(q.ready)+q.idle)/(q.idle+1))
	for len(q.ready) > 0 && len(batch) < most {
		e := q.ready[0]
		if e.alone && len(batch) > 0 {
			break
		}
		q.ready[0] = nil
		q.ready = q.ready[1:]
		batch = append(batch, e)
		if k := q.keys[e.m.Key]; e.m.Key != "" {
			k.active++
			for !e.alone && len(batch) < most && len(k.waiting) > 0 && !k.waiting[0].alone {
				batch = append(batch, k.waiting[0])
				k.waiting = k.waiting[1:]
				k.active++
			}
		}
		if e.alone {
			break
		}
	}
	return batch
}

// done removes a message that a worker has.
func (q *queue) done(e *entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	k := q.keys[e.m.Key]
	if e.m.Key == "" || k == nil {
		return
	}
	k.active--
	q.promote(e.m.Key, k)
}

// promote makes the next message of a key ready, if no worker has messages of the key.
func (q *queue) promote(key string, k *keyQueue) {
	switch {
	case k.active > 0:
	case len(k.waiting) == 0:
		delete(q.keys, key)
	case !q.closed:
		q.ready = append(q.ready, k.waiting[0])
		k.waiting = k.waiting[1:]
		q.filled.Signal()
	}
}

// putBack takes messages of one key back from a worker. After a delay, they are handled
// before the other messages of the key. It returns false if the queue is closed.
func (q *queue) putBack(entries []*entry, delay time.Duration) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	key := entries[0].m.Key
	k := q.keys[key]
	k.waiting = append(entries[:len(entries):len(entries)], k.waiting...)
	time.AfterFunc(delay, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if !q.closed {
			k.active -= len(entries)
			q.promote(key, k)
		}
	})
	return true
}

// upcoming returns the next messages that the inbox has not marked as begun, so that a
// statement that runs anyway can mark them.
func (q *queue) upcoming(most int) (next []*entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	// Other workers may be about to mark the first of them.
	for _, e := range q.ready[:min(len(q.ready), most*q.workers)] {
		if len(next) == most || e.alone || e.dead {
			break
		}
		if !e.begun && !e.marking {
			e.marking = true
			next = append(next, e)
		}
	}
	return next
}

// marked ends the marking of messages. begun says whether the inbox has the mark.
func (q *queue) marked(entries []*entry, begun bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range entries {
		e.marking = false
		e.begun = e.begun || begun
	}
}

// unmarked returns the messages that the inbox has not marked as begun.
func (q *queue) unmarked(entries []*entry) (rest []*entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range entries {
		if !e.begun {
			rest = append(rest, e)
		}
	}
	return rest
}

// waiting is how many workers are idle, and would get another message at once.
func (q *queue) waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return max(0, q.idle-len(q.ready))
}

// close closes the queue and returns the messages that no worker has. Those that a worker
// is about to mark as begun are returned separately: they can be given back only after the
// workers have ended.
func (q *queue) close() (rest, marking []*entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.filled.Broadcast()
	for _, e := range q.ready {
		if e.marking {
			marking = append(marking, e)
		} else {
			rest = append(rest, e)
		}
	}
	q.ready = nil
	for _, k := range q.keys {
		rest = append(rest, k.waiting...)
		k.waiting = nil
	}
	return rest, marking
}

// empty removes and returns the messages that no worker has, and that none is about to
// mark as begun. The queue stays open.
func (q *queue) empty() (rest []*entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var stay []*entry
	for _, e := range q.ready {
		if e.marking {
			stay = append(stay, e)
			continue
		}
		rest = append(rest, e)
	}
	q.ready = stay
	for key, k := range q.keys {
		rest = append(rest, k.waiting...)
		k.waiting = nil
		if k.active == 0 && !slices.ContainsFunc(stay, func(e *entry) bool { return e.m.Key == key }) {
			delete(q.keys, key)
		}
	}
	return rest
}
