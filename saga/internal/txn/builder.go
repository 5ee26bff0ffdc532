package txn

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
)

// Builder makes transactions in memory: from plans, from single steps, and from the log.
type Builder struct {
	Registry   *Registry
	Caller     string // the log's id
	MaxPayload int    // bytes of a branch's input
	MaxBytes   int    // bytes of the inputs of all branches
}

// Step checks and encodes one branch.
func (b *Builder) Step(gid, id string, s saga.Step) (*Step, error) {
	key := barrier.Key{GID: gid, BranchID: id}
	if err := key.Validate(); err != nil {
		return nil, Invalid("%w", err)
	}
	branch, err := b.Registry.Branch(s.Kind)
	if err != nil {
		return nil, Invalid("branch %s: %w", id, err)
	}
	payload, err := branch.encode(s.Input)
	if err != nil {
		return nil, Invalid("branch %s, %s: %w", id, s.Kind, err)
	}
	if len(payload) > b.MaxPayload {
		return nil, Invalid("branch %s, %s: its input has %d bytes as JSON, Config.MaxPayload allows %d", id, s.Kind, len(payload), b.MaxPayload)
	}
	return &Step{ID: id, Kind: s.Kind, Payload: payload, Branch: branch}, nil
}

// Prepare checks and encodes a plan.
func (b *Builder) Prepare(p saga.Plan) (*Txn, error) {
	if err := barrier.ValidateGID(p.GID); err != nil {
		return nil, Invalid("%w", err)
	}
	if err := CheckPattern(p.Pattern); err != nil {
		return nil, Invalid("%w", err)
	}
	if len(p.Steps) == 0 || len(p.Steps) > saga.MaxBranches {
		return nil, Invalid("the plan has %d branches, it needs 1 to %d", len(p.Steps), saga.MaxBranches)
	}
	if p.TryAttempts < saga.Unlimited {
		return nil, Invalid("TryAttempts is %d", p.TryAttempts)
	}
	labels, err := Labels(p.Labels)
	if err != nil {
		return nil, Invalid("%w", err)
	}
	t := &Txn{GID: p.GID, Pattern: p.Pattern, Caller: b.Caller, Epoch: 1, Labels: labels, Begun: time.Now()}
	if p.TryAttempts != 1 { // one is none: the first failure cancels
		t.TryAttempts = p.TryAttempts
	}
	bytes := 0
	for i, s := range p.Steps {
		prepared, err := b.Step(p.GID, saga.BranchID(i+1), s)
		if err != nil {
			return nil, err
		}
		t.Steps = append(t.Steps, prepared)
		bytes += len(prepared.Payload)
	}
	if err := setOrder(p, t); err != nil {
		return nil, Invalid("%w", err)
	}
	if bytes > b.MaxBytes {
		return nil, Invalid("the payloads of its branches have %d bytes, Config.MaxBytes allows %d", bytes, b.MaxBytes)
	}
	return t, nil
}

// CheckPattern refuses the name of a pattern that is longer than its column.
func CheckPattern(pattern string) error {
	if len(pattern) > 16 {
		return fmt.Errorf("the pattern %q has %d characters, 16 are allowed", pattern, len(pattern))
	}
	return nil
}

// Labels checks labels, and returns them as the log has them, by name.
func Labels(labels map[string]string) (rows []txlog.Label, err error) {
	if len(labels) == 0 {
		return nil, nil
	}
	if err = saga.ValidateLabels(labels); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		rows = append(rows, txlog.Label{Name: name, Value: labels[name]})
	}
	return rows, nil
}

// Load makes a transaction from the log.
func (b *Builder) Load(c txlog.Claimed) *Txn {
	r := c.Record
	t := &Txn{GID: r.GID, Caller: b.Caller, State: saga.State(r.State), Epoch: r.Epoch, Decided: time.Now().Add(-r.SinceDecision),
		Begun: time.Now().Add(-r.SinceBegin), Pattern: r.Pattern, Trace: r.Trace, Attention: r.Attention, TryAttempts: r.TryAttempts, Planned: r.Digest != ""}
	byID := make(map[string]*Step, len(c.Branches))
	for _, row := range c.Branches {
		s := &Step{ID: row.ID, Kind: row.Kind, Payload: []byte(row.Payload), Stage: row.Stage, Role: row.Role, Tried: row.Tried, Done: !row.DoneAt.IsZero()}
		s.Branch, _ = b.Registry.Branch(row.Kind) // an unknown kind is left to another instance
		byID[row.ID] = s
		t.Steps = append(t.Steps, s)
	}
	for _, a := range c.Attempts {
		// The attempts are in order, and the last one of each branch counts.
		switch s := byID[a.BranchID]; {
		case s == nil:
		case a.Operation == string(barrier.Ask):
			s.Asked = a.Number
		case a.Operation == string(t.Op(s)):
			s.Failed, s.Wait = a.Number, a.Wait
		}
	}
	t.Decide(t.State)
	t.SetResults(c.Results)
	for _, s := range t.Steps {
		if s.Branch != nil && s.Branch.Breaker.TakeReleased(t.GID) {
			s.Wait = 0
		}
	}
	return t
}
