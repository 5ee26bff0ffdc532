package saga

import (
	"errors"
	"time"
)

// Operator says who does something to a transaction by hand, and why. Both are
// needed, at most 128 and 1,024 characters, and recorded with the act, in the
// same local transaction; Lookup shows them.
type Operator struct {
	Who string `json:"who"`
	Why string `json:"why"`
}

// ErrRefused is wrapped when an operator's act would do nothing or break a
// promise. The error says why. Nothing was written.
var ErrRefused = errors.New("refused")

// Action is what an operator has done to a transaction, to one of its branches, or
// to a kind of branch.
type Action struct {
	Name string `json:"act"` // retry, pause, resume, confirm, cancel or resolve
	Operator
	BranchID string    `json:"branch_id,omitempty"` // of a resolve
	Believed State     `json:"believed,omitempty"`  // of a resolve: what has become of the branch
	At       time.Time `json:"at"`
}
