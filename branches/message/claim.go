package message

import (
	"context"
	"time"
)

// verdict says what to do with a message that came.
type verdict int

const (
	verdictHandle  verdict = iota
	verdictAck             // it was handled, or is a dead letter
	verdictLeave           // another process is handling it
	verdictDead            // its attempts are used up
	verdictUnknown         // the rows have to be read again
)

// leaveFor is how long a message is left alone while another process handles it.
const leaveFor = time.Second

// claimer looks messages up in the inbox.
type claimer struct {
	ctx      context.Context // of the handlers
	config   ConsumerConfig
	inbox    *inbox
	queue    *queue
	inflight *inFlight
	sizes    sizes
	outage   *outage
}

// claim looks messages up in the inbox, and waits for the database if necessary. It
// settles the messages that need no work. It returns the others in their order: they have
// to be handled, or become dead letters.
func (c *claimer) claim(entries []*entry) (todo []*entry, err error) {
	verdicts, err := c.verdicts(entries)
	for err != nil {
		if err = c.outage.wait(err); err != nil {
			return nil, err
		}
		verdicts, err = c.verdicts(entries)
	}
	for i, e := range entries {
		switch verdicts[i] {
		case verdictAck:
			c.inflight.acknowledge(e)
		case verdictLeave:
			c.inflight.askAgain(e, leaveFor)
		case verdictDead:
			e.dead, e.alone = true, true
			todo = append(todo, e)
		default:
			e.alone = e.attempts > 0 || e.reason == suspected
			todo = append(todo, e)
		}
	}
	return todo, nil
}

func (c *claimer) verdicts(entries []*entry) ([]verdict, error) {
	beginning := min(len(entries), c.queue.waiting()*c.sizes.batch())
	found, err := c.inbox.receive(c.ctx, entries, beginning)
	if err != nil {
		return nil, err
	}
	all := make([]verdict, len(entries))
	for i, e := range entries {
		e.begun = false
		r, before := found[e.m.ID]
		if ours := c.inbox.ours(r.BegunBy); ours || !before {
			e.begun = ours || i < beginning
		}
		if before {
			if all[i], err = c.verdict(e, r); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// verdict decides about a message that has a row in the inbox.
func (c *claimer) verdict(e *entry, r row) (verdict, error) {
	if !r.Handled && e.resent > r.Resent && (r.Buried || r.Attempts >= c.config.Attempts) {
		r = row{Resent: e.resent}
		if err := c.inbox.resetAttempts(c.ctx, e); err != nil {
			return verdictUnknown, err
		}
	}
	if !r.Handled && !r.Buried && r.BegunBy != "" && !c.inbox.ours(r.BegunBy) {
		running, err := c.inbox.countOrphans(c.ctx, []*entry{e})
		switch {
		case err != nil:
			return verdictUnknown, err
		case running[e.m.ID]:
			return verdictLeave, nil
		}
		db, err := c.inbox.direct(c.ctx)
		if err != nil {
			return verdictUnknown, err
		}
		again, err := c.inbox.read(db, []*entry{e})
		if err != nil {
			return verdictUnknown, err
		}
		r = again[e.m.ID]
	}
	e.attempts, e.reason = r.Attempts, r.Error
	e.m.Attempt = r.Attempts + 1
	switch {
	case r.Handled || r.Buried:
		return verdictAck, c.inbox.keepRow(c.ctx, e)
	case r.Attempts >= c.config.Attempts:
		return verdictDead, nil
	default:
		return verdictHandle, nil
	}
}
