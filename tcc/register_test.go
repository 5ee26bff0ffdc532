package tcc_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

func TestRegisterRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	orch := sagatest.Open(t, sqltest.Open(t, "sqlite"), embedded.Config{})
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
	sagatest.Must(t, tcc.Register(orch, nothing[fine]{}))
	if err := tcc.Register(orch, nothing[fine]{}); !errors.Is(err, saga.ErrInvalid) || !strings.Contains(err.Error(), "already") {
		t.Errorf("a duplicate: %v", err)
	}
}
