package chaos

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// injection is one fault that is injected at one worker. It has a random source of
// its own, so that the order of faults that overlap does not change what is drawn.
type injection struct {
	*nemesis
	fault  fault
	worker *worker
	rng    *rand.Rand
}

// note notes that the fault has come, at its worker.
func (i injection) note() { i.nemesis.note(i.fault, i.worker.name) }

// noteForAll notes that the fault has come, for all workers.
func (i injection) noteForAll() { i.nemesis.note(i.fault, "") }

// atHost injects at the host what others inject at a worker.
func atHost(inject func(injection)) func(injection) {
	return func(i injection) {
		i.worker = i.nemesis.host
		inject(i)
	}
}

// upTo is a random time.
func (i injection) upTo(d time.Duration) time.Duration { return time.Duration(i.rng.Int64N(int64(d))) }

func (i injection) killWorker() {
	if i.worker.busy.TryLock() {
		i.note()
		i.noteCrash(i.worker.kill())
		i.restart()
	}
}

// stopWorker stops the worker as a deployment does. Other faults may keep it from
// finishing what is under way, and then it may exit with an error; but it has to
// exit.
func (i injection) stopWorker() {
	if !i.worker.busy.TryLock() {
		return
	}
	i.note()
	i.ongoing.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := i.worker.stop(ctx); errors.Is(err, context.DeadlineExceeded) {
			i.failed(err)
		}
		i.restart()
	})
}

// killAtCommit kills the worker at its next COMMIT, before or after MariaDB gets
// it.
func (i injection) killAtCommit() {
	if !i.worker.busy.TryLock() {
		return
	}
	var instance string
	at := action{before: func() { instance = i.worker.kill() }, cut: cutNow, forward: i.rng.IntN(2) == 0}
	i.atCommit(at, func() { i.noteCrash(instance); i.restart() })
}

func (i injection) pauseWorker() {
	if i.worker.busy.TryLock() {
		i.note()
		i.failed(i.worker.pause())
		i.resume()
	}
}

// pauseAtCommit pauses the worker at its next COMMIT, so that the answer comes
// after its lease has ended.
func (i injection) pauseAtCommit() {
	if i.worker.busy.TryLock() {
		i.atCommit(action{before: func() { i.failed(i.worker.pause()) }, forward: true}, i.resume)
	}
}

// atCommit intercepts the worker's next COMMIT, and then calls after. If there is
// none for some time, it gives up.
func (i injection) atCommit(at action, after func()) {
	intercepted, before := make(chan struct{}), at.before
	at.before = func() { before(); close(intercepted) }
	waiting := &interception{commit, at}
	i.worker.database.intercept(waiting)
	i.ongoing.Go(func() {
		select {
		case <-intercepted:
		case <-time.After(3 * time.Second):
			if i.worker.database.withdraw(waiting) {
				i.worker.busy.Unlock()
				return
			}
			<-intercepted
		}
		i.note()
		after()
	})
}

// resume resumes the worker some time after its lease has ended.
func (i injection) resume() {
	paused := lease + i.upTo(3*lease)
	i.ongoing.Go(func() {
		defer i.worker.busy.Unlock()
		time.Sleep(paused)
		i.failed(i.worker.resume())
	})
}

// restart starts the worker again, after a while.
func (i injection) restart() {
	down := i.upTo(2 * time.Second)
	i.ongoing.Go(func() {
		defer i.worker.busy.Unlock()
		time.Sleep(down)
		i.failed(i.await(i.worker.start))
	})
}

func (i injection) killServer(which component, server *process, start func(context.Context) error) {
	if !server.busy.TryLock() {
		return
	}
	i.noteForAll()
	i.crashed(crash{component: which, at: time.Now()})
	server.kill()
	i.ongoing.Go(func() {
		defer server.busy.Unlock()
		i.failed(i.await(start))
	})
}

func (i injection) await(start func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	return start(ctx)
}

// intercept harms the next event of its kind.
func (i injection) intercept(p *proxy, event event, then action) {
	then.before = i.note
	p.intercept(&interception{event, then})
}

func (i injection) cutConnections(p *proxy) {
	if p.cutAll() > 0 {
		i.note()
	}
}

// slowDown delays each answer, for a while.
func (i injection) slowDown(p *proxy) {
	i.note()
	p.slow(time.Duration(1+i.rng.IntN(100)) * time.Millisecond)
	during := time.Second + i.upTo(2*time.Second)
	i.ongoing.Go(func() {
		time.Sleep(during)
		p.slow(0)
	})
}

// silence lets nothing pass for a while. Neither side can tell that from a lost
// connection.
func (i injection) silence(p *proxy) {
	i.note()
	p.block()
	during := lease + i.upTo(4*lease)
	i.ongoing.Go(func() {
		time.Sleep(during)
		p.unblock()
	})
}
