package txn

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
)

// Step is a branch of a transaction in memory.
type Step struct {
	ID      string
	Kind    string
	Payload []byte
	Branch  *Branch       // nil if the kind is not registered here
	Done    bool          // confirmed or cancelled
	Failed  int           // failed attempts of its Confirm or Cancel
	Wait    time.Duration // until the next attempt

	BatchError error  // why its Confirm failed in a decide batch; it counts as the first attempt
	WaitReason string // why it waits, if it does not wait for its next attempt
}

// Txn is a transaction in memory.
type Txn struct {
	GID    string
	Caller string // the log's id, which names the engine in the barrier
	State  saga.State
	Epoch  int64
	Steps  []*Step
	Next   time.Duration // after a round that did not finish it: until it is due again

	Planned   bool      // it was begun with a plan, so it has branches
	Fresh     bool      // this process has just committed its Trys: the first calls are due without a read of the barrier
	Decided   time.Time // approximate, by this process's clock
	Attention string    // why it was raised to attention; empty if it was not
}

// Known reports whether the kinds of all branches are registered here.
func (t *Txn) Known() bool {
	return !slices.ContainsFunc(t.Steps, func(s *Step) bool { return s.Branch == nil })
}

// Call returns the next call of a step.
func (t *Txn) Call(s *Step, op barrier.Op) saga.Call {
	return saga.Call{GID: t.GID, BranchID: s.ID, Kind: s.Kind, Op: op, Caller: t.Caller, Attempt: s.Failed + 1, Payload: s.Payload}
}

// Rows returns the branches as the log holds them.
func (t *Txn) Rows() []txlog.Branch {
	rows := make([]txlog.Branch, len(t.Steps))
	for i, s := range t.Steps {
		rows[i] = s.Row(t.GID)
	}
	return rows
}

// Row returns the branch as the log holds it.
func (s *Step) Row(gid string) txlog.Branch {
	return txlog.Branch{GID: gid, ID: s.ID, Kind: s.Kind, Payload: string(s.Payload)}
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
	}
	return hex.EncodeToString(hash.Sum(nil))
}
