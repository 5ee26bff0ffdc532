// Package shape checks which JSON a Go type takes without loss. Package encoding/json
// drops unknown fields, matches names in another case, rounds numbers and reads null as
// zero. A payload from the log must not change in this way.
package shape

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"
	"unicode"
)

// Shape is the form of the JSON of a type. It is safe for concurrent use.
type Shape struct {
	form     form
	nullable bool // null is a value of the type
	fields   map[string]field
	elem     *Shape // of a pointer, list, array or dict
	length   int    // of an array
	bits     int    // of a float
}

type form int

const (
	opaque form = iota // not checked: encoding/json, or the type itself, decides
	float
	pointer
	list
	array
	dict
	object
)

type field struct {
	index int
	shape *Shape
}

// Of returns the shape of a type, or an error that names the part of it that
// JSON would lose.
func Of(t reflect.Type) (*Shape, error) {
	return builder{}.of(t, t.String(), true)
}

// builder holds the shapes of the types that were visited: types may be recursive.
type builder map[place]*Shape

type place struct {
	reflect.Type
	addressable bool
}

// of returns the shape of the type at path. Methods with a pointer receiver count only
// if the value is addressable when it is encoded.
func (b builder) of(t reflect.Type, path string, addressable bool) (*Shape, error) {
	own, err := writesItself(t, path, addressable)
	switch {
	case err != nil:
		return nil, err
	case own:
		return &Shape{nullable: t != timeType && !textOnly(t)}, nil
	case b[place{t, addressable}] != nil:
		return b[place{t, addressable}], nil
	}
	s := &Shape{}
	b[place{t, addressable}] = s
	switch t.Kind() {
	case reflect.Chan, reflect.Func, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer:
		return nil, fmt.Errorf("%s is a %s, which JSON cannot hold", path, t.Kind())
	case reflect.Interface:
		return nil, fmt.Errorf("%s is an interface, and JSON does not store the type in it", path)
	case reflect.Float32, reflect.Float64:
		s.form, s.bits = float, t.Bits()
	case reflect.Pointer:
		s.form, s.nullable = pointer, true
		s.elem, err = b.of(t.Elem(), path, true)
	case reflect.Slice:
		s.nullable = true
		if t.Elem().Kind() == reflect.Uint8 && !writes(reflect.PointerTo(t.Elem())) {
			return s, nil // base64
		}
		s.form = list
		s.elem, err = b.of(t.Elem(), path, true)
	case reflect.Array:
		s.form, s.length = array, t.Len()
		s.elem, err = b.of(t.Elem(), path, addressable)
	case reflect.Map:
		if k := t.Key(); k.Kind() != reflect.String && (k.Kind() < reflect.Int || k.Kind() > reflect.Uintptr) && !isText(k) {
			return nil, fmt.Errorf("%s is a map whose keys JSON cannot hold", path)
		}
		s.form, s.nullable = dict, true
		s.elem, err = b.of(t.Elem(), path, false)
	case reflect.Struct:
		s.form, s.fields = object, map[string]field{}
		err = b.collect(s, t, path, addressable, map[reflect.Type]bool{})
	}
	return s, err
}

// collect adds the fields of the struct t to s, and those that t promotes from embedded
// structs. Each name may occur only once: JSON drops fields with the same name, or hides
// one of them.
func (b builder) collect(s *Shape, t reflect.Type, path string, addressable bool, within map[reflect.Type]bool) error {
	if within[t] {
		return fmt.Errorf("%s embeds itself", path)
	}
	within[t] = true
	defer delete(within, t)
	for i := range t.NumField() {
		f := t.Field(i)
		at := path + "." + f.Name
		tag := f.Tag.Get("json")
		name, options, _ := strings.Cut(tag, ",")
		if !validName(name) {
			name = ""
		}
		embedded := f.Type
		if embedded.Kind() == reflect.Pointer {
			embedded = embedded.Elem()
		}
		promotes := f.Anonymous && name == "" && embedded.Kind() == reflect.Struct
		switch {
		case tag == "-":
			return fmt.Errorf(`has the field %s with the tag json:"-", which would be lost`, at)
		case !f.IsExported() && !(promotes && f.Type.Kind() == reflect.Struct):
			return fmt.Errorf("has the unexported field %s, which would be lost: export it", at)
		case promotes:
			if err := b.collect(s, embedded, at, addressable || f.Type.Kind() == reflect.Pointer, within); err != nil {
				return err
			}
			continue
		}
		if name == "" {
			name = f.Name
		}
		if _, known := s.fields[name]; known {
			return fmt.Errorf("has several fields with the JSON name %q, one of them %s: JSON keeps at most one", name, at)
		}
		inner, err := b.of(f.Type, at, addressable)
		if err != nil {
			return err
		}
		if quoted(options) && inner.form == float {
			inner = &Shape{nullable: inner.nullable}
		}
		s.fields[name] = field{index: len(s.fields), shape: inner}
	}
	return nil
}

func quoted(options string) bool {
	for option := range strings.SplitSeq(options, ",") {
		if option == "string" {
			return true
		}
	}
	return false
}

// validName reports whether encoding/json accepts a name in a tag.
func validName(name string) bool {
	for _, r := range name {
		if !strings.ContainsRune("!#$%&()*+-./:;<=>?@[]^_{|}~ ", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return false
		}
	}
	return name != ""
}

var timeType = reflect.TypeFor[time.Time]()

// writesItself reports whether a type has its own methods to write and read its JSON.
func writesItself(t reflect.Type, path string, addressable bool) (bool, error) {
	if t.Kind() == reflect.Pointer || t.Kind() == reflect.Interface {
		return false, nil
	}
	p := reflect.PointerTo(t)
	reads := p.Implements(jsonReader) || p.Implements(textReader)
	switch {
	case !writes(p) && !reads:
		return false, nil
	case writes(p) != reads:
		return false, fmt.Errorf("%s has methods only to write or only to read its JSON: add MarshalJSON or UnmarshalJSON", path)
	case !addressable && !writes(t):
		return false, fmt.Errorf("%s is the value of a map, where JSON does not call the methods of a pointer receiver: use a pointer", path)
	}
	return true, checkPromoted(t, path)
}

// checkPromoted refuses a struct with several fields that got its JSON methods from one
// embedded field: its JSON is the JSON of this field, and the other fields are lost.
func checkPromoted(t reflect.Type, path string) (err error) {
	if t.Kind() != reflect.Struct || t.NumField() < 2 {
		return nil
	}
	defer func() {
		if recover() != nil { // the zero value cannot be written, so nothing is known
			err = nil
		}
	}()
	whole, failed := json.Marshal(reflect.New(t).Interface())
	if failed != nil {
		return nil
	}
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.Anonymous || !writes(f.Type) && !writes(reflect.PointerTo(f.Type)) {
			continue
		}
		part, failed := json.Marshal(reflect.New(f.Type).Interface())
		if failed == nil && string(part) == string(whole) {
			return fmt.Errorf("%s embeds %s, and the JSON of this field replaces the JSON of the struct: give the field a name", path, f.Type)
		}
	}
	return nil
}
