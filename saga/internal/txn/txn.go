package txn

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/result"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
)

// Step is a branch of a transaction in memory.
type Step struct {
	ID      string
	Kind    string
	Payload []byte
	Stage   int           // place in the order of the calls; 0 in a transaction without an order
	Role    string        // as in package txlog
	Branch  *Branch       // nil if the kind is not registered here
	Tried   bool          // its Try has succeeded, in a transaction with forward recovery
	Done    bool          // confirmed or cancelled
	Failed  int           // failed attempts of its next operation
	Wait    time.Duration // until the next attempt
	Result  json.RawMessage
	Asked   int // failed questions to the branch that decides

	BatchError error  // why its Confirm failed in a decide batch; it counts as the first attempt
	WaitReason string // why it waits, if it does not wait for its next attempt
}

// Txn is a transaction in memory.
type Txn struct {
	GID            string
	Pattern, Trace string // as in package txlog; for observers
	Caller         string // the log's id, which names the engine in the barrier
	State          saga.State
	Epoch          int64
	Steps          []*Step
	Next           time.Duration // after a round that did not finish it: until it is due again

	TryAttempts int // as in package txlog
	Labels      []txlog.Label

	Planned   bool      // it was begun with a plan, so it has branches
	Fresh     bool      // this process has just committed its Trys: the first calls are due without a read of the barrier
	Decided   time.Time // approximate, by this process's clock
	Begun     time.Time // approximate, by this process's clock; zero if it is not known
	Attention string    // why it was raised to attention; empty if it was not
}

// Subject returns the transaction as observers know it.
func (t *Txn) Subject() saga.Subject {
	return saga.Subject{GID: t.GID, Pattern: t.Pattern, Trace: t.Trace}
}

// Known reports whether the kinds of all branches are registered here.
func (t *Txn) Known() bool {
	return !slices.ContainsFunc(t.Steps, func(s *Step) bool { return s.Branch == nil })
}

// Call returns the next call of a step.
func (t *Txn) Call(s *Step, op barrier.Op) saga.Call {
	return saga.Call{GID: t.GID, BranchID: s.ID, Kind: s.Kind, Op: op, Caller: t.Caller, Attempt: s.Failed + 1, Payload: s.Payload, Results: t.results()}
}

// results returns the results of all branches that have one.
func (t *Txn) results() (all map[string]json.RawMessage) {
	for _, s := range t.Steps {
		if s.Result != nil {
			if all == nil {
				all = make(map[string]json.RawMessage, len(t.Steps))
			}
			all[s.ID] = s.Result
		}
	}
	return all
}

// Op returns the next operation of a step, by the state of the transaction.
func (t *Txn) Op(s *Step) barrier.Op {
	switch {
	case t.State == saga.Cancelling || t.State == saga.Cancelled:
		return barrier.Cancel
	case t.State != saga.Confirming && t.State != saga.Confirmed:
		return barrier.Try
	case s.Role == txlog.RoleAfter:
		return barrier.Apply
	default:
		return barrier.Confirm
	}
}

// Decide sets the state of the decision. Steps that have nothing to cancel are done.
func (t *Txn) Decide(state saga.State) {
	if state.Decided() && !t.State.Decided() {
		t.Attention = "" // of the undecided transaction
	}
	t.State = state
	if state != saga.Cancelling {
		return
	}
	for _, s := range t.Steps {
		if s.Role == txlog.RoleAfter || s.Role == txlog.RoleDecides {
			s.Done = true
		}
	}
}

// Before returns the steps that are tried before the decision. The caller does not change the
// slice: without an order, it is that of all steps.
func (t *Txn) Before() []*Step {
	if len(t.Steps) == 0 || t.Steps[0].Stage == 0 {
		return t.Steps
	}
	before, _ := Split(t.Steps, func(s *Step) bool { return s.Role != txlog.RoleAfter && s.Role != txlog.RoleDecides })
	return before
}

// Deciding returns the step whose Try decides, or nil.
func (t *Txn) Deciding() *Step {
	for _, s := range t.Steps {
		if s.Role == txlog.RoleDecides {
			return s
		}
	}
	return nil
}

// HasRole reports whether a step has the role.
func (t *Txn) HasRole(role string) bool {
	return slices.ContainsFunc(t.Steps, func(s *Step) bool { return s.Role == role })
}

// SetResults sets the results of all steps to those that are stored.
func (t *Txn) SetResults(stored []result.Result) {
	for _, s := range t.Steps {
		s.Result = nil
		for _, r := range stored {
			if r.BranchID == s.ID {
				s.Result = r.JSON
			}
		}
	}
}

// Results returns the results of steps, to be stored.
func (t *Txn) Results(steps []*Step) (all []result.Result) {
	for _, s := range steps {
		if s.Result != nil {
			all = append(all, result.Result{Key: barrier.Key{GID: t.GID, BranchID: s.ID}, JSON: s.Result})
		}
	}
	return all
}

// Rows returns the branches as the log holds them.
func (t *Txn) Rows() []txlog.Branch {
	rows := make([]txlog.Branch, len(t.Steps))
	for i, s := range t.Steps {
		rows[i] = s.Row(t.GID)
	}
	return rows
}

// EndsWithDecision reports whether the Confirm of a resident step is in the commit that
// decides.
func (s *Step) EndsWithDecision() bool {
	return s.Role != txlog.RoleAfter && s.Role != txlog.RoleDecides && s.Branch.ConfirmsInLog()
}

// Row returns the branch as the log holds it.
func (s *Step) Row(gid string) txlog.Branch {
	return txlog.Branch{GID: gid, ID: s.ID, Kind: s.Kind, Payload: string(s.Payload), Stage: s.Stage, Role: s.Role}
}

// Split returns the steps for which keep is true, and the others, both in order.
func Split(steps []*Step, keep func(*Step) bool) (kept, rest []*Step) {
	for _, s := range steps {
		if keep(s) {
			kept = append(kept, s)
		} else {
			rest = append(rest, s)
		}
	}
	return kept, rest
}

// Digest identifies a plan: pattern, kinds and payloads, in order. The hash includes the
// length of each part, so that different plans have different input.
func (t *Txn) Digest(pattern string) string {
	hash := sha256.New()
	part := func(text string) { fmt.Fprintf(hash, "%d:%s", len(text), text) }
	part(pattern)
	for _, s := range t.Steps {
		part(s.Kind)
		part(string(s.Payload))
		if s.Stage != 0 {
			part(fmt.Sprint(s.Stage, " ", s.Role))
		}
	}
	return hex.EncodeToString(hash.Sum(nil))
}
