package xa_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/tccsaga/tccsaga/saga/sagatest"
)

// Each row of the table of what can be lost names a test that exists.
func TestDocNamesTests(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("doc.go")
	sagatest.Must(t, err)
	files, err := filepath.Glob("*_test.go")
	sagatest.Must(t, err)
	var tests strings.Builder
	for _, file := range files {
		source, err := os.ReadFile(file)
		sagatest.Must(t, err)
		tests.Write(source)
	}
	_, table, _ := strings.Cut(string(text), "# What can be lost")
	named := regexp.MustCompile(`\bTest\w+`).FindAllString(table, -1)
	if len(named) < 10 {
		t.Errorf("the table names only %v", named)
	}
	for _, name := range named {
		if !strings.Contains(tests.String(), "func "+name+"(t *testing.T)") {
			t.Errorf("there is no %s", name)
		}
	}
}
