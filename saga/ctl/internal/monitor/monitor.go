// Package monitor compares measurements with thresholds, and writes the result in the forms of
// monitoring systems.
package monitor

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Level is the result of a check. Its number is the exit code of a plugin.
type Level int

// The levels.
const (
	OK Level = iota
	Warning
	Critical
	Unknown
)

func (l Level) String() string { return [...]string{"OK", "WARNING", "CRITICAL", "UNKNOWN"}[l] }

// MarshalText writes the level as its name in small letters.
func (l Level) MarshalText() ([]byte, error) { return []byte(strings.ToLower(l.String())), nil }

// Check is a measurement with its thresholds.
type Check struct {
	Name     string  `json:"name"`
	Value    float64 `json:"value"`
	Unit     string  `json:"unit,omitempty"` // s for seconds; empty for a number
	Warning  float64 `json:"warning,omitempty"`
	Critical float64 `json:"critical,omitempty"` // thresholds: the value from which on it has this level; 0 is none
	Least    bool    `json:"least,omitempty"`    // the threshold is the least value that is good
	Level    Level   `json:"level"`
	Text     string  `json:"text"` // for people
	Help     string  `json:"-"`    // what is measured
}

// Judge sets the level of a check.
func (c Check) Judge() Check {
	over := func(threshold float64) bool {
		if threshold <= 0 {
			return false
		}
		if c.Least {
			return c.Value < threshold
		}
		return c.Value >= threshold
	}
	switch {
	case over(c.Critical):
		c.Level = Critical
	case over(c.Warning):
		c.Level = Warning
	}
	return c
}

// Report is the result of all checks.
type Report struct {
	Level  Level   `json:"level"`
	Error  string  `json:"error,omitempty"` // why nothing was measured
	Checks []Check `json:"checks"`
}

// NewReport returns the report of checks, with the worst level of them.
func NewReport(checks ...Check) Report {
	r := Report{Checks: checks}
	for _, c := range checks {
		r.Level = max(r.Level, c.Level)
	}
	return r
}

// Failed returns the report of a check that could not measure.
func Failed(level Level, why string) Report {
	return Report{Level: level, Error: why, Checks: []Check{}}
}

// Nagios writes the report for Nagios, Icinga and others: one line with all that is not good, and
// the measurements behind a bar. Each check follows on a line of its own.
func (r Report) Nagios(w io.Writer) {
	var bad, numbers, lines []string
	for _, c := range r.Checks {
		if c.Level != OK {
			bad = append(bad, oneLine(c.Text))
		}
		warning, critical := limit(c.Warning, c.Least), limit(c.Critical, c.Least)
		numbers = append(numbers, fmt.Sprintf("%s=%s%s;%s;%s;0", c.Name, number(c.Value), c.Unit, warning, critical))
		lines = append(lines, fmt.Sprintf("%s: %s", c.Level, oneLine(c.Text)))
	}
	switch {
	case r.Error != "":
		bad = []string{oneLine(r.Error)}
	case len(bad) == 0:
		bad = []string{"no transaction needs a person"}
	}
	fmt.Fprintf(w, "TCCSAGA %s - %s", r.Level, strings.Join(bad, "; "))
	if len(numbers) > 0 {
		fmt.Fprintf(w, " | %s", strings.Join(numbers, " "))
	}
	fmt.Fprintln(w)
	for _, line := range lines {
		fmt.Fprintln(w, line)
	}
}

// oneLine returns a text without the characters that end it for Nagios.
func oneLine(text string) string {
	return strings.NewReplacer("\n", " ", "\r", " ", "|", "/").Replace(text)
}

// limit returns a threshold as Nagios writes it.
func limit(threshold float64, least bool) string {
	switch {
	case threshold <= 0:
		return ""
	case least:
		return number(threshold) + ":"
	default:
		return number(threshold)
	}
}

func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// Prometheus writes the report in Prometheus's text format, for example for the textfile
// collector of its node exporter.
func (r Report) Prometheus(w io.Writer) {
	gauge := func(name, help string) {
		fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s gauge\n", name, help, name)
	}
	gauge("tccsaga_check_up", "Whether the database answered.")
	up := 1
	if r.Error != "" {
		up = 0
	}
	fmt.Fprintf(w, "tccsaga_check_up %d\n", up)
	checks := slices.SortedFunc(slices.Values(r.Checks), func(a, b Check) int { return strings.Compare(a.Name, b.Name) })
	for _, c := range checks {
		name := "tccsaga_check_" + c.Name
		if c.Unit == "s" {
			name += "_seconds"
		}
		gauge(name, c.Help)
		fmt.Fprintf(w, "%s %s\n", name, number(c.Value))
	}
	gauge("tccsaga_check_level", "Level of each check: 0 ok, 1 warning, 2 critical.")
	for _, c := range checks {
		fmt.Fprintf(w, "tccsaga_check_level{check=%q} %d\n", c.Name, c.Level)
	}
}
