package chaos

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// fault is one kind of harm.
type fault struct {
	name  string
	times int // in each deck
	do    func(strike)
}

var faults = []fault{
	{"worker killed", 3, strike.killWorker},
	{"worker killed at a COMMIT", 3, strike.killAtCommit},
	{"worker paused past its lease", 3, strike.pauseWorker},
	{"worker paused at a COMMIT", 3, strike.pauseAtCommit},
	{"worker stopped", 1, strike.stopWorker},
	{"MariaDB killed", 1, func(s strike) { s.killServer("MariaDB", s.mariadb.process, s.mariadb.start) }},
	{"NATS killed", 1, func(s strike) { s.killServer("NATS", s.broker.process, s.broker.start) }},
	{"COMMIT cut off before the server", 3, func(s strike) { s.trap(s.worker.database, commit, spring{cut: atOnce}) }},
	{"COMMIT cut off under way", 4, func(s strike) { s.trap(s.worker.database, commit, spring{pass: true, cut: atOnce}) }},
	{"answer to a COMMIT lost", 4, func(s strike) { s.trap(s.worker.database, commit, spring{pass: true, cut: afterAnswer}) }},
	{"PubAck lost", 4, func(s strike) { s.trap(s.worker.nats, ack, spring{cut: atOnce}) }},
	{"connections to MariaDB cut", 2, func(s strike) { s.cut(s.worker.database) }},
	{"connections to NATS cut", 2, func(s strike) { s.cut(s.worker.nats) }},
	{"MariaDB slow", 1, func(s strike) { s.slow(s.worker.database) }},
	{"NATS slow", 1, func(s strike) { s.slow(s.worker.nats) }},
	{"MariaDB silent", 1, func(s strike) { s.silence(s.worker.database) }},
	{"NATS silent", 1, func(s strike) { s.silence(s.worker.nats) }},
	{"gateway unwell", 2, func(s strike) { s.gateway.arm(unwell, s.happenedToAll) }},
	{"gateway's answer lost", 3, func(s strike) { s.gateway.arm(forgetful, s.happenedToAll) }},
	{"gateway slow", 1, func(s strike) { s.gateway.arm(slow, s.happenedToAll) }},
}

// strike is a fault that comes to pass. It draws from a source of its own, so
// that the order of those that overlap does not change what is drawn.
type strike struct {
	*storm
	fault  fault
	worker *worker
	rng    *rand.Rand
}

func (s strike) happened()      { s.note(s.fault, " at "+s.worker.name) }
func (s strike) happenedToAll() { s.note(s.fault, "") }

// upTo is a random time.
func (s strike) upTo(d time.Duration) time.Duration { return time.Duration(s.rng.Int64N(int64(d))) }

func (s strike) killWorker() {
	if s.worker.busy.TryLock() {
		s.happened()
		s.bury(s.worker.kill())
		s.restart()
	}
}

// stopWorker stops as a deployment does. While other faults keep it from ending
// what is under way, it may say that it could not; but it has to stop.
func (s strike) stopWorker() {
	if !s.worker.busy.TryLock() {
		return
	}
	s.happened()
	s.lasting.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.worker.stop(ctx); errors.Is(err, context.DeadlineExceeded) {
			s.tell(err)
		}
		s.restart()
	})
}

// killAtCommit kills at the next COMMIT, before or after it is passed on.
func (s strike) killAtCommit() {
	if !s.worker.busy.TryLock() {
		return
	}
	var instance string
	at := spring{first: func() { instance = s.worker.kill() }, cut: atOnce, pass: s.rng.IntN(2) == 0}
	s.atCommit(at, func() { s.bury(instance); s.restart() })
}

func (s strike) pauseWorker() {
	if s.worker.busy.TryLock() {
		s.happened()
		s.tell(s.worker.pause())
		s.unpause()
	}
}

// pauseAtCommit pauses at the next COMMIT, whose answer then comes after the
// lease.
func (s strike) pauseAtCommit() {
	if s.worker.busy.TryLock() {
		s.atCommit(spring{first: func() { s.tell(s.worker.pause()) }, pass: true}, s.unpause)
	}
}

// atCommit sets a trap for the worker's next COMMIT, and calls after when it was
// sprung. If none comes, it gives up.
func (s strike) atCommit(at spring, after func()) {
	sprung, first := make(chan struct{}), at.first
	at.first = func() { first(); close(sprung) }
	t := &trap{commit, at}
	s.worker.database.arm(t)
	s.lasting.Go(func() {
		select {
		case <-sprung:
		case <-time.After(3 * time.Second):
			if s.worker.database.disarm(t) {
				s.worker.busy.Unlock()
				return
			}
			<-sprung
		}
		s.happened()
		after()
	})
}

// unpause resumes the worker some time after its lease has ended.
func (s strike) unpause() {
	asleep := lease + s.upTo(3*lease)
	s.lasting.Go(func() {
		defer s.worker.busy.Unlock()
		time.Sleep(asleep)
		s.tell(s.worker.resume())
	})
}

// restart starts the worker again, after a while.
func (s strike) restart() {
	down := s.upTo(2 * time.Second)
	s.lasting.Go(func() {
		defer s.worker.busy.Unlock()
		time.Sleep(down)
		s.tell(s.starting(s.worker.start))
	})
}

func (s strike) killServer(name string, server *process, start func(context.Context) error) {
	if !server.busy.TryLock() {
		return
	}
	s.happenedToAll()
	s.died(death{of: name, at: time.Now()})
	server.kill()
	s.lasting.Go(func() {
		defer server.busy.Unlock()
		s.tell(s.starting(start))
	})
}

func (s strike) starting(start func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	return start(ctx)
}

func (s strike) trap(p *proxy, what event, then spring) {
	then.first = s.happened
	p.arm(&trap{what, then})
}

func (s strike) cut(p *proxy) {
	if p.cutAll() > 0 {
		s.happened()
	}
}

// slow delays each answer.
func (s strike) slow(p *proxy) {
	s.happened()
	p.slow(time.Duration(1+s.rng.IntN(100)) * time.Millisecond)
	during := time.Second + s.upTo(2*time.Second)
	s.lasting.Go(func() {
		time.Sleep(during)
		p.slow(0)
	})
}

// silence lets nothing pass for a while, which no side can tell from a
// connection that is lost.
func (s strike) silence(p *proxy) {
	s.happened()
	p.block()
	during := lease + s.upTo(4*lease)
	s.lasting.Go(func() {
		time.Sleep(during)
		p.unblock()
	})
}
