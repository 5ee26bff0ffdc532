// Package term writes for people: with colours and the width of a terminal, if there is one.
package term

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	xterm "golang.org/x/term"
)

// Screen is where a command writes its results.
type Screen struct {
	io.Writer
	Terminal bool // a person sees it at once
	Color    bool
	Width    int // in characters; 0 is no limit
}

// Open returns the screen of a writer. Colour is auto, always or never. With auto, there are
// colours on a terminal, if NO_COLOR is not set and TERM is not dumb. COLUMNS replaces the width
// of the terminal.
func Open(w io.Writer, color string, getenv func(string) string) Screen {
	s := Screen{Writer: w}
	if file, is := w.(*os.File); is && xterm.IsTerminal(int(file.Fd())) {
		s.Terminal = true
		if width, _, err := xterm.GetSize(int(file.Fd())); err == nil {
			s.Width = width
		}
	}
	if columns, err := strconv.Atoi(getenv("COLUMNS")); err == nil && columns > 0 {
		s.Width = columns
	}
	s.Color = color == "always" || color == "auto" && s.Terminal && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
	return s
}

// Style is how a text is shown.
type Style string

// The styles.
const (
	Plain Style = ""
	Good  Style = "32" // green
	Bad   Style = "31" // red
	Wait  Style = "33" // yellow
	Faint Style = "2"
	Title Style = "1"
)

// Paint returns a text in a style, if the screen has colours.
func (s Screen) Paint(style Style, text string) string {
	if !s.Color || style == Plain || text == "" {
		return text
	}
	return "\x1b[" + string(style) + "m" + text + "\x1b[0m"
}

// Wrap breaks a text into lines of the screen's width after an indent, of which the first line
// has none.
func (s Screen) Wrap(s1 string, indent int) string {
	if s.Width == 0 || s.Width-indent < 20 {
		return s1
	}
	var b strings.Builder
	for i, line := range strings.Split(text.WrapSoft(s1, s.Width-indent), "\n") {
		if i > 0 {
			b.WriteString("\n" + strings.Repeat(" ", indent))
		}
		b.WriteString(strings.TrimRight(line, " "))
	}
	return b.String()
}

// Table writes rows below a header, in columns. If the screen has a width, longer lines are cut;
// or, if wrap is true, the last column is wrapped.
func (s Screen) Table(header []string, rows [][]string, wrap bool) {
	t := table.NewWriter()
	t.SetStyle(style)
	if len(header) > 0 {
		t.AppendHeader(row(header))
	}
	for _, r := range rows {
		t.AppendRow(row(r))
	}
	if s.Width > 0 && wrap {
		t.SetColumnConfigs([]table.ColumnConfig{{Number: columns(header, rows), WidthMax: max(20, s.Width-others(header, rows)), WidthMaxEnforcer: text.WrapSoft}})
	}
	for line := range strings.Lines(t.Render()) {
		line = strings.TrimRight(line, " \n")
		if s.Width > 0 && !wrap {
			line = text.Snip(line, s.Width, "…")
		}
		fmt.Fprintln(s, line)
	}
}

func row(cells []string) table.Row {
	r := make(table.Row, len(cells))
	for i, c := range cells {
		r[i] = c
	}
	return r
}

func columns(header []string, rows [][]string) int {
	n := len(header)
	for _, r := range rows {
		n = max(n, len(r))
	}
	return n
}

// others returns the width of all columns but the last one.
func others(header []string, rows [][]string) int {
	n := columns(header, rows)
	total := 0
	for i := range n - 1 {
		widest := 0
		for _, r := range append([][]string{header}, rows...) {
			if i < len(r) {
				widest = max(widest, text.StringWidthWithoutEscSequences(r[i]))
			}
		}
		total += widest + 2
	}
	return total
}

var style = func() table.Style {
	s := table.StyleDefault
	s.Name = "plain"
	s.Box.PaddingLeft, s.Box.PaddingRight = "", "  "
	s.Options = table.OptionsNoBordersAndSeparators
	s.Format.Header = text.FormatUpper
	return s
}()

// Clean returns a text of somebody else, such as an error or a label, without characters that a
// terminal would obey.
func Clean(s string) string {
	if !strings.ContainsFunc(s, unsafe) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n' || r == '\t':
			b.WriteByte(' ')
		case unsafe(r):
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// unsafe reports whether a terminal may obey a character: controls, and marks that change the
// direction of a text.
func unsafe(r rune) bool {
	return unicode.IsControl(r) || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

// Ask asks a question on w, and reports whether the answer in the next line of in is yes.
func Ask(in io.Reader, w io.Writer, question string) bool {
	fmt.Fprint(w, question+" [y/N] ")
	line, _ := bufio.NewReader(in).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true
	}
	return false
}

// IsTerminal reports whether a person can answer at in.
func IsTerminal(in io.Reader) bool {
	file, is := in.(*os.File)
	return is && xterm.IsTerminal(int(file.Fd()))
}
