package tcc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/tcc/internal/shape"
)

// kindOf returns the kind of branch that takes P, and the form of its JSON. It
// refuses a type that JSON cannot store without loss.
func kindOf[P Payload]() (kind string, form *shape.Shape, err error) {
	if form, err = formOf[P]("payload"); err != nil {
		return "", nil, err
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("register: the method Branch of the zero %s panics: %v: %w", reflect.TypeFor[P](), p, saga.ErrInvalid)
		}
	}()
	var zero P
	return zero.Branch(), form, nil
}

func formOf[T any](role string) (*shape.Shape, error) {
	t := reflect.TypeFor[T]()
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("register: the %s %s is a %s, it must be a struct: %w", role, t, t.Kind(), saga.ErrInvalid)
	}
	form, err := shape.Of(t)
	if err != nil {
		return nil, fmt.Errorf("register: the %s %w: %w", role, err, saga.ErrInvalid)
	}
	return form, nil
}

// encoder returns an Encode of a [saga.Branch] for inputs of the type T.
func encoder[T any]() func(input any) ([]byte, error) {
	return func(input any) ([]byte, error) {
		in, ok := input.(T)
		if !ok {
			return nil, fmt.Errorf("the payload is a %T, but the branch takes a %T", input, in)
		}
		return encode("payload", &in)
	}
}

func encode(role string, value any) ([]byte, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	return text, checkUTF8(role, text)
}

// Decoder turns the stored payload of a call into the input of a branch.
type Decoder[P any] func(call saga.Call) (P, error)

// decoderOf returns the decoder for payloads that were stored as a T.
func decoderOf[T any](form *shape.Shape, allowUnknown bool) Decoder[T] {
	return func(call saga.Call) (in T, err error) {
		if err = json.Unmarshal(call.Payload, &in); err == nil {
			err = form.Check(call.Payload, allowUnknown)
		}
		if err != nil {
			return in, fmt.Errorf("the stored payload of %s, %s, does not fit the type %T: %w: "+
				"give the changed type its own kind and register the older type with tcc.Upgrade, or run the version that has this type",
				call.Kind, call.Key(), in, err)
		}
		return in, nil
	}
}

// Codec turns values of the type T into JSON and back, without loss. It is for packages that
// write typed branches of another pattern, such as package action, which uses it for results.
type Codec[T any] struct{ form *shape.Shape }

// CodecOf returns the codec of a type. It refuses a type that JSON cannot store without loss.
func CodecOf[T any]() (Codec[T], error) {
	form, err := shape.Of(reflect.TypeFor[T]())
	if err != nil {
		err = fmt.Errorf("%w: %w", err, saga.ErrInvalid)
	}
	return Codec[T]{form}, err
}

// Encode returns the JSON of a value.
func (c Codec[T]) Encode(value T) ([]byte, error) { return encode("value", &value) }

// Decode returns the value of a JSON text. It ignores fields that the type does not have, and
// refuses everything else that the type would lose; see [Payload].
func (c Codec[T]) Decode(text []byte) (value T, err error) {
	if err = json.Unmarshal(text, &value); err == nil {
		err = c.form.Check(text, true)
	}
	return value, err
}

// isNil reports whether an interface is nil, or holds a nil pointer.
func isNil(v any) bool {
	value := reflect.ValueOf(v)
	return !value.IsValid() || value.Kind() == reflect.Pointer && value.IsNil()
}

// checkUTF8 finds text that encoding/json has silently changed: encoding/json writes the
// escape \ufffd only for bytes that are not UTF-8.
func checkUTF8(role string, text []byte) error {
	for rest := text; ; {
		i := bytes.Index(rest, []byte(`\ufffd`))
		if i < 0 {
			return nil
		}
		before := len(rest[:i]) - len(bytes.TrimRight(rest[:i], `\`))
		if before%2 == 0 {
			return fmt.Errorf("a string of the %s is not UTF-8, which JSON cannot hold: use []byte", role)
		}
		rest = rest[i+1:]
	}
}
