package tcc_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/tcc"
)

// noDatabase is the handle of a branch that does nothing with it.
func noDatabase(t *testing.T) *gorm.DB {
	tx := &gorm.DB{Config: &gorm.Config{}}
	tx.Statement = &gorm.Statement{DB: tx, Context: t.Context()}
	return tx
}

type (
	base  struct{ Tenant string }
	price struct {
		Amount   int64  `json:"amount"`
		Currency string `json:"currency,omitempty"`
	}
	booking struct {
		base
		Seats  int     `json:"seats"`
		Price  price   `json:"price"`
		Extras []price `json:"extras"`
		By     map[string]price
		Weight float64
		Thin   float32
		At     time.Time
		Until  *time.Time
		Grid   [2]int
	}
)

func (booking) Branch() string { return "seats.book" }

// A payload in the log that the type would not take whole is refused, and the
// error says which field of which kind it is, and what to do.
func TestStoredPayloadIsDecodedStrictly(t *testing.T) {
	t.Parallel()
	c := catcher{}
	b := &kept[booking]{}
	sagatest.Must(t, tcc.Register(c, b))
	for _, test := range []struct{ name, payload, says string }{
		{"whole", `{"Tenant":"a","seats":2,"price":{"amount":7},"extras":[{"amount":1,"currency":"EUR"}],"By":{"x":{"amount":1}},` +
			`"Weight":0.1,"Thin":0.1,"At":"2026-01-02T03:04:05Z","Until":null,"Grid":[1,2]}`, ""},
		{"new fields are zero", `{"seats":2}`, ""},
		{"escaped name", `{"\u0073eats":2}`, ""},
		{"spaces", " { \"seats\" : 2 , \"Grid\" : [ 1 , 2 ] } \n", ""},
		{"a float as another language writes it", `{"Weight":1.50e+00}`, ""},
		{"unknown field", `{"seats":2,"places":3}`, `"places"`},
		{"unknown field of a nested struct", `{"price":{"amount":7,"cents":0}}`, `"price.cents"`},
		{"unknown field in a list", `{"extras":[{"amount":1},{"sum":1}]}`, `"extras[1].sum"`},
		{"unknown field in a map", `{"By":{"x":{"sum":1}}}`, `"By.x.sum"`},
		{"an embedded struct by its name", `{"base":{"Tenant":"a"}}`, `"base"`},
		{"another case", `{"Seats":2}`, `"seats"`},
		{"another case of an embedded field", `{"tenant":"a"}`, `"Tenant"`},
		{"twice", `{"seats":2,"seats":3}`, "twice"},
		{"twice in a map", `{"By":{"x":{},"x":{}}}`, "twice"},
		{"another type", `{"seats":"2"}`, "string"},
		{"a fraction", `{"seats":2.5}`, "2.5"},
		{"too large", `{"seats":9223372036854775808}`, "9223372036854775808"},
		{"a number that float64 rounds", `{"Weight":9007199254740993}`, "9007199254740993"},
		{"a number that float32 rounds", `{"Thin":0.123456789}`, "0.123456789"},
		{"null for a number", `{"seats":null}`, "null"},
		{"null for a struct", `{"price":null}`, "null"},
		{"null for a time", `{"At":null}`, "null"},
		{"null for all", `null`, "null"},
		{"a longer array", `{"Grid":[1,2,3]}`, `"Grid"`},
		{"a shorter array", `{"Grid":[1]}`, `"Grid"`},
		{"trailing data", `{"seats":2} {}`, "after top-level value"},
		{"cut off", `{"seats":2`, "unexpected end"},
		{"empty", ``, "unexpected end"},
		{"not UTF-8", "{\"Tenant\":\"\xff\"}", "UTF-8"},
	} {
		err := c.callStored(t, "seats.book", test.payload)
		switch {
		case test.says == "" && err != nil:
			t.Errorf("%s: %v", test.name, err)
		case test.says == "":
		case err == nil:
			t.Errorf("%s: accepted as %+v", test.name, b.in)
		default:
			for _, part := range []string{test.says, "seats.book", "g/07", "booking", "tcc.Upgrade"} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%s: %v, want %q in it", test.name, err, part)
				}
			}
		}
	}
}

// Whatever a type writes, it takes back: strictness refuses nothing of its own.
func FuzzStoredPayload(f *testing.F) {
	c := catcher{}
	b := &kept[booking]{}
	sagatest.Must(f, tcc.Register(c, b))
	f.Add("a", 1, int64(1<<62), 0.1, float32(0.1), "k", true)
	f.Add("<&>\u2028", -1, int64(-1<<63), 1e21, float32(1e-7), "\"\\", false)
	f.Add("", 0, int64(0), 5e-324, float32(3.4e38), "", false)
	f.Add("\ufffd", 0, int64(0), 123456789012345680000.0, float32(16777216), "a\x00", true)
	f.Fuzz(func(t *testing.T, text string, n int, m int64, x float64, y float32, key string, some bool) {
		in := booking{base: base{text}, Seats: n, Price: price{m, key}, Weight: x, Thin: y, Grid: [2]int{n, -n}}
		if some {
			now := time.Unix(m%1e9, 5).UTC()
			in.Extras, in.By, in.At, in.Until = []price{{}, {m, text}}, map[string]price{key: {m, text}, "": {}}, now, &now
		}
		payload, err := c["seats.book"].Encoder()(in)
		if err != nil {
			return // refused before it was written
		}
		if err := c.callStored(t, "seats.book", string(payload)); err != nil {
			t.Fatalf("%s: %v", payload, err)
		}
		again, err := json.Marshal(b.in)
		sagatest.Must(t, err)
		if string(again) != string(payload) {
			t.Errorf("%s came back as %s", payload, again)
		}
	})
}
