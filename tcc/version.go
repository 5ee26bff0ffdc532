package tcc

import (
	"fmt"

	"github.com/tccsaga/tccsaga/saga"
)

// Option changes which stored payloads a registered branch takes, or how it is called. [Alias],
// [Upgrade], [AllowUnknownFields] and [AsAction] return options.
type Option[P Payload] struct {
	name         string // of the function that returned it, for errors
	kind         string
	version      func(allowUnknown bool) (Version[P], error) // nil if it adds no kind
	allowUnknown bool
	remote       bool // RegisterRemote accepts it
	action       bool
}

// Alias lets the branch also take transactions of another kind with the same payload. Use
// it to rename a kind.
//
//	tcc.Register(engine, Credit{}, tcc.Alias[HoldCredit]("credit.reserve"))
func Alias[P Payload](kind string) Option[P] {
	return Option[P]{name: "Alias", kind: kind, remote: true, version: func(allowUnknown bool) (Version[P], error) {
		form, err := formOf[P]("payload")
		return Version[P]{kind, encoder[P](), decoderOf[P](form, allowUnknown)}, err
	}}
}

// Upgrade lets the branch also take transactions of the kind of another version of its
// payload. The stored payload is read as an Old, as strictly as any payload. Before each
// call, the function upgrade converts it.
//
// Try, Confirm and Cancel of one transaction each convert the payload, perhaps in
// different processes. So upgrade has to return the same result every time. If it returns
// an error, the call fails with this error.
//
// If Old is a [Payload], new transactions may still use it. See the package documentation
// for how to introduce a version while an older one is running.
func Upgrade[P Payload, Old any](kind string, upgrade func(Old) (P, error)) Option[P] {
	return Option[P]{name: "Upgrade", kind: kind, version: func(bool) (Version[P], error) {
		form, err := formOf[Old]("older payload")
		if err == nil && upgrade == nil {
			err = fmt.Errorf("register: the function to upgrade from %q is nil: %w", kind, saga.ErrInvalid)
		}
		old := decoderOf[Old](form, false)
		decode := func(call saga.Call) (in P, err error) {
			stored, err := old(call)
			if err != nil {
				return in, err
			}
			in, err = upgrade(stored)
			if err != nil {
				err = fmt.Errorf("upgrading the stored payload of %s, %s, to %T: %w", call.Kind, call.Key(), in, err)
			}
			return in, err
		}
		return Version[P]{kind, encoder[Old](), decode}, err
	}}
}

// AllowUnknownFields lets the branch take stored payloads with fields that its type does
// not have. It ignores them. Use it for a version that has to run beside a newer one and
// does not need the new fields. A field with a name that differs only in case is still
// refused.
func AllowUnknownFields[P Payload]() Option[P] {
	return Option[P]{name: "AllowUnknownFields", allowUnknown: true}
}

// AsAction makes the Try of the branch final: it does the work for good. Confirm does nothing,
// and the branch is not called. If the transaction is cancelled, Cancel compensates the work.
// A branch that decides has to be an action; see [Deciding]. A branch with a [Deliverer]
// cannot be one.
func AsAction[P Payload]() Option[P] {
	return Option[P]{name: "AsAction", action: true, remote: true}
}

// Version is one of the kinds that a branch takes; see [RegisterKinds].
type Version[P Payload] struct {
	Kind   string
	Encode saga.Encoder
	Decode Decoder[P]
}

// versionsOf returns the kinds that a branch takes. The first one is its own: the kind
// of its payload, unless b is [Named].
func versionsOf[P Payload](b any, options []Option[P]) ([]Version[P], error) {
	kind, form, err := kindOf[P]()
	if err != nil {
		return nil, err
	}
	if named, ok := b.(Named); ok && !isNil(b) {
		kind = named.Kind()
	}
	allowUnknown := false
	for _, o := range options {
		allowUnknown = allowUnknown || o.allowUnknown
	}
	versions := []Version[P]{{kind, encoder[P](), decoderOf[P](form, allowUnknown)}}
	known := map[string]bool{kind: true}
	for _, o := range options {
		switch {
		case o.name == "":
			return nil, fmt.Errorf("register %s: an option is empty: %w", kind, saga.ErrInvalid)
		case o.version == nil:
			continue
		case known[o.kind]:
			return nil, fmt.Errorf("register %s: %s names the kind %q, which the branch has already: %w", kind, o.name, o.kind, saga.ErrInvalid)
		}
		known[o.kind] = true
		v, err := o.version(allowUnknown)
		if err != nil {
			return nil, err
		}
		versions = append(versions, v)
	}
	return versions, nil
}
