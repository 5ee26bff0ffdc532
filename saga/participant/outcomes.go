package participant

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/jitter"
	"github.com/tccsaga/tccsaga/saga/internal/outcome"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
	"github.com/tccsaga/tccsaga/saga/internal/warn"
)

// Outcomes tells a participant how a transaction was decided. An engine of package embedded
// does, and package remote has one that asks such an engine over HTTP. It is safe for
// concurrent use.
type Outcomes interface {
	// Outcome returns the state of the transaction in the log of a caller: the
	// [saga.Call.Caller] of the branch in doubt. It reads the latest state, and not that
	// of a replica.
	//
	// The error wraps [saga.ErrNotFound] only if this log does not have the transaction;
	// the participant then cancels the branch. It wraps [saga.ErrOtherLog] if the engine
	// has another log, and [saga.ErrOngoing] if the participant has to wait for a call.
	// After any other error the participant waits, and asks again later.
	Outcome(ctx context.Context, caller, gid string) (saga.State, error)
}

// doubts has the parts that end branches in doubt.
type doubts struct {
	asker    *outcome.Asker // nil without Outcomes
	interval time.Duration  // between two passes
	logger   *slog.Logger
	warn     *warn.Logger
}

// longestInterval is the longest time between two passes that succeed.
const longestInterval = 30 * time.Second

func newDoubts(p *Participant, config Config) doubts {
	if len(config.Outcomes) == 0 {
		return doubts{}
	}
	engines := append([]Outcomes(nil), config.Outcomes...)
	return doubts{
		asker: outcome.New(outcome.Parts{
			Prefix: callerPrefix, After: config.AskAfter, Call: p.Call,
			Ask: func(ctx context.Context, caller, gid string) (saga.State, error) {
				ctx, cancel := context.WithTimeout(ctx, config.CallTimeout)
				defer cancel()
				return ask(ctx, engines, caller, gid)
			},
			Databases: func() (all []*gorm.DB) {
				for _, database := range p.registry.Databases() {
					all = append(all, database.DB)
				}
				return all
			},
		}),
		interval: min(config.AskAfter/2+1, longestInterval),
		logger:   config.Logger,
		warn:     warn.New(config.Logger),
	}
}

// ask asks one engine after the other, until one has the log of the caller.
func ask(ctx context.Context, engines []Outcomes, caller, gid string) (saga.State, error) {
	var unanswered, other error
	for _, engine := range engines {
		state, err := engine.Outcome(ctx, caller, gid)
		switch {
		case errors.Is(err, saga.ErrOtherLog):
			other = err
		case err == nil || errors.Is(err, saga.ErrNotFound) || errors.Is(err, saga.ErrOngoing):
			return state, err
		default:
			unanswered = errors.Join(unanswered, err)
		}
	}
	if unanswered != nil {
		return "", unanswered
	}
	return "", other
}

var errAsksNobody = txn.Invalid("the participant has no Outcomes to ask")

// AskOutcomes asks for the outcome of each branch that has been in doubt for AskAfter, and
// makes the Confirm or Cancel that is due. It returns the number of branches that it has
// ended. At most 1,024 branches in each database are asked for; several processes share
// them. If an engine does not answer, its branches are asked for later. AskOutcomes returns
// the first failures; it has tried the other branches all the same. [Participant.Run] calls
// it regularly.
func (p *Participant) AskOutcomes(ctx context.Context) (ended int, err error) {
	if p.doubts.asker == nil {
		return 0, wrap("ask outcomes", errAsksNobody)
	}
	ended, err = p.doubts.asker.Pass(ctx)
	return ended, wrap("ask outcomes", err)
}

// Run asks for outcomes until ctx ends; then it returns nil. It passes over the branches in
// doubt every half AskAfter, and at least every 30 seconds, and less often after failures,
// which it logs. Without [Config.Outcomes], it returns an error at once.
func (p *Participant) Run(ctx context.Context) error {
	if p.doubts.asker == nil {
		return wrap("run", errAsksNobody)
	}
	for pause := p.doubts.interval; ; {
		timer := time.NewTimer(pause/2 + jitter.UpTo(ctx, pause/2+1))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		ended, err := p.doubts.asker.Pass(ctx)
		if ended > 0 {
			p.doubts.logger.Info("participant: branches in doubt were ended after asking for the outcome", slog.Int("branches", ended))
		}
		if err == nil {
			pause = p.doubts.interval
			continue
		}
		p.doubts.warn.Warn(ctx, "participant: branches in doubt wait: the engine did not answer, or the call that is due failed", err)
		pause = min(2*pause, 4*longestInterval)
	}
}
