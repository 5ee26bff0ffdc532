package tcc

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"github.com/tccsaga/tccsaga/saga"
)

// kindOf returns the kind of branch that takes P, and refuses a type that would
// not come back from JSON as it was.
func kindOf[P Payload]() (kind string, err error) {
	t := reflect.TypeFor[P]()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("tcc: register: the method Branch of the zero %s panics: %v: %w", t, p, saga.ErrInvalid)
		}
	}()
	if t.Kind() != reflect.Struct {
		return "", fmt.Errorf("tcc: register: the payload %s is a %s, it must be a struct: %w", t, t.Kind(), saga.ErrInvalid)
	}
	if err := usable(t, t.String(), map[reflect.Type]bool{}); err != nil {
		return "", fmt.Errorf("tcc: register: the payload %w: %w", err, saga.ErrInvalid)
	}
	var zero P
	return zero.Branch(), nil
}

var (
	jsonMarshaler   = reflect.TypeFor[json.Marshaler]()
	jsonUnmarshaler = reflect.TypeFor[json.Unmarshaler]()
	textMarshaler   = reflect.TypeFor[encoding.TextMarshaler]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// usable says which part of a type, reached by path, would be lost.
func usable(t reflect.Type, path string, seen map[reflect.Type]bool) error {
	if seen[t] || marshalsItself(t) {
		return nil
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Chan, reflect.Func, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer:
		return fmt.Errorf("%s is a %s, which JSON cannot hold", path, t.Kind())
	case reflect.Interface:
		return fmt.Errorf("%s is an interface, whose type JSON forgets", path)
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return usable(t.Elem(), path, seen)
	case reflect.Map:
		if k := t.Key().Kind(); k != reflect.String && (k < reflect.Int || k > reflect.Uint64) && !marshalsItself(t.Key()) {
			return fmt.Errorf("%s is a map whose keys JSON cannot hold", path)
		}
		return usable(t.Elem(), path, seen)
	case reflect.Struct:
		return usableFields(t, path, seen)
	}
	return nil
}

func usableFields(t reflect.Type, path string, seen map[reflect.Type]bool) error {
	for i := range t.NumField() {
		field := t.Field(i)
		name := path + "." + field.Name
		switch {
		case field.Anonymous && field.Type.Kind() == reflect.Struct:
			// JSON promotes its fields, also those of an unexported type.
		case !field.IsExported():
			return fmt.Errorf("has the unexported field %s, which would be lost: export it", name)
		case field.Tag.Get("json") == "-":
			return fmt.Errorf(`has the field %s with the tag json:"-", which would be lost`, name)
		}
		if err := usable(field.Type, name, seen); err != nil {
			return err
		}
	}
	return nil
}

func marshalsItself(t reflect.Type) bool {
	pointer := reflect.PointerTo(t)
	return t.Implements(jsonMarshaler) && pointer.Implements(jsonUnmarshaler) ||
		t.Implements(textMarshaler) && pointer.Implements(textUnmarshaler)
}

// isNil reports whether an interface holds nothing, or a nil pointer.
func isNil(v any) bool {
	value := reflect.ValueOf(v)
	return !value.IsValid() || value.Kind() == reflect.Pointer && value.IsNil()
}

// checkUTF8 finds text that encoding/json has silently changed: it writes the
// escape \ufffd for bytes that are not UTF-8, and only for these.
func checkUTF8(text []byte) error {
	for rest := text; ; {
		i := bytes.Index(rest, []byte(`\ufffd`))
		if i < 0 {
			return nil
		}
		before := len(rest[:i]) - len(bytes.TrimRight(rest[:i], `\`))
		if before%2 == 0 {
			return errors.New("a string of the payload is not UTF-8, which JSON cannot hold: use []byte")
		}
		rest = rest[i+1:]
	}
}
