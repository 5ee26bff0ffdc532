package nested

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/tcc"
)

// Branch is a kind of branch whose branches are nested transactions.
type Branch[P tcc.Payload] struct {
	// Child is the engine that runs the nested transactions. It may be the engine of the
	// parent. Required.
	Child saga.ChildEngine

	// Plan returns the payloads of the branches of the nested transaction, one for each
	// branch, in the order of their Trys. Its error fails the Try: return [tcc.Reject] for a
	// business reason. Plan is called again if the Try is repeated, perhaps in another
	// process, and has to return the same payloads for the same input. Otherwise the Try
	// fails. Plan has no effects of its own. Required.
	Plan func(ctx context.Context, in P) ([]tcc.Payload, error)

	// Timeout is how long the nested transaction may take until it is prepared. Then it is
	// cancelled, if it is not prepared. Defaults to the one that the engine has for opened
	// transactions. The deadline of the parent, and the CallTimeout of the parent's engine,
	// bound the Try as well.
	Timeout time.Duration
}

// Register registers a kind of branch whose Try begins a nested transaction on b.Child, tries
// its branches, and prepares it. Its Confirm and Cancel decide the nested transaction. See the
// documentation of the package. Engine is the engine of the parent, or a participant, such as
// a [github.com/tccsaga/tccsaga/saga/remote.Host], if the parent is in another service.
//
// The options are those of [tcc.Register]. The error wraps [saga.ErrInvalid] if b is not
// complete, or if the kind is registered already.
func Register[P tcc.Payload](engine saga.Registrar, b Branch[P], options ...tcc.Option[P]) error {
	switch {
	case b.Child == nil:
		return fmt.Errorf("nested: register: the Child is nil: %w", saga.ErrInvalid)
	case b.Plan == nil:
		return fmt.Errorf("nested: register: the Plan is nil: %w", saga.ErrInvalid)
	case b.Timeout < 0:
		return fmt.Errorf("nested: register: the Timeout is negative: %s: %w", b.Timeout, saga.ErrInvalid)
	}
	return tcc.RegisterService(engine, func(decode func(saga.Call) (P, error)) saga.Remote {
		return &service[P]{branch: b, decode: decode}
	}, options...)
}

// service makes the calls of the branches: it translates them for the engine of the nested
// transactions.
type service[P tcc.Payload] struct {
	branch Branch[P]
	decode func(saga.Call) (P, error)
}

var _ saga.Nesting = (*service[tcc.Payload])(nil)

// ChildGID returns the gid of the nested transaction that is the branch.
func (s *service[P]) ChildGID(branch barrier.Key) string { return GID(branch) }

// Call makes one call of a branch.
func (s *service[P]) Call(ctx context.Context, call saga.Call) error {
	gid, parent := GID(call.Key()), call.IdempotencyKey()
	switch call.Op {
	case barrier.Try:
		return s.try(ctx, gid, parent, call)
	case barrier.Confirm:
		return s.branch.Child.ConfirmNested(ctx, gid, parent)
	case barrier.Cancel:
		return s.branch.Child.CancelNested(ctx, gid, parent)
	}
	return fmt.Errorf("nested: %s of %s: unknown operation", call.Op, call.Key())
}

// try runs the first phase of the nested transaction. Each of its steps succeeds if it was
// done before, so a repeated Try continues where the last one ended.
func (s *service[P]) try(ctx context.Context, gid, parent string, call saga.Call) error {
	in, err := s.decode(call)
	if err != nil {
		return err
	}
	payloads, err := s.branch.Plan(ctx, in)
	if err != nil {
		return err
	}
	for i, payload := range payloads {
		if payload == nil {
			return fmt.Errorf("nested: the Plan of %s returned no payload %d for %s: %w", call.Kind, i+1, call.Key(), saga.ErrInvalid)
		}
	}
	if err = s.tryAll(ctx, gid, parent, payloads); errors.Is(err, saga.ErrCancelled) {
		// As the barrier says it of a Try that comes too late.
		return fmt.Errorf("%w: %w", err, barrier.ErrSuspended)
	}
	return err
}

func (s *service[P]) tryAll(ctx context.Context, gid, parent string, payloads []tcc.Payload) error {
	child := s.branch.Child
	err := child.Begin(ctx, saga.Opening{GID: gid, Timeout: s.branch.Timeout, Parent: parent})
	if errors.Is(err, saga.ErrMismatch) {
		// A Confirm or Cancel would contradict that transaction, too.
		return fmt.Errorf("%w: %w", err, barrier.ErrConflict)
	}
	if err != nil {
		return err
	}
	for i, payload := range payloads {
		step := saga.Step{Kind: payload.Branch(), Input: payload}
		if err = child.Try(ctx, gid, saga.BranchID(i+1), step); err != nil {
			return err
		}
	}
	return child.Prepare(ctx, gid, len(payloads))
}

// GID returns the gid of the nested transaction that is a branch: "gid.branch" or, if that is
// longer than a gid may be, "nested." and a hash of both.
func GID(branch barrier.Key) string {
	if gid := branch.GID + "." + branch.BranchID; len(gid) <= barrier.MaxGID {
		return gid
	}
	hash := sha256.Sum256([]byte(branch.String()))
	return "nested." + hex.EncodeToString(hash[:])
}
