package message

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// verdict is what has to be done with a message that came.
type verdict int

const (
	handleIt  verdict = iota
	ackIt             // it was handled, or put aside
	leaveIt           // another process is at work on it
	buryIt            // its attempts are used up
	unsettled         // the rows have to be read again
)

// elsewhere is how long a message is left alone that another process handles.
const elsewhere = time.Second

// claim looks up in the inbox what has to be done with messages, and waits for the
// database if need be. It returns those that are to be handled or put aside, in
// their order; it settles the others.
func (c *Consumer) claim(entries []*entry) (todo []*entry, err error) {
	verdicts, err := c.verdicts(entries)
	for err != nil {
		if err = c.waitForDatabase(err); err != nil {
			return nil, err
		}
		verdicts, err = c.verdicts(entries)
	}
	for i, e := range entries {
		switch verdicts[i] {
		case ackIt:
			c.acknowledge(e)
		case leaveIt:
			c.askAgain(e, elsewhere)
		case buryIt:
			e.bury, e.alone = true, true
			todo = append(todo, e)
		default:
			e.alone = e.attempts > 0 || e.reason == suspected
			todo = append(todo, e)
		}
	}
	return todo, nil
}

func (c *Consumer) verdicts(entries []*entry) ([]verdict, error) {
	beginning := min(len(entries), c.queue.waiting()*c.most())
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

// verdict judges a message that has a row.
func (c *Consumer) verdict(e *entry, r row) (verdict, error) {
	if !r.Handled && e.resent > r.Resent && (r.Buried || r.Attempts >= c.config.Attempts) {
		r = row{Resent: e.resent}
		if err := c.inbox.revive(c.ctx, e); err != nil {
			return unsettled, err
		}
	}
	if !r.Handled && !r.Buried && r.BegunBy != "" && !c.inbox.ours(r.BegunBy) {
		atWork, err := c.inbox.orphaned(c.ctx, []*entry{e})
		switch {
		case err != nil:
			return unsettled, err
		case atWork[e.m.ID]:
			return leaveIt, nil
		}
		db, err := c.inbox.direct(c.ctx)
		if err != nil {
			return unsettled, err
		}
		again, err := c.inbox.read(db, []*entry{e})
		if err != nil {
			return unsettled, err
		}
		r = again[e.m.ID]
	}
	e.attempts, e.reason = r.Attempts, r.Error
	e.m.Attempt = r.Attempts + 1
	switch {
	case r.Handled || r.Buried:
		return ackIt, c.inbox.seen(c.ctx, e)
	case r.Attempts >= c.config.Attempts:
		return buryIt, nil
	default:
		return handleIt, nil
	}
}

// firstAsk and lastAsk bound the pause between two questions whether the database
// is back; it doubles.
const firstAsk, lastAsk = 50 * time.Millisecond, 2 * time.Second

// waitForDatabase waits until the database takes writes again, and meanwhile no
// message is asked for. It returns an error if the consumer is interrupted.
func (c *Consumer) waitForDatabase(cause error) error {
	if first := c.state.databaseFailed(cause); first {
		c.config.Logger.Warn("message: the database failed, and is waited for", slog.String("consumer", c.config.Name), slog.Any("error", cause))
	}
	defer c.signal()
	defer c.state.databaseBack()
	for pause := firstAsk; ; pause = min(2*pause, lastAsk) {
		if err := rest(c.ctx, pause); err != nil {
			return errors.Join(err, cause)
		}
		if err := c.inbox.ask(c.ctx); err == nil {
			return nil
		} else if c.ctx.Err() == nil {
			c.state.note(err)
		}
	}
}

// rest waits for a while; it returns an error if ctx ends before.
func rest(ctx context.Context, while time.Duration) error {
	timer := time.NewTimer(while)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
