package shape_test

import (
	"encoding/json"
	"math/big"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tccsaga/tccsaga/tcc/internal/shape"
)

type (
	whenever struct{ time.Time } // one field: its JSON is that of the time
	timed    struct {
		time.Time
		Name string
	}
	timedPointer struct {
		*big.Int
		Name string
	}
	ambiguous struct {
		netip.Addr
		netip.Prefix
	}
	own struct {
		time.Time
		Name string
	}
	inner    struct{ ID int }
	shadowed struct {
		inner
		ID int
	}
	both struct {
		inner
		Other otherInner `json:"ID"`
	}
	otherInner   struct{ X int }
	Promoted     struct{ Y int }
	embedsItself struct{ *embedsItself }
	Loop         struct {
		*Loop
		X int
	}
	named struct {
		inner `json:"inner"`
	}
	Named struct {
		Promoted `json:"promoted"`
	}
	writesOnly struct{ X time.Duration }
	onPointer  struct{ X int }
	tree       struct {
		Left, Right *tree
		Children    []tree
		Names       map[netip.Addr]*big.Int
		Large       big.Int
		Raw         json.RawMessage
		Quoted      float64 `json:",string"`
		Bytes       []byte
		Whenever    whenever
		Own         own
		Pointer     onPointer
		Odd         int `json:"a'b"` //nolint:staticcheck // SA5008: not a name for JSON, so it is Odd
		*Promoted
	}
)

func (own) MarshalJSON() ([]byte, error)        { return []byte(`{"own":1}`), nil }
func (*own) UnmarshalJSON([]byte) error         { return nil }
func (writesOnly) MarshalJSON() ([]byte, error) { return []byte(`"x"`), nil }
func (*onPointer) MarshalJSON() ([]byte, error) { return []byte(`"p"`), nil }
func (*onPointer) UnmarshalJSON([]byte) error   { return nil }

func TestOfRefusesWhatJSONLoses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		of   any
		says string
	}{
		"embeds a type with its own JSON":   {timed{}, "embeds time.Time"},
		"embeds a pointer to one":           {timedPointer{}, "embeds *big.Int"},
		"embeds two, of which neither wins": {ambiguous{}, "unexported field"},
		"a name twice, in an embedded one":  {shadowed{}, `JSON name "ID"`},
		"a name twice, by tag":              {both{}, `JSON name "ID"`},
		"embeds itself, unexported":         {embedsItself{}, "unexported"},
		"embeds itself":                     {Loop{}, "embeds itself"},
		"an embedded one with a name":       {named{}, "unexported field"},
		"written and never read":            {struct{ A writesOnly }{}, "only to write or only to read"},
		"methods on a pointer, in a map":    {struct{ A map[string]onPointer }{}, "use a pointer"},
		"methods on a pointer, below a map": {struct {
			A map[string]struct{ B onPointer }
		}{}, "use a pointer"},
		"keys that JSON cannot hold":         {struct{ A map[[2]int]string }{}, "keys JSON cannot hold"},
		"an interface below a map of slices": {struct{ A map[string][]any }{}, "interface"},
	} {
		if _, err := shape.Of(reflect.TypeOf(test.of)); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want %q", name, err, test.says)
		}
	}
	if _, err := shape.Of(reflect.TypeFor[Named]()); err != nil {
		t.Error(err)
	}
}

// A type is never refused what it writes itself.
func TestCheckAcceptsWhatTheTypeWrites(t *testing.T) {
	t.Parallel()
	s, err := shape.Of(reflect.TypeFor[tree]())
	if err != nil {
		t.Fatal(err)
	}
	full := tree{
		Left: &tree{Raw: json.RawMessage(`{"a":{"a":1},"b":[[],{}]}`), Promoted: &Promoted{7}}, Children: []tree{{}, {Bytes: []byte{1, 2, 255}}},
		Names:  map[netip.Addr]*big.Int{netip.MustParseAddr("::1"): big.NewInt(1), netip.MustParseAddr("::2"): nil},
		Quoted: 1e300, Raw: json.RawMessage(`null`), Whenever: whenever{time.Now()},
	}
	full.Large.SetString("123456789012345678901234567890", 10)
	for _, v := range []tree{{}, full} {
		text, err := json.Marshal(&v)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Check(text, false); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if err := s.Check([]byte(strings.Replace(string(text), `"Odd"`, `"Odder"`, 1)), false); err == nil || !strings.Contains(err.Error(), `Odder" is not in the type`) {
			t.Errorf("an unknown field: %v", err)
		}
	}
}

func TestCheckAllowsUnknownFields(t *testing.T) {
	t.Parallel()
	type order struct {
		Cents int `json:"cents"`
		Lines []inner
	}
	s, err := shape.Of(reflect.TypeFor[order]())
	if err != nil {
		t.Fatal(err)
	}
	for text, says := range map[string]string{
		`{"new":{"a":[1,"]}",{"b":null}],"c":"\"}"},"cents":1,"Lines":[{"ID":1,"more":true}],"last":-1e5}`: "",
		`{"Cents":1}`:           `"Cents" is written "cents"`,
		`{"cents":1,"cents":2}`: "twice",
		`{"new":1,"new":2}`:     "twice",
	} {
		err := s.Check([]byte(text), true)
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%s: %v, want %q", text, err, says)
		}
	}
}

// Any JSON is passed over to its end or refused, and never leads to a panic.
func FuzzCheck(f *testing.F) {
	s, err := shape.Of(reflect.TypeFor[tree]())
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range []string{`{"Left":{"Raw":{}}}`, `{"Children":[{"Left":null}]}`, `[1]`, `{"Names":{"::1":1}}`, `{"x":"\\\""}`, `{"Quoted":"1"}`, `"a"`, `{}`, ` {"Odd" : 1}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if json.Valid(text) {
			s.Check(text, false)
			s.Check(text, true)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	type item struct {
		SKU      string `json:"sku"`
		Quantity int64  `json:"quantity"`
	}
	type lock struct {
		Items []item `json:"items"`
	}
	s, err := shape.Of(reflect.TypeFor[lock]())
	if err != nil {
		b.Fatal(err)
	}
	text := []byte(`{"items":[{"sku":"phone","quantity":1},{"sku":"cable","quantity":2}]}`)
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var l lock
			json.Unmarshal(text, &l)
		}
	})
	b.Run("check", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.Check(text, false)
		}
	})
}
