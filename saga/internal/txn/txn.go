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

// Step is a branch of a transaction that is being driven.
type Step struct {
	ID      string
	Kind    string
	Payload []byte
	Branch  *Branch       // nil if the kind is not registered here
	Done    bool          // confirmed or cancelled
	Failed  int           // attempts of the operation under way that have failed
	Wait    time.Duration // until it is to be called again
	Early   error         // why it failed just now, before the round; it counts as a call of the round
	Held    string        // why it waits, if it is not for its next attempt
}

// Txn is a transaction that is being driven.
type Txn struct {
	GID    string
	Caller string // the log's id, which the barrier knows the engine by
	State  saga.State
	Epoch  int64
	Steps  []*Step
	Next   time.Duration // after a round that failed: until it is due again

	Planned   bool      // it was begun with a plan, and so has branches
	Fresh     bool      // its Trys were committed by this process just now: the barrier need not be asked
	Decided   time.Time // about when, on this process's clock
	Attention string    // why it was raised to attention; empty if it was not
}

// Known reports whether the kinds of all branches are registered here.
func (t *Txn) Known() bool {
	return !slices.ContainsFunc(t.Steps, func(s *Step) bool { return s.Branch == nil })
}

// Call is the next call of a step.
func (t *Txn) Call(s *Step, op barrier.Op) saga.Call {
	return saga.Call{GID: t.GID, BranchID: s.ID, Kind: s.Kind, Op: op, Caller: t.Caller, Attempt: s.Failed + 1, Payload: s.Payload}
}

// Rows are the branches as the log holds them.
func (t *Txn) Rows() []txlog.Branch {
	rows := make([]txlog.Branch, len(t.Steps))
	for i, s := range t.Steps {
		rows[i] = s.Row(t.GID)
	}
	return rows
}

// Row is the branch as the log holds it.
func (s *Step) Row(gid string) txlog.Branch {
	return txlog.Branch{GID: gid, ID: s.ID, Kind: s.Kind, Payload: string(s.Payload)}
}

// Split separates the steps by what keep says, both in order.
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

// Digest identifies a plan: pattern, kinds and payloads, in order. Each part
// goes in with its length, so that no two plans read alike.
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
