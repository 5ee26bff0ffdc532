package guards

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

func TestSurvey(t *testing.T) {
	re := regexp.MustCompile(os.Getenv("SURVEY"))
	for _, g := range guards() {
		if !re.MatchString(g.name) {
			continue
		}
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			changed, err := g.without()
			if err != nil {
				t.Fatal(err)
			}
			ov, _ := overlay(t.TempDir(), g.file, changed)
			verdict := "SURVIVES"
			pkgs := []string{g.pkg}
			if g.pkg == "saga" {
				pkgs = append(pkgs, "tcc")
			}
			for _, pkg := range pkgs {
				bin, err := build(t, pkg, ov)
				if err != nil {
					t.Fatal(err)
				}
				run := os.Getenv("SURVEYRUN")
				out, err := execute(bin, pkg, run, "-test.failfast")
				if err != nil {
					verdict = "caught " + pkg
					for _, line := range strings.Split(string(out), "\n") {
						if strings.Contains(line, "FAIL:") || strings.Contains(line, "panic:") {
							verdict += " |" + strings.TrimSpace(line)
						}
					}
					break
				}
			}
			t.Logf("VERDICT %-28s %s", g.name, verdict)
		})
	}
}
