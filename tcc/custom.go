package tcc

import (
	"context"

	"github.com/tccsaga/tccsaga/saga"
)

// Typed is a kind of branch with payloads of the type P, for a package that makes branches of
// a form of its own, such as package xa. See [RegisterTyped].
type Typed[P Payload] struct {
	Kind   string
	Encode saga.Encoder

	decode decoder[P]
}

// Input returns the input of a call, and the context for the user's code: [CallOf] finds the
// call in it.
func (t Typed[P]) Input(ctx context.Context, call saga.Call) (context.Context, P, error) {
	in, err := t.decode(call)
	return withCall(ctx, call), in, err
}

// RegisterTyped registers the branch b of a package that makes branches of a form of its own.
// It calls form once for each kind that the branch takes, and registers the results. It checks
// payloads and options as [Register] does. Users of branches do not need it.
func RegisterTyped[P Payload](engine saga.Registrar, b any, form func(Typed[P]) saga.Branch, options ...Option[P]) error {
	return registerAll(engine, "branch", b, options, func(as version[P]) saga.Branch {
		return form(Typed[P]{as.kind, as.encode, as.decode})
	})
}
