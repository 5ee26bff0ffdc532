package nested_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/tccsaga/tccsaga/saga/sagatest"
)

// The tests that the table of what can be lost names exist. Each of its 16 rows names one.
func TestTableOfWhatCanBeLost(t *testing.T) {
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
	_, table, found := strings.Cut(string(text), "-----  ---")
	if !found {
		t.Fatal("there is no table")
	}
	_, table, _ = strings.Cut(table, "\n") // the rest of the line
	named := regexp.MustCompile(`nested\.(Test\w+)`)
	rows := 0
	for line := range strings.Lines(table) {
		cells := strings.TrimPrefix(strings.TrimRight(line, "\n"), "//\t")
		all := named.FindAllStringSubmatch(line, -1)
		if len(all) > 0 && cells[0] != ' ' {
			rows++ // its first line; the others have no test, or only a further one
		}
		for _, test := range all {
			if !strings.Contains(tests.String(), "\nfunc "+test[1]+"(") {
				t.Errorf("there is no %s", test[1])
			}
		}
	}
	if rows != 16 {
		t.Errorf("%d rows were found", rows)
	}
}
