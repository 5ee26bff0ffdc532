package saga

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
)

// step is a branch of a transaction that is being driven.
type step struct {
	id      string
	kind    string
	payload []byte
	branch  *branch       // nil if the kind is not registered here
	done    bool          // confirmed or cancelled
	failed  int           // attempts of the operation under way that have failed
	wait    time.Duration // until it is to be called again
	early   error         // why it failed just now, before the round; it counts as a call of the round
	held    string        // why it waits, if it is not for its next attempt
}

// txn is a transaction that is being driven.
type txn struct {
	gid    string
	caller string // the log's id, which the barrier knows the engine by
	state  State
	epoch  int64
	steps  []*step
	next   time.Duration // after a round that failed: until it is due again

	planned   bool      // it was begun with a plan, and so has branches
	fresh     bool      // its Trys were committed by this process just now: the barrier need not be asked
	decided   time.Time // about when, on this process's clock
	attention string    // why it was raised to attention; empty if it was not
}

// known reports whether the kinds of all branches are registered here.
func (t *txn) known() bool {
	return !slices.ContainsFunc(t.steps, func(s *step) bool { return s.branch == nil })
}

// call is the next call of a step.
func (t *txn) call(s *step, op barrier.Op) Call {
	return Call{GID: t.gid, BranchID: s.id, Kind: s.kind, Op: op, Caller: t.caller, Attempt: s.failed + 1, Payload: s.payload}
}

// rows are the branches as the log holds them.
func (t *txn) rows() []txlog.Branch {
	rows := make([]txlog.Branch, len(t.steps))
	for i, s := range t.steps {
		rows[i] = s.row(t.gid)
	}
	return rows
}

func (s *step) row(gid string) txlog.Branch {
	return txlog.Branch{GID: gid, ID: s.id, Kind: s.kind, Payload: string(s.payload)}
}

// split separates the steps by what keep says, both in order.
func split(steps []*step, keep func(*step) bool) (kept, rest []*step) {
	for _, s := range steps {
		if keep(s) {
			kept = append(kept, s)
		} else {
			rest = append(rest, s)
		}
	}
	return kept, rest
}

// BranchID returns the id of the n-th branch of a plan, from 1: "01", "02", ...
func BranchID(n int) string { return fmt.Sprintf("%02d", n) }

// newStep checks and encodes one branch.
func (o *Orchestrator) newStep(gid, id string, s Step) (*step, error) {
	key := barrier.Key{GID: gid, BranchID: id}
	if err := key.Validate(); err != nil {
		return nil, invalid("%w", err)
	}
	b, err := o.branch(s.Kind)
	if err != nil {
		return nil, invalid("branch %s: %w", id, err)
	}
	payload, err := b.Encode(s.Input)
	if err != nil {
		return nil, invalid("branch %s, %s: %w", id, s.Kind, err)
	}
	if len(payload) > o.config.MaxPayload {
		return nil, invalid("branch %s, %s: its input has %d bytes as JSON, Config.MaxPayload allows %d", id, s.Kind, len(payload), o.config.MaxPayload)
	}
	return &step{id: id, kind: s.Kind, payload: payload, branch: b}, nil
}

// prepare checks and encodes a plan.
func (o *Orchestrator) prepare(p Plan) (*txn, error) {
	if err := barrier.ValidateGID(p.GID); err != nil {
		return nil, invalid("%w", err)
	}
	if err := checkPattern(p.Pattern); err != nil {
		return nil, invalid("%s: %w", p.GID, err)
	}
	if len(p.Steps) == 0 || len(p.Steps) > MaxBranches {
		return nil, invalid("%s: the plan has %d branches, it needs 1 to %d", p.GID, len(p.Steps), MaxBranches)
	}
	t := &txn{gid: p.GID, caller: o.logID, epoch: 1}
	bytes := 0
	for i, s := range p.Steps {
		prepared, err := o.newStep(p.GID, BranchID(i+1), s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.GID, err)
		}
		t.steps = append(t.steps, prepared)
		bytes += len(prepared.payload)
	}
	if bytes > o.config.MaxBytes {
		return nil, invalid("%s: the payloads of its branches have %d bytes, Config.MaxBytes allows %d", p.GID, bytes, o.config.MaxBytes)
	}
	return t, nil
}

// refusePaused refuses to try steps of which an operator has paused the kind.
func (o *Orchestrator) refusePaused(steps []*step) error {
	for _, s := range steps {
		if o.paused.has(s.kind) {
			return fmt.Errorf("branch %s, %s: %w", s.id, s.kind, ErrPaused)
		}
	}
	return nil
}

// checkPattern keeps the name of a pattern within its column.
func checkPattern(pattern string) error {
	if len(pattern) > 16 {
		return fmt.Errorf("the pattern %q has %d characters, 16 are allowed", pattern, len(pattern))
	}
	return nil
}

// digest identifies a plan: pattern, kinds and payloads, in order. Each part
// goes in with its length, so that no two plans read alike.
func (t *txn) digest(pattern string) string {
	hash := sha256.New()
	part := func(text string) { fmt.Fprintf(hash, "%d:%s", len(text), text) }
	part(pattern)
	for _, s := range t.steps {
		part(s.kind)
		part(string(s.payload))
	}
	return hex.EncodeToString(hash.Sum(nil))
}
