package server

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/wire"
)

// custom is what custom_data of a saga may have.
type custom struct {
	Concurrent bool             `json:"concurrent"`
	Orders     map[string][]int `json:"orders"` // of the steps of a saga, from 0: those that come before each
}

// maxRetries is the most retry_limit.
const maxRetries = 1000

// readSteps reads the steps of a saga or message, and the options for them.
func (in *request) readSteps(sent sentFields, config Config) error {
	var steps []map[string]string
	var payloads []string
	var data string
	var concurrent bool
	for _, f := range []field{{"steps", &steps}, {"payloads", &payloads}, {"custom_data", &data}, {"concurrent", &concurrent}, {"retry_limit", &in.retryLimit}} {
		if err := sent.read(f.name, f.to); err != nil {
			return err
		}
	}
	if data != "" {
		fields, err := parseCustom(data)
		if err != nil {
			return err
		}
		in.custom = fields
	}
	in.custom.Concurrent = in.custom.Concurrent || concurrent
	switch {
	case in.retryLimit < 0 || in.retryLimit > maxRetries:
		return invalid("retry_limit is %d, it must be between 0 and %d", in.retryLimit, maxRetries)
	case len(steps) > saga.MaxBranches:
		return invalid("the transaction has %d steps, %d are allowed", len(steps), saga.MaxBranches)
	}
	return in.fillSteps(steps, payloads, config)
}

func parseCustom(data string) (c custom, err error) {
	var sent map[string]json.RawMessage
	if err := json.Unmarshal([]byte(data), &sent); err != nil {
		return c, invalid("custom_data is not a JSON object")
	}
	known := map[string]any{"concurrent": &c.Concurrent, "orders": &c.Orders}
	for name, value := range sent {
		to := known[name]
		if to == nil {
			return c, invalid("custom_data has %q, which a saga does not have", wire.Clip(name, 40))
		}
		if err := json.Unmarshal(value, to); err != nil {
			return c, invalid("%s in custom_data is %s, which is not a valid value", name, wire.Clip(string(value), 40))
		}
	}
	return c, nil
}

// fillSteps makes branches of steps.
func (in *request) fillSteps(steps []map[string]string, payloads []string, config Config) error {
	size := 0
	for i, step := range steps {
		b := branch{Type: in.transType.stored(), settings: in.settings, Data: step["data"]} // where old clients have it
		if i < len(payloads) {
			b.Data = payloads[i]
		}
		for name, address := range step {
			switch {
			case name == "action":
				b.Action = address
			case name == "compensate" && in.transType == sagas:
				b.Cancel = address
			case name != "data" && address != "":
				return invalid("step %d has %q, which a %s does not have", i, wire.Clip(name, 40), in.transType)
			}
		}
		if n := len(b.Data); n > config.MaxData {
			return invalid("the data of step %d has %d bytes, %d are allowed", i, n, config.MaxData)
		}
		size += b.size()
		in.steps = append(in.steps, b)
	}
	switch {
	case len(payloads) > len(steps):
		return invalid("the transaction has %d payloads for %d steps", len(payloads), len(steps))
	case size > config.MaxTransactionData:
		return invalid("the steps have %d bytes of data and URLs, %d are allowed", size, config.MaxTransactionData)
	}
	return nil
}

// levels returns the level of each step: 0, or one more than the highest level of the steps
// before it. Steps of the same level can run at the same time.
func (in *request) levels() ([]int, error) {
	before := make([][]int, len(in.steps))
	for name, all := range in.custom.Orders {
		step, err := strconv.Atoi(name)
		for _, i := range append(all, step) {
			if err != nil || i < 0 || i >= len(in.steps) {
				return nil, invalid("the orders in custom_data name step %s after %v, and the steps are 0 to %d", wire.Clip(name, 20), all, len(in.steps)-1)
			}
		}
		before[step] = all
	}
	levels := make([]int, len(in.steps))
	for range in.steps { // each run completes at least one more level
		stable := true
		for step, all := range before {
			for _, i := range all {
				if levels[step] <= levels[i] {
					levels[step], stable = levels[i]+1, false
				}
			}
		}
		if stable {
			return levels, nil
		}
	}
	return nil, invalid("the orders in custom_data have a circle")
}

// planner runs the transactions whose steps are all known: sagas and messages.
type planner struct {
	*awaiter
	engines [numTypes]saga.Engine
	record  func(context.Context, saga.Plan) error
	config  Config
	targets targets
}

// plan returns the steps in the order in which the engine calls them.
func (p *planner) plan(in *request) ([]saga.Step, error) {
	if err := p.expandTopics(in); err != nil {
		return nil, err
	}
	levels := make([]int, len(in.steps))
	for i := range levels {
		levels[i] = i
	}
	if in.custom.Concurrent {
		var err error
		if levels, err = in.levels(); err != nil {
			return nil, err
		}
	}
	order := make([]int, len(in.steps))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(x, y int) int { return levels[x] - levels[y] })
	steps := make([]saga.Step, len(order))
	for place, i := range order {
		b := in.steps[i]
		if place != i && b.ID == "" {
			b.ID = saga.BranchID(i + 1)
		}
		at, err := p.targets.find(b)
		if err != nil {
			return nil, fmt.Errorf("step %d: %w", i, err)
		}
		steps[place] = saga.Step{Kind: at.action, Input: b, Parallel: place > 0 && levels[i] == levels[order[place-1]], AfterDecision: in.transType == msg}
	}
	return steps, nil
}
