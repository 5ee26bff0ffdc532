package term_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/tccsaga/tccsaga/saga/ctl/internal/term"
)

func TestClean(t *testing.T) {
	for text, want := range map[string]string{
		"plain, ünïcode, 漢字": "plain, ünïcode, 漢字",
		"a\nb\tc":            "a b c",
		"\x1b[31mred":        `\x1b[31mred`,
		"\u009b2J":           `\u009b2J`,
		"a\u202eb":           `a\u202eb`,
	} {
		if got := term.Clean(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// A table cuts its lines at the width of the screen, or wraps the last column.
func TestTable(t *testing.T) {
	for _, c := range []struct {
		wrap bool
		want string
	}{
		{false, "ID  NOTE\n1   漢字漢字漢字漢字漢字漢字…\n22\n"},
		{true, "ID  NOTE\n1   漢字漢字漢字漢字漢字漢字漢\n    字漢字漢字\n22\n"},
	} {
		var out bytes.Buffer
		s := term.Screen{Writer: &out, Width: 30}
		s.Table([]string{"id", "note"}, [][]string{{"1", strings.Repeat("漢字", 9)}, {"22", ""}}, c.wrap)
		if out.String() != c.want {
			t.Errorf("wrap %v: got\n%swant\n%s", c.wrap, out.String(), c.want)
		}
	}
}

// Colours need a terminal or a person who asks for them.
func TestColour(t *testing.T) {
	env := func(values map[string]string) func(string) string {
		return func(name string) string { return values[name] }
	}
	if s := term.Open(&bytes.Buffer{}, "auto", env(nil)); s.Color || s.Terminal || s.Width != 0 {
		t.Errorf("%+v", s)
	}
	if s := term.Open(&bytes.Buffer{}, "always", env(map[string]string{"NO_COLOR": "1", "COLUMNS": "70"})); !s.Color || s.Width != 70 {
		t.Errorf("%+v", s)
	}
	s := term.Screen{Color: true}
	if got := s.Paint(term.Bad, "x"); got != "\x1b[31mx\x1b[0m" {
		t.Errorf("%q", got)
	}
}

func TestAsk(t *testing.T) {
	for answer, want := range map[string]bool{"y\n": true, "YES\n": true, "n\n": false, "\n": false, "": false, "yesterday\n": false} {
		var out bytes.Buffer
		if got := term.Ask(strings.NewReader(answer), &out, "sure?"); got != want || out.String() != "sure? [y/N] " {
			t.Errorf("%q: %v %q", answer, got, out.String())
		}
	}
}
