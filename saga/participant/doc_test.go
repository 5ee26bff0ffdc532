package participant_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each row of the table of what can be lost names a test, and the test exists.
func TestTableOfWhatCanBeLost(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "-----  ---")
	if !found {
		t.Fatal("there is no table")
	}
	_, table, _ = strings.Cut(table, "\n")
	named := regexp.MustCompile(`(\w+)\.(Test\w+)`)
	var tests int
	for _, test := range named.FindAllStringSubmatch(table, -1) {
		tests++
		files, err := filepath.Glob(filepath.Join("..", test[1], "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		defined := false
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			defined = defined || strings.Contains(string(text), "\nfunc "+test[2]+"(")
		}
		if !defined {
			t.Errorf("there is no %s", test[0])
		}
	}
	if tests < 12 {
		t.Errorf("only %d tests were found", tests)
	}
}
