package saga_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every row of the table of what can be lost names tests, and they exist.
func TestTableOfWhatCanBeLost(t *testing.T) {
	t.Parallel()
	folders := map[string]string{"tcc": "../tcc", "simulation": "internal/test/simulation", "chaos": "internal/test/chaos", "barrier": "barrier",
		"txlog": "internal/txlog", "message": "../branches/message", "order": "../examples/order", "services": "../examples/services", "remote": "remote"}
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "-----  ---")
	if !found {
		t.Fatal("there is no table")
	}
	_, table, _ = strings.Cut(table, "\n") // the rest of the line
	table, _, _ = strings.Cut(table, "//\n//")
	named := regexp.MustCompile(`(\w+)\.(Test\w+)`)
	rows := 0
	for line := range strings.Lines(table) {
		cells := strings.TrimPrefix(strings.TrimRight(line, "\n"), "//\t")
		tests := named.FindAllStringSubmatch(line, -1)
		// The caller's cell is filled on the first line of a row only.
		if len(cells) > 31 && cells[0] != ' ' && cells[30] != ' ' {
			rows++
			if len(tests) == 0 {
				t.Errorf("no test shows %q", strings.TrimSpace(cells[:30]))
			}
		}
		for _, test := range tests {
			if !defines(t, folders[test[1]], test[2]) {
				t.Errorf("there is no %s in %q", test[0], folders[test[1]])
			}
		}
	}
	if rows < 20 {
		t.Errorf("only %d rows were found", rows)
	}
}

func defines(t *testing.T, folder, test string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "\nfunc "+test+"(") {
			return true
		}
	}
	return false
}
