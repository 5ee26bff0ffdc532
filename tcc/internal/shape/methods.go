package shape

import (
	"encoding"
	"encoding/json"
	"reflect"
)

var (
	jsonWriter = reflect.TypeFor[json.Marshaler]()
	jsonReader = reflect.TypeFor[json.Unmarshaler]()
	textWriter = reflect.TypeFor[encoding.TextMarshaler]()
	textReader = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// writes reports whether a type has a method that writes its JSON.
func writes(t reflect.Type) bool { return t.Implements(jsonWriter) || t.Implements(textWriter) }

// textOnly reports whether the JSON of a type is always a string.
func textOnly(t reflect.Type) bool { return !reflect.PointerTo(t).Implements(jsonWriter) }

// isText reports whether values of a type can be keys of a JSON object.
func isText(t reflect.Type) bool {
	return t.Implements(textWriter) && reflect.PointerTo(t).Implements(textReader)
}
