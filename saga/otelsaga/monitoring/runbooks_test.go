package monitoring

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	command  = regexp.MustCompile(`"sagactl ([^"]+)"`)
	variable = regexp.MustCompile(`\{\{[^}]*\}\}`)
)

// The commands of the runbooks exist, with their flags.
func TestCommandsOfTheRunbooks(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "sagactl")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", file, "../../sagactl").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	known := map[string]bool{}
	for _, r := range readRules(t).all() {
		for _, found := range command.FindAllStringSubmatch(r.Annotations["runbook"], -1) {
			arguments := strings.Fields(variable.ReplaceAllString(found[1], "NAME"))
			line := strings.Join(arguments, " ")
			if known[line] {
				continue
			}
			known[line] = true
			// The words before the first name or flag are the command.
			words := "sagactl"
			for _, word := range arguments {
				if word == strings.ToUpper(word) || strings.HasPrefix(word, "-") {
					break
				}
				words += " " + word
			}
			out, err := exec.CommandContext(t.Context(), file, append(arguments, "--help")...).CombinedOutput()
			if err != nil || !strings.Contains(string(out), "\n  "+words+" ") {
				t.Errorf("%s: %s: %v: %s", r.Alert, found[0], err, out)
			}
		}
	}
	if len(known) < 8 {
		t.Errorf("the runbooks have the commands %v", known)
	}
}
