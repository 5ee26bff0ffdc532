package barrier

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Op is an operation of a branch.
type Op string

// The operations.
const (
	Try     Op = "try"     // reserves
	Confirm Op = "confirm" // uses the reservation
	Cancel  Op = "cancel"  // gives the reservation back
	Apply   Op = "apply"   // does the work of a Try after the decision to confirm; it is final at once
	Ask     Op = "ask"     // asks whether the Try was committed; if it was not, it never will be
)

// Verdict says what a branch call has to do. The zero Verdict is no verdict, and
// comes with an error.
type Verdict string

// The verdicts.
const (
	// Run: do the work of the operation, in this local transaction.
	Run Verdict = "run"
	// Duplicate: the operation was done before; do nothing, and succeed. For an Ask:
	// the Try was committed.
	Duplicate Verdict = "duplicate"
	// Suspended: a Try arrived after its Cancel; do nothing, and fail. It comes
	// with ErrSuspended.
	Suspended Verdict = "suspended"
	// EmptyRollback: a Cancel without a Try; there is nothing to give back. Do
	// nothing, and succeed. For an Ask: the Try was not committed, or was cancelled,
	// and a late Try is refused.
	EmptyRollback Verdict = "empty rollback"
	// Conflict: a Confirm without a Try or after a Cancel, a Cancel after a
	// Confirm, an Apply after another operation, or a call with another caller, kind
	// or input than the row; do nothing, and fail. It comes with ErrConflict.
	Conflict Verdict = "conflict"
)

// ErrSuspended is wrapped by the error of a Try that arrived after its Cancel.
var ErrSuspended = errors.New("the branch was cancelled before this Try arrived: the Try is refused")

// ErrConflict is wrapped by the error of a call that contradicts the barrier row of
// the branch: its state, caller, kind or input. A repetition does not help; a person
// has to look.
var ErrConflict = errors.New("the call contradicts what the branch has done")

// Key names a branch of a transaction.
type Key struct {
	GID      string `json:"gid"`       // the transaction, at most MaxGID characters
	BranchID string `json:"branch_id"` // the branch within it, at most MaxBranchID characters
}

// Request describes one call of a branch to the barrier.
type Request struct {
	Key
	Op Op

	// Caller names the calling engine by the id of its log, which is the same for
	// all its instances. It has at most MaxCaller characters. It distinguishes two
	// engines that use the same gid. Empty if the caller has no name.
	Caller string

	// Kind is the kind of branch, and Input the payload of the call. Both are the
	// same in all calls of one branch.
	Kind  string
	Input []byte
}

// MaxCaller is the most characters of a [Request.Caller], and MaxKind of a
// [Request.Kind].
const (
	MaxCaller = 128
	MaxKind   = 64
)

// Validate returns an error that says what is wrong with the request, or nil.
func (r Request) Validate() error {
	if err := r.Key.Validate(); err != nil {
		return err
	}
	switch r.Op {
	case Try, Confirm, Cancel, Apply, Ask:
	default:
		return fmt.Errorf("unknown operation %q", string(r.Op))
	}
	if r.Caller != "" {
		if err := validateID("caller", r.Caller, MaxCaller); err != nil {
			return err
		}
	}
	if r.Kind != "" {
		return validateID("kind of branch", r.Kind, MaxKind)
	}
	return nil
}

// NoCaller is the [Row.Caller] of a call without a caller. A row of version 1 of the
// schema has an empty Caller.
const NoCaller = "-"

func (r Request) caller() string { return cmp.Or(r.Caller, NoCaller) }

// Digest returns the digest of an input that a barrier row keeps: the first half of
// its SHA-256, in hexadecimal.
func Digest(input []byte) string {
	sum := sha256.Sum256(input)
	return hex.EncodeToString(sum[:len(sum)/2])
}

// Limits of the parts of a [Key], in characters. Both parts are not empty. They have
// printable ASCII characters without spaces and slashes, because they appear in logs,
// URLs and message ids.
const (
	MaxGID      = 128
	MaxBranchID = 32
)

// String returns "gid/branch".
func (k Key) String() string { return k.GID + "/" + k.BranchID }

// Validate returns an error that says what is wrong with the key, or nil.
func (k Key) Validate() error {
	if err := validateID("gid", k.GID, MaxGID); err != nil {
		return err
	}
	return validateID("branch id", k.BranchID, MaxBranchID)
}

// ValidateGID returns an error that says what is wrong with the gid of a transaction,
// or nil.
func ValidateGID(gid string) error { return validateID("gid", gid, MaxGID) }

func validateID(what, id string, most int) error {
	switch {
	case id == "":
		return fmt.Errorf("the %s is empty", what)
	case len(id) > most:
		return fmt.Errorf("the %s %.20q... has %d characters, %d are allowed", what, id, len(id), most)
	case strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' }):
		return fmt.Errorf("the %s %q may hold printable ASCII characters only, without spaces and slashes", what, id)
	}
	return nil
}
