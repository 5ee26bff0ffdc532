// Package named checks that the tests exist which a package's documentation names.
package named

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// test is the name of a test, after the name of its package if it is in another one.
var test = regexp.MustCompile(`(?:(\w+)\.)?\b(Test[A-Z]\w*)`)

// Check checks the tests that doc.go names below a heading: each has to exist, in this package
// or in the one that it is named with, and there are at least so many. The test runs in the
// folder of doc.go, as tests do.
func Check(t *testing.T, heading string, least int) {
	t.Helper()
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, below, found := strings.Cut(string(text), heading)
	if !found {
		t.Fatalf("doc.go has no %q", heading)
	}
	tests, own := testsBelow(t, root(t)), folder(t)
	names := test.FindAllStringSubmatch(below, -1)
	for _, name := range names {
		in := name[1]
		if in == "" {
			in = own
		}
		if !tests[in+"."+name[2]] {
			t.Errorf("doc.go names %s, which does not exist", name[0])
		}
	}
	if len(names) < least {
		t.Errorf("doc.go names %d tests, want at least %d", len(names), least)
	}
}

// folder returns the name of the folder in which the test runs.
func folder(t *testing.T) string {
	t.Helper()
	path, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Base(path)
}

// root returns the folder of the module.
func root(t *testing.T) string {
	t.Helper()
	for path := "."; ; path = filepath.Join("..", path) {
		if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil {
			return path
		}
		if absolute, err := filepath.Abs(path); err != nil || absolute == string(filepath.Separator) {
			t.Fatal("there is no go.mod above")
		}
	}
}

var declared = regexp.MustCompile(`(?m)^func (Test\w+)\(`)

// testsBelow returns the tests in all folders below path, each after the name of its folder.
func testsBelow(t *testing.T, path string) map[string]bool {
	t.Helper()
	tests := map[string]bool{}
	err := filepath.WalkDir(path, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		absolute, err := filepath.Abs(path)
		for _, name := range declared.FindAllStringSubmatch(string(text), -1) {
			tests[filepath.Base(filepath.Dir(absolute))+"."+name[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tests
}
