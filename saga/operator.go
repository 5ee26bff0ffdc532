package saga

import (
	"errors"
	"time"
)

// Operator names a person who acts on a transaction by hand, and the reason. Both are required.
// Who has at most 128 characters, and Why at most 1,024. They are recorded in the same local
// transaction as the action, and Lookup shows them.
type Operator struct {
	Who string `json:"who"`
	Why string `json:"why"`
}

// ErrRefused is wrapped when an operator's act would have no effect or break a promise. The
// error says why. Nothing was written.
var ErrRefused = errors.New("refused")

// Action is an act of an operator on a transaction, on one of its branches, or on a kind of
// branch.
type Action struct {
	Name string `json:"act"` // retry, pause, resume, confirm, cancel or resolve
	Operator
	BranchID string    `json:"branch_id,omitempty"` // of a resolve
	Believed State     `json:"believed,omitempty"`  // of a resolve: the result of the branch
	At       time.Time `json:"at"`
}
