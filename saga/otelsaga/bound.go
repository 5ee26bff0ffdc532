package otelsaga

import (
	"cmp"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// maxNames is the most values of an attribute whose values are names of users, such as kinds of
// branches.
const maxNames = 200

// other is the value of an attribute beyond maxNames, and none that of an empty name.
const (
	other = "other"
	none  = "none"
)

// names are the values of an attribute. Values beyond the first maxNames become one. It is safe
// for concurrent use.
type names struct {
	known sync.Map // of string
	mu    sync.Mutex
	n     int
}

// of returns the value of the attribute for a name.
func (n *names) of(name string) string {
	name = cmp.Or(name, none)
	if _, known := n.known.Load(name); known {
		return name
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, known := n.known.Load(name); known {
		return name
	}
	if n.n >= maxNames {
		return other
	}
	n.n++
	n.known.Store(name, nil)
	return name
}

// attributes are the sets of attributes of one metric, each made once. All values come from
// closed lists and from names, so there is a limit to their number. It is safe for concurrent
// use.
type attributes struct {
	keys []string
	sets sync.Map // of values to metric.MeasurementOption
}

// values are the values of at most three attributes.
type values [3]string

func newAttributes(keys ...string) *attributes { return &attributes{keys: keys} }

// of returns the option that adds the set with these values.
func (a *attributes) of(v values) metric.MeasurementOption {
	if set, known := a.sets.Load(v); known {
		return set.(metric.MeasurementOption)
	}
	pairs := make([]attribute.KeyValue, len(a.keys))
	for i, key := range a.keys {
		pairs[i] = attribute.String(key, v[i])
	}
	set, _ := a.sets.LoadOrStore(v, metric.WithAttributeSet(attribute.NewSet(pairs...)))
	return set.(metric.MeasurementOption)
}
