package tcc_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// Payloads that JSON would not give back as they were.
type (
	notStruct int
	//nolint:unused // it is there to be refused
	unexported struct{ cents int }
	ignored    struct {
		Cents int `json:"-"`
	}
	channel   struct{ Done chan int }
	function  struct{ Nested struct{ F func() } }
	anyField  struct{ Things []any }
	panicking struct{ Name *string }
	badKind   struct{}
	emptyKind struct{}
	fine      struct {
		At    time.Time
		Lines []struct{ SKU string }
		By    map[string]int
		Self  *fine
	}
)

func (notStruct) Branch() string   { return "test.int" }
func (unexported) Branch() string  { return "test.unexported" }
func (ignored) Branch() string     { return "test.ignored" }
func (channel) Branch() string     { return "test.channel" }
func (function) Branch() string    { return "test.function" }
func (anyField) Branch() string    { return "test.any" }
func (p panicking) Branch() string { return *p.Name }
func (badKind) Branch() string     { return "no spaces" }
func (emptyKind) Branch() string   { return "" }
func (fine) Branch() string        { return "test.fine" }

func TestRegisterRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	orch, err := embedded.Open(t.Context(), sqltest.Open(t, "sqlite"), embedded.Config{})
	must(t, err)
	cases := map[string]struct {
		err  error
		says string
	}{
		"not a struct":     {tcc.Register(orch, nothing[notStruct]{}), "must be a struct"},
		"unexported field": {tcc.Register(orch, nothing[unexported]{}), "unexported.cents"},
		"ignored field":    {tcc.Register(orch, nothing[ignored]{}), "ignored.Cents"},
		"channel":          {tcc.Register(orch, nothing[channel]{}), "channel.Done is a chan"},
		"function":         {tcc.Register(orch, nothing[function]{}), "function.Nested.F is a func"},
		"interface":        {tcc.Register(orch, nothing[anyField]{}), "anyField.Things is an interface"},
		"panic":            {tcc.Register(orch, nothing[panicking]{}), "panics"},
		"pointer":          {tcc.Register(orch, nothing[*fine]{}), "must be a struct"},
		"kind":             {tcc.Register(orch, nothing[badKind]{}), `"no spaces"`},
		"empty kind":       {tcc.Register(orch, nothing[emptyKind]{}), `""`},
		"nil branch":       {tcc.Register[fine](orch, (*nothing[fine])(nil)), "nil"},
		"nil external":     {tcc.RegisterExternal[holdOut](orch, (*gateway)(nil)), "nil"},
	}
	for name, c := range cases {
		if !errors.Is(c.err, saga.ErrInvalid) || !strings.Contains(c.err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, c.err, c.says)
		}
	}
	must(t, tcc.Register(orch, nothing[fine]{}))
	if err := tcc.Register(orch, nothing[fine]{}); !errors.Is(err, saga.ErrInvalid) || !strings.Contains(err.Error(), "already") {
		t.Errorf("a duplicate: %v", err)
	}
}
