package server

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tccsaga/tccsaga/saga"
)

// submitMessage begins a message that was not prepared. It is decided at once: each action is
// called until it succeeds. A prepared message is decided as its query_prepared says now.
// submitMessage returns when that is durable or, with wait_result, when the message has ended.
func (p *planner) submitMessage(ctx context.Context, in *request) error {
	steps, err := p.plan(in)
	if err != nil {
		return err
	}
	before, err := p.engines[msg].Lookup(ctx, in.gid)
	switch {
	case err == nil && isPrepared(before):
		err = p.submitPrepared(ctx, in, before, steps)
	case err != nil && !errors.Is(err, saga.ErrNotFound):
		return err
	case len(steps) == 0:
		return invalid("the message has no steps")
	default:
		if err != nil {
			before = &saga.Transaction{Summary: saga.Summary{GID: in.gid, State: saga.Trying}}
		}
		_, err = p.engines[msg].Execute(ctx, saga.Plan{GID: in.gid, Steps: steps, Options: saga.Options{ReturnDecided: true}})
	}
	if err != nil || !in.waitResult {
		return err
	}
	return p.waiting(in, "submitted", func() error {
		found, err := p.settled(ctx, p.engines[msg], before)
		if err == nil && !found.State.Finished() {
			err = fmt.Errorf("%s is submitted, but not every branch has succeeded yet: %w", in.gid, saga.ErrOngoing)
		}
		return err
	})
}

// topicScheme begins the action of a step that is for the subscribers of a topic.
const topicScheme = "topic://"

// expandTopics replaces each step for a topic by one step for each of its subscribers.
func (p *planner) expandTopics(in *request) error {
	var steps []branch
	for i, b := range in.steps {
		topic, is := strings.CutPrefix(b.Action, topicScheme)
		if !is || in.transType != msg {
			if len(steps) != i {
				b.ID = saga.BranchID(i + 1)
			}
			steps = append(steps, b)
			continue
		}
		urls := p.config.Topics[topic]
		if len(urls) == 0 {
			return invalid("step %d: topic not found in Config.Topics: %.100q", i, topic)
		}
		for n, address := range urls {
			copied := b
			copied.Action, copied.ID = address, saga.BranchID(i+1)
			if len(urls) > 1 {
				copied.ID += "-" + saga.BranchID(n+1)
			}
			steps = append(steps, copied)
		}
	}
	if len(steps) > saga.MaxBranches {
		return invalid("with the subscribers of its topics, the message has %d steps, %d are allowed", len(steps), saga.MaxBranches)
	}
	in.steps = steps
	return nil
}
