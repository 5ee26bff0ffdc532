package simulation

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/test/invariant"
)

// sagas is the workload of callers of n plans that mix actions with other branches, run some
// Trys in parallel, are decided by a branch in the other database, go on after the decision, or
// have forward recovery.
func sagas(n int) func(w *world) {
	return func(w *world) {
		w.callers(n, func(i uint64) *request {
			random := rand.New(rand.NewPCG(w.seed, 40_000+i))
			return w.askFor(fmt.Sprintf("s%d", i), &request{steps: sagaSteps(random), options: saga.Options{TryAttempts: []int{0, 0, 3, saga.Unlimited}[random.IntN(4)]}, pattern: "saga"})
		})
	}
}

// sagaSteps draws a plan with at least one action.
func sagaSteps(random *rand.Rand) []saga.Step {
	all := slices.Concat(kinds, actions, actions)
	var steps []saga.Step
	for n := 1 + random.IntN(4); len(steps) < n; {
		steps = append(steps, saga.Step{Kind: all[random.IntN(len(all))], Input: input{}, Parallel: len(steps) > 0 && random.IntN(3) == 0})
	}
	steps[random.IntN(len(steps))].Kind = actions[random.IntN(len(actions))]
	if random.IntN(4) == 0 {
		steps[random.IntN(len(steps))].Input = input{Refuse: true}
	}
	if random.IntN(3) == 0 {
		steps = append(steps, saga.Step{Kind: actAway, Input: input{Refuse: random.IntN(5) == 0}, Decides: true})
	}
	for n := random.IntN(3); n > 0; n-- {
		after := len(steps) > 0 && steps[len(steps)-1].AfterDecision
		steps = append(steps, saga.Step{Kind: actions[random.IntN(len(actions))], Input: input{}, AfterDecision: true, Parallel: after && random.IntN(3) == 0})
	}
	return steps
}

// resultOf is what the branch returns.
func resultOf(key barrier.Key) json.RawMessage { return json.RawMessage(fmt.Sprintf("%q", key)) }

// checkAction checks the order in which an action is called, and the results that it gets. It
// sets the result of the action.
func (w *world) checkAction(c saga.Call) error {
	if c.Result != nil {
		*c.Result = resultOf(c.Key())
	}
	steps := w.stepsOf(c.GID)
	stage, stages := 0, make([]int, len(steps))
	for i, s := range steps {
		if !s.Parallel {
			stage++
		}
		stages[i] = stage
	}
	mine, err := strconv.Atoi(c.BranchID)
	if err != nil {
		return err
	}
	for i, s := range steps {
		key := barrier.Key{GID: c.GID, BranchID: saga.BranchID(i + 1)}
		if stages[i] == stages[mine-1] || !slices.Contains(actions, s.Kind) {
			continue
		}
		row := w.barrierRow(key)
		switch earlier := stages[i] < stages[mine-1]; {
		case !earlier:
			if c.Op == barrier.Cancel && row == invariant.Tried {
				w.breaks("%s is cancelled before %s, which is still tried", c.Key(), key)
			}
		case c.Op == barrier.Apply && row != invariant.Confirmed && (s.AfterDecision || row != invariant.Tried):
			w.breaks("%s is applied before %s, which is %q", c.Key(), key, row)
		case !bytes.Equal(c.Results[key.BranchID], resultOf(key)):
			w.breaks("%s of %s gets the result %q of %s", c.Op, c.Key(), c.Results[key.BranchID], key)
		}
	}
	return nil
}

// stepsOf returns the steps that callers asked for. With ParallelTrys, they are parallel.
func (w *world) stepsOf(gid string) []saga.Step {
	w.mu.Lock()
	defer w.mu.Unlock()
	asked := w.asked[gid]
	steps := slices.Clone(asked.steps)
	for i := range steps {
		if asked.options.ParallelTrys && i > 0 && !steps[i].Decides && !steps[i].AfterDecision {
			steps[i].Parallel = true
		}
	}
	return steps
}

// breaks notes that a branch was called against the rules.
func (w *world) breaks(format string, arguments ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken = append(w.broken, fmt.Sprintf(format, arguments...))
}

// barrierRow reads the committed state of a barrier row, past the gate.
func (w *world) barrierRow(key barrier.Key) (state invariant.State) {
	for _, d := range []*database{w.log, w.other} {
		d.query(fmt.Sprintf("SELECT state FROM saga_barrier WHERE gid = '%s' AND branch_id = '%s'", key.GID, key.BranchID), func(rows *sql.Rows) error {
			return rows.Scan(&state)
		})
	}
	return state
}
