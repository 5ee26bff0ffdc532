package message

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// The pause between two pings of the database during an outage: it doubles from minPing
// to maxPing.
const minPing, maxPing = 50 * time.Millisecond, 2 * time.Second

// outage waits for the database after a fault.
type outage struct {
	ctx   context.Context // of the handlers
	inbox *inbox
	state *state
	over  func() // is called after each wait
}

// wait waits until the database accepts writes. Meanwhile no message is requested. It
// returns an error if the consumer is interrupted.
func (o *outage) wait(cause error) error {
	if first := o.state.databaseFailed(cause); first {
		o.state.log.Warn("message: the database failed, waiting for it", slog.Any("error", cause))
	}
	defer o.over()
	defer o.state.databaseBack()
	for pause := minPing; ; pause = min(2*pause, maxPing) {
		if err := sleep(o.ctx, pause); err != nil {
			return errors.Join(err, cause)
		}
		if err := o.inbox.ping(o.ctx); err == nil {
			return nil
		} else if o.ctx.Err() == nil {
			o.state.note(err)
		}
	}
}

// sleep waits for a while. It returns an error if ctx ends before.
func sleep(ctx context.Context, while time.Duration) error {
	timer := time.NewTimer(while)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
