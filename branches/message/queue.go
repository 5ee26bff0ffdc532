package message

import (
	"slices"
	"sync"
	"time"
)

// queue hands messages to workers in the order in which they came. Of the messages
// with one key, only one worker has some at a time.
type queue struct {
	mu     sync.Mutex
	filled *sync.Cond
	ready  []*entry
	lanes  map[string]*lane
	closed bool

	workers int
	idle    int // of them, those that wait
}

// lane holds the messages of one key that wait behind those that are ready or at
// work.
type lane struct {
	waiting []*entry
	active  int // at work
}

func newQueue(workers int) *queue {
	q := &queue{lanes: map[string]*lane{}, workers: workers}
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
			if l := q.lanes[key]; l != nil {
				l.waiting = append(l.waiting, e)
				continue
			}
			q.lanes[key] = &lane{}
		}
		q.ready = append(q.ready, e)
		q.filled.Signal()
	}
	return true
}

// take waits for messages, and returns at most that many, and no more than its share
// if other workers wait, too; none once the queue is closed. One that has failed before
// comes alone.
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
		if l := q.lanes[e.m.Key]; e.m.Key != "" {
			l.active++
			for !e.alone && len(batch) < most && len(l.waiting) > 0 && !l.waiting[0].alone {
				batch = append(batch, l.waiting[0])
				l.waiting = l.waiting[1:]
				l.active++
			}
		}
		if e.alone {
			break
		}
	}
	return batch
}

// done says that a worker has nothing more to do with a message.
func (q *queue) done(e *entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.lanes[e.m.Key]
	if e.m.Key == "" || l == nil {
		return
	}
	l.active--
	q.promote(e.m.Key, l)
}

// promote makes the next message of a lane ready, if none of them is at work.
func (q *queue) promote(key string, l *lane) {
	switch {
	case l.active > 0:
	case len(l.waiting) == 0:
		delete(q.lanes, key)
	case !q.closed:
		q.ready = append(q.ready, l.waiting[0])
		l.waiting = l.waiting[1:]
		q.filled.Signal()
	}
}

// back takes messages of one key back that a worker has: they are handled before
// the others of the key, after a delay. It reports false if the queue is closed.
func (q *queue) back(entries []*entry, delay time.Duration) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	key := entries[0].m.Key
	l := q.lanes[key]
	l.waiting = append(entries[:len(entries):len(entries)], l.waiting...)
	time.AfterFunc(delay, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if !q.closed {
			l.active -= len(entries)
			q.promote(key, l)
		}
	})
	return true
}

// upcoming returns the next messages of which the inbox does not say that they have
// begun, so that it can be told with another statement.
func (q *queue) upcoming(most int) (next []*entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	// The first are what the other workers are about to mark.
	for _, e := range q.ready[:min(len(q.ready), most*q.workers)] {
		if len(next) == most || e.alone || e.bury {
			break
		}
		if !e.begun && !e.marking {
			e.marking = true
			next = append(next, e)
		}
	}
	return next
}

// marked says whether the inbox has been told that messages have begun.
func (q *queue) marked(entries []*entry, begun bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range entries {
		e.marking = false
		e.begun = e.begun || begun
	}
}

// unmarked returns those of which the inbox does not say that they have begun.
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

// waiting is how many workers have nothing to do and get the next messages at once.
func (q *queue) waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return max(0, q.idle-len(q.ready))
}

// close ends the queue and returns what no worker has. Those that a worker is about
// to mark as begun come apart: they are at rest only when the workers are.
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
	for _, l := range q.lanes {
		rest = append(rest, l.waiting...)
		l.waiting = nil
	}
	return rest, marking
}

// empty takes what no worker has, nor is about to mark as begun, and stays open.
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
	for key, l := range q.lanes {
		rest = append(rest, l.waiting...)
		l.waiting = nil
		if l.active == 0 && !slices.ContainsFunc(stay, func(e *entry) bool { return e.m.Key == key }) {
			delete(q.lanes, key)
		}
	}
	return rest
}
