package decide

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/call"
	"github.com/tccsaga/tccsaga/saga/internal/commit"
	"github.com/tccsaga/tccsaga/saga/internal/jitter"
	"github.com/tccsaga/tccsaga/saga/internal/reason"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// ErrNotAnswered says that the branch that decides has not answered. The transaction is
// undecided, and recovery asks again.
var ErrNotAnswered = errors.New("the branch that decides has not said whether its Try was committed, and is asked again")

// Ask asks the branch that decides a transaction whether its Try was committed; see
// [call.Caller.Ask]. Without an answer, it records the failed question, and when the
// transaction is due again: Next of the transaction. The error then wraps [ErrNotAnswered].
func (d *Decider) Ask(ctx context.Context, t *txn.Txn) (committed bool, err error) {
	s := t.Deciding()
	if wait := d.holdQuestion(ctx, s); wait > 0 {
		return false, d.askLater(ctx, t, s, txlog.Retry{Due: wait}, nil)
	}
	question := t.Call(s, barrier.Ask)
	question.Attempt = s.Asked + 1
	question.Result = new(json.RawMessage)
	committed, err = d.Calls.Ask(ctx, s.Branch, question)
	if err == nil {
		err = call.CheckResult(*question.Result)
	}
	if err != nil {
		return false, d.noteUnanswered(ctx, t, s, err)
	}
	s.Branch.Breaker.Success()
	if committed {
		s.Result = *question.Result
	}
	return committed, nil
}

// holdQuestion returns how long a question has to wait: for an operator who has paused the
// kind, or for a service that is down.
func (d *Decider) holdQuestion(ctx context.Context, s *txn.Step) time.Duration {
	switch {
	case d.Paused.Has(s.Kind):
		return jitter.UpTo(ctx, d.MaxBackoff) + time.Millisecond
	case s.Asked > 0:
		return s.Branch.Breaker.Delay(ctx, d.MaxBackoff, false)
	default:
		return 0
	}
}

// noteUnanswered records a question that has failed.
func (d *Decider) noteUnanswered(ctx context.Context, t *txn.Txn, s *txn.Step, cause error) error {
	s.Asked++
	pause := max(time.Millisecond, txn.PauseAfter(ctx, cause, d.MinBackoff, d.MaxBackoff, s.Asked))
	failure := txlog.Failure{BranchID: s.ID, Operation: string(barrier.Ask), Attempt: s.Asked,
		Error: reason.ClipError(cause.Error()), Instance: d.Instance, Next: pause}
	if errors.Is(cause, barrier.ErrConflict) {
		failure.Code = saga.CodeConflict
	} else {
		s.Branch.Breaker.Failure(t.GID)
	}
	d.Logger.Warn("saga: asking the branch that decides has failed and will be repeated", slog.String("gid", t.GID), slog.String("branch", s.ID),
		slog.String("kind", s.Kind), slog.String("operation", string(barrier.Ask)), slog.Int("attempt", s.Asked), slog.Duration("next", pause), slog.Any("error", cause))
	return d.askLater(ctx, t, s, txlog.Retry{Due: pause, Attention: d.whyAttention(t, s, cause)}, cause, failure)
}

// askLater writes when the transaction is due again, and returns an error that wraps
// ErrNotAnswered.
func (d *Decider) askLater(ctx context.Context, t *txn.Txn, s *txn.Step, retry txlog.Retry, cause error, failures ...txlog.Failure) error {
	if cause == nil {
		cause = errors.New("questions to " + s.Kind + " wait: the kind is paused, or too many calls of it fail")
	}
	unanswered := fmt.Errorf("branch %s, %s: %w: %w", s.ID, s.Kind, ErrNotAnswered, cause)
	retry.GID, retry.Epoch = t.GID, t.Epoch
	// The question may have used the time of ctx.
	recording, cancel := d.Life.DetachCall(ctx)
	defer cancel()
	write := commit.Write{GID: t.GID, More: func(ctx context.Context, tx *gorm.DB) error { return d.Log.Fail(ctx, tx, retry, failures) }}
	if err := d.Commits.Write(recording, write); err != nil {
		return fmt.Errorf("%w; recording that failed: %w", unanswered, err)
	}
	t.Next = retry.Due
	s.Branch.Breaker.Postpone(t.GID)
	if retry.Attention != "" {
		t.Attention = retry.Attention
		d.Alarm(t)
	}
	return unanswered
}

// whyAttention returns why a failed question raises the transaction to attention; empty if it
// does not, or if the transaction was raised before. A conflict replaces an earlier reason.
func (d *Decider) whyAttention(t *txn.Txn, s *txn.Step, cause error) (why string) {
	asking := fmt.Sprintf("asking the branch that decides, %s, %s, has failed %d times, the last time with: %v", s.ID, s.Kind, s.Asked, cause)
	switch {
	case errors.Is(cause, barrier.ErrConflict):
		why = fmt.Sprintf("conflict: the branch that decides, %s, %s, cannot be asked: %v", s.ID, s.Kind, cause)
	case t.Attention != "":
	case s.Asked >= d.AttentionAttempts:
		why = "attempts: " + asking
	case !t.Begun.IsZero() && time.Since(t.Begun) >= d.AttentionAge:
		why = fmt.Sprintf("age: begun %s ago, and undecided: %s", time.Since(t.Begun).Round(time.Second), asking)
	}
	if why = reason.Clip(why); why == t.Attention {
		return ""
	}
	return why
}
