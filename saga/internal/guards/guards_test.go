package guards

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	which = flag.String("guards", "", "which guards to take out: short or all; none if it is empty")
	only  = flag.String("guards.only", "", "take out only the guards whose names match this regular expression")
	write = flag.Bool("guards.write", false, "write the result into README.md")
)

// guard is a piece of code that must not be missing.
type guard struct {
	name string
	file string // from the root of the module
	text string // in the file exactly once
	with string // what it is replaced by
	pkg  string // whose test fails then, from the root of the module
	run  string // that test, as for go test -run
	why  string // what goes wrong without it
	// short: the test needs no server and takes few seconds. All of these
	// together take less than a minute.
	short bool
}

// root is the root of the module.
const root = "../../.."

// guards are all that the list has.
func guards() []guard {
	return slices.Concat(batchGuards, commitGuards, logGuards, barrierGuards, localGuards, cleanGuards, engineGuards, outsideGuards,
		lifetimeGuards, decideGuards, decidingGuards, driveGuards, actionGuards, messageGuards, outcomeGuards, nestedGuards, xaGuards, lookupGuards, bulkGuards)
}

// without returns the guard's file as it is without it.
func (g guard) without() ([]byte, error) {
	source, err := os.ReadFile(filepath.Join(root, g.file))
	if err != nil {
		return nil, err
	}
	if n := bytes.Count(source, []byte(g.text)); n != 1 {
		return nil, fmt.Errorf("%s holds the text %q %d times, want once: mend the list", g.file, g.text, n)
	}
	changed := bytes.Replace(source, []byte(g.text), []byte(g.with), 1)
	_, err = parser.ParseFile(token.NewFileSet(), g.file, changed, parser.SkipObjectResolution)
	return changed, err
}

// TestList checks that the list fits the code.
func TestList(t *testing.T) {
	names := map[string]bool{}
	for _, g := range guards() {
		if _, err := g.without(); err != nil {
			t.Errorf("%s: %v", g.name, err)
		}
		if names[g.name] || g.name == "" || g.why == "" || g.run == "" {
			t.Errorf("%q: there are two, or something is missing", g.name)
		}
		names[g.name] = true
	}
}

// TestGuards takes out one guard at a time.
func TestGuards(t *testing.T) {
	if *which != "short" && *which != "all" {
		t.Skip("use make guards or make guards-short")
	}
	wanted, err := regexp.Compile(*only)
	if err != nil {
		t.Fatal(err)
	}
	var chosen []guard
	for _, g := range guards() {
		if (*which == "all" || g.short) && wanted.MatchString(g.name) {
			chosen = append(chosen, g)
		}
	}
	t.Run("in place", func(t *testing.T) { inPlace(t, chosen) })
	if t.Failed() {
		return
	}
	results := make([]string, len(chosen))
	t.Run("without", func(t *testing.T) {
		for i, g := range chosen {
			t.Run(g.name, func(t *testing.T) {
				t.Parallel()
				results[i] = takeOut(t, g)
			})
		}
	})
	for i, g := range chosen {
		t.Logf("%-12s %-28s %s", results[i], g.name, g.run)
	}
	if *write {
		if err := report(chosen, results); err != nil {
			t.Error(err)
		}
	}
}

// inPlace runs the tests with every guard in place.
func inPlace(t *testing.T, chosen []guard) {
	tests := map[string][]string{}
	for _, g := range chosen {
		if !slices.Contains(tests[g.pkg], g.run) {
			tests[g.pkg] = append(tests[g.pkg], g.run)
		}
	}
	for pkg, runs := range tests {
		t.Run(pkg, func(t *testing.T) {
			t.Parallel()
			binary, err := build(t, pkg, "")
			if err != nil {
				t.Fatal(err)
			}
			for _, run := range runs {
				output, err := execute(binary, pkg, run, "-test.v")
				if err != nil || !bytes.Contains(output, []byte("--- PASS: ")) || bytes.Contains(output, []byte("no tests to run")) {
					t.Errorf("%s %s: %v\n%s", pkg, run, err, tail(output))
				}
			}
		})
	}
}

// takeOut runs the test of a guard without the guard.
func takeOut(t *testing.T, g guard) (result string) {
	changed, err := g.without()
	if err != nil {
		t.Error(err)
		return "not found"
	}
	overlay, err := overlay(t.TempDir(), g.file, changed)
	if err != nil {
		t.Error(err)
		return "failed"
	}
	binary, err := build(t, g.pkg, overlay)
	if err != nil {
		t.Errorf("%s: %v", g.file, err)
		return "no compile"
	}
	output, err := execute(binary, g.pkg, g.run, "-test.failfast")
	if err == nil {
		t.Errorf("no test fails without it: %s\n%s: %q\nbecomes %q, and %s still passes in %s", g.why, g.file, g.text, g.with, g.run, g.pkg)
		return "SURVIVES"
	}
	if testing.Verbose() {
		t.Logf("%s", tail(output))
	}
	return "caught"
}

// overlay writes what the go command's flag -overlay takes.
func overlay(dir, file string, changed []byte) (path string, err error) {
	original, err := filepath.Abs(filepath.Join(root, file))
	if err != nil {
		return "", err
	}
	instead := filepath.Join(dir, "changed.go")
	text, err := json.Marshal(map[string]map[string]string{"Replace": {original: instead}})
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(instead, changed, 0o600); err != nil {
		return "", err
	}
	return path, os.WriteFile(path, text, 0o600)
}

// build compiles the tests of a package.
func build(t *testing.T, pkg, overlay string) (binary string, err error) {
	binary = filepath.Join(t.TempDir(), "tests")
	command := exec.Command("go", "test", "-c", "-o", binary, "-overlay", overlay, "./"+pkg)
	command.Dir = root
	if output, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, output)
	}
	return binary, nil
}

// execute runs tests; the error says that one has failed.
func execute(binary, pkg, run string, flags ...string) (output []byte, err error) {
	command := exec.Command(binary, append([]string{"-test.run", run, "-test.timeout", "90s"}, flags...)...)
	command.Dir = filepath.Join(root, pkg)
	return command.CombinedOutput()
}

func tail(output []byte) []byte { return output[max(0, len(output)-2000):] }

const resultBegins = "<!-- result -->\n"

// report writes the result into README.md.
func report(chosen []guard, results []string) error {
	text, err := os.ReadFile("README.md")
	if err != nil {
		return err
	}
	head, _, _ := strings.Cut(string(text), resultBegins)
	var b strings.Builder
	b.WriteString(head + resultBegins)
	fmt.Fprintf(&b, "\n| Guard | Without it | Test that fails | |\n|---|---|---|---|\n")
	for i, g := range chosen {
		fmt.Fprintf(&b, "| %s<br>%s | %s | %s<br>`%s` | %s |\n", g.name, g.file, g.why, g.pkg, strings.ReplaceAll(g.run, "|", "\\|"), results[i])
	}
	return os.WriteFile("README.md", []byte(b.String()), 0o644)
}
