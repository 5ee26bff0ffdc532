// Package readme checks the documents of the repository.
package readme

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../../.."

var block = regexp.MustCompile("(?s)<!-- (the text|part) of (\\S+) -->\n```go\n(.*?)```\n")

// A program in the README is the text of a file that is compiled and tested.
func TestProgramsOfTheREADME(t *testing.T) {
	blocks := block.FindAllStringSubmatch(read(t, "README.md"), -1)
	if len(blocks) != 3 {
		t.Errorf("the README has %d blocks of files, want 3", len(blocks))
	}
	for _, b := range blocks {
		extent, file, shown := b[1], b[2], b[3]
		text := read(t, file)
		if extent == "the text" && shown != text || !strings.Contains(text, shown) {
			t.Errorf("the README does not show %s of %s, but:\n%s", extent, file, shown)
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// A link to a file of the repository finds it.
func TestLinksOfTheDocuments(t *testing.T) {
	for _, document := range []string{"README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "saga/OPERATIONS.md"} {
		text := read(t, document)
		for _, found := range link.FindAllStringSubmatch(text, -1) {
			target, anchor, _ := strings.Cut(found[1], "#")
			switch {
			case strings.Contains(target, "://"):
			case target != "":
				if _, err := os.Stat(filepath.Join(root, filepath.Dir(document), target)); err != nil {
					t.Errorf("%s: %v", document, err)
				}
			case !hasHeading(text, anchor):
				t.Errorf("%s has no heading %q", document, anchor)
			}
		}
	}
}

func hasHeading(text, anchor string) bool {
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			continue
		}
		title := strings.ToLower(strings.TrimSpace(strings.TrimLeft(line, "#")))
		if regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ReplaceAll(title, " ", "-"), "") == anchor {
			return true
		}
	}
	return false
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
