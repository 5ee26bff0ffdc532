package action_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/tccsaga/tccsaga/saga/sagatest"
)

// Each test that the package documentation names exists.
func TestDoc(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("doc.go")
	sagatest.Must(t, err)
	files, err := filepath.Glob("*_test.go")
	sagatest.Must(t, err)
	var tests strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		sagatest.Must(t, err)
		tests.Write(text)
	}
	names := regexp.MustCompile(`\bTest\w+`).FindAllString(string(doc), -1)
	for _, name := range names {
		if !strings.Contains(tests.String(), "func "+name+"(") {
			t.Errorf("there is no %s", name)
		}
	}
	if len(names) < 15 {
		t.Errorf("the documentation names %d tests", len(names))
	}
}
