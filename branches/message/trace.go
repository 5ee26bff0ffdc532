package message

import (
	"maps"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/propagation"
)

// propagatorOr returns p, or the default.
func propagatorOr(p propagation.TextMapPropagator) propagation.TextMapPropagator {
	if p != nil {
		return p
	}
	return propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})
}

// carrier stores the trace context in the headers of a message. It accepts names in any
// case, as HTTP does: the NATS server changes the name Traceparent to lower case, and
// other programs use other cases.
type carrier map[string][]string

func (c carrier) Get(key string) string {
	for name, values := range c {
		if strings.EqualFold(name, key) && len(values) > 0 {
			return values[0]
		}
	}
	return ""
}

func (c carrier) Set(key, value string) {
	maps.DeleteFunc(c, func(name string, _ []string) bool { return strings.EqualFold(name, key) })
	c[key] = []string{value}
}

func (c carrier) Keys() []string { return slices.Collect(maps.Keys(c)) }
