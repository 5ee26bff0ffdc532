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
)

// Verdict says what a branch call has to do. The zero Verdict is none: it
// comes with an error.
type Verdict string

// The verdicts.
const (
	// Run: do the work of the operation, in this local transaction.
	Run Verdict = "run"
	// Duplicate: the operation was done before; do nothing, and succeed.
	Duplicate Verdict = "duplicate"
	// Suspended: a Try that comes after its Cancel; do nothing, and fail. It
	// comes with ErrSuspended.
	Suspended Verdict = "suspended"
	// EmptyRollback: a Cancel without a Try; there is nothing to give back. Do
	// nothing, and succeed.
	EmptyRollback Verdict = "empty rollback"
	// Conflict: a Confirm without a Try or after a Cancel, a Cancel after a
	// Confirm, or a call of another caller, kind or input than the row was
	// written for; do nothing, and fail. It comes with ErrConflict.
	Conflict Verdict = "conflict"
)

// ErrSuspended is wrapped by the error of a Try that came after its Cancel.
var ErrSuspended = errors.New("the branch was cancelled before this Try came: it is suspended and the Try refused")

// ErrConflict is wrapped by the error of a call that contradicts what the barrier
// knows of the branch: what it has done, whose it is, of which kind, or with which
// input. A repetition does not help; a person has to look.
var ErrConflict = errors.New("the call contradicts what the branch has done")

// Key names a branch of a transaction.
type Key struct {
	GID      string `json:"gid"`       // the transaction, at most MaxGID characters
	BranchID string `json:"branch_id"` // the branch within it, at most MaxBranchID characters
}

// Request is one call of a branch, as the barrier has to know it.
type Request struct {
	Key
	Op Op

	// Caller names the engine whose call it is: the id of its log, the same for
	// all its instances; at most MaxCaller characters. Two engines that use the
	// same gid are told apart by it. Empty if the caller does not say.
	Caller string

	// Kind is the kind of branch, and Input the payload of the call. All calls
	// of one branch have the same.
	Kind  string
	Input []byte
}

// MaxCaller is the most characters of a [Request.Caller], MaxKind of a Kind.
const (
	MaxCaller = 128
	MaxKind   = 64
)

// Validate says what is wrong with the request, if anything.
func (r Request) Validate() error {
	if err := r.Key.Validate(); err != nil {
		return err
	}
	switch r.Op {
	case Try, Confirm, Cancel:
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

// NoCaller is the [Row.Caller] of a call that did not say whose it is. A row from
// before the barrier knew callers has none at all.
const NoCaller = "-"

func (r Request) caller() string { return cmp.Or(r.Caller, NoCaller) }

// Digest is what a barrier row keeps of an input: the first half of its SHA-256,
// in hexadecimal.
func Digest(input []byte) string {
	sum := sha256.Sum256(input)
	return hex.EncodeToString(sum[:len(sum)/2])
}

// Limits of the parts of a [Key], in characters. Both are non-empty printable
// ASCII without spaces, because they stand in logs, URLs and message ids.
const (
	MaxGID      = 128
	MaxBranchID = 32
)

// String returns "gid/branch".
func (k Key) String() string { return k.GID + "/" + k.BranchID }

// Validate says what is wrong with the key, if anything.
func (k Key) Validate() error {
	if err := validateID("gid", k.GID, MaxGID); err != nil {
		return err
	}
	return validateID("branch id", k.BranchID, MaxBranchID)
}

// ValidateGID says what is wrong with a transaction's gid, if anything.
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
