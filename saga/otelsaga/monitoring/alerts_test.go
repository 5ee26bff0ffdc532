package monitoring

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

type rules struct {
	Groups []struct {
		Name  string  `yaml:"name"`
		Rules []*rule `yaml:"rules"`
	} `yaml:"groups"`
}

type rule struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for,omitempty"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func (r rules) all() (all []*rule) {
	for _, group := range r.Groups {
		all = append(all, group.Rules...)
	}
	return all
}

func readYAML(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalWithOptions(text, into, yaml.Strict()); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// promtool runs Debian's promtool.
func promtool(t *testing.T, arguments ...string) (output string, err error) {
	t.Helper()
	file, err := exec.LookPath("promtool")
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		t.Fatal("there is no promtool: .ci/servers installs it")
	default:
		t.Skip("there is no promtool: install Debian's package prometheus, or run the test with .ci/servers")
	}
	text, err := exec.CommandContext(t.Context(), file, arguments...).CombinedOutput()
	return string(text), err
}

// unitTests runs the unit tests on r.
func unitTests(t *testing.T, r rules) (output string, err error) {
	t.Helper()
	for _, rule := range r.all() {
		// promtool compares all annotations; only the summary is in the unit tests.
		rule.Annotations = map[string]string{"summary": rule.Annotations["summary"]}
	}
	text, err := yaml.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile("alerts_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range map[string][]byte{"alerts.yaml": text, "alerts_test.yaml": tests} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return promtool(t, "test", "rules", filepath.Join(dir, "alerts_test.yaml"))
}

func readRules(t *testing.T) (r rules) {
	t.Helper()
	readYAML(t, "alerts.yaml", &r)
	return r
}

func TestAlerts(t *testing.T) {
	t.Parallel()
	if output, err := promtool(t, "check", "rules", "alerts.yaml"); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	if output, err := unitTests(t, readRules(t)); err != nil {
		t.Errorf("%v: %s", err, output)
	}
}

// Each alert says what happens and what to do, to a person and to a program.
func TestAlertsExplainThemselves(t *testing.T) {
	t.Parallel()
	commands := regexp.MustCompile(`Console|[Cc]ommand|Dashboard|Prometheus: Status|[Ll]ook at`)
	seen := map[string]bool{}
	for _, r := range readRules(t).all() {
		if seen[r.Alert] {
			t.Errorf("%s is there twice", r.Alert)
		}
		seen[r.Alert] = true
		if severity := r.Labels["severity"]; severity != "critical" && severity != "warning" {
			t.Errorf("%s: severity %q", r.Alert, severity)
		}
		for _, name := range []string{"summary", "description", "runbook"} {
			if len(r.Annotations[name]) < 30 {
				t.Errorf("%s: %s is %q", r.Alert, name, r.Annotations[name])
			}
		}
		if !commands.MatchString(r.Annotations["runbook"]) {
			t.Errorf("%s: the runbook names nothing to look at: %s", r.Alert, r.Annotations["runbook"])
		}
		if !strings.HasPrefix(r.Alert, "Tccsaga") {
			t.Errorf("%s: the name does not begin with Tccsaga", r.Alert)
		}
	}
}

// For each alert, the unit tests see that it fires, and that it does not fire.
func TestAlertsFireAndDoNotFire(t *testing.T) {
	t.Parallel()
	var unit struct {
		RuleFiles []string `yaml:"rule_files"`
		Every     string   `yaml:"evaluation_interval"`
		Tests     []struct {
			Interval string `yaml:"interval"`
			Input    []any  `yaml:"input_series"`
			Alerts   []struct {
				Name  string `yaml:"alertname"`
				At    string `yaml:"eval_time"`
				Fires []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		} `yaml:"tests"`
	}
	readYAML(t, "alerts_test.yaml", &unit)
	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, test := range unit.Tests {
		for _, check := range test.Alerts {
			fires[check.Name] = fires[check.Name] || len(check.Fires) > 0
			quiet[check.Name] = quiet[check.Name] || len(check.Fires) == 0
		}
	}
	for _, r := range readRules(t).all() {
		if !fires[r.Alert] || !quiet[r.Alert] {
			t.Errorf("%s: the unit tests see it fire: %t; see it not fire: %t", r.Alert, fires[r.Alert], quiet[r.Alert])
		}
	}
}

// breaks has replacements in the expression of each alert; after each, the alert is wrong.
var breaks = map[string][][2]string{
	"TccsagaAttention":            {{"> 0", "> 3"}, {"> 0", ">= 0"}, {"max", "sum"}},
	"TccsagaOldestUndecided":      {{"> 3600", ">= 3600"}, {`"undecided"`, `"unfinished"`}, {"max", "sum"}},
	"TccsagaOldestUnfinished":     {{"> 900", ">= 900"}, {`"unfinished"`, `"undecided"`}, {"> 900", "> 1800"}},
	"TccsagaKindPaused":           {{"> 0", ">= 0"}, {"> 0", "> 2"}},
	"TccsagaTransactionPaused":    {{"> 0", ">= 0"}, {"> 0", "> 2"}},
	"TccsagaCircuitOpen":          {{"> 0", ">= 0"}, {"job, kind", "kind"}, {"max", "min"}},
	"TccsagaCallsFail":            {{"> 0.2", "> 0.09"}, {"> 20", "> 2"}, {"failed|", "failed|rejected|"}, {"|unknown", ""}},
	"TccsagaNoInstance":           {{"< 1", "< 2"}, {`{alive="true"}`, ""}, {"< 1", "< 0"}},
	"TccsagaInstanceWithoutLease": {{"> on", ">= on"}, {`"true"`, `"false"`}, {"count", "max"}},
	"TccsagaLogUnread":            {{"unless", "and"}, {"by (job) (tccsaga_transactions", "by (instance) (tccsaga_transactions"}},
	"TccsagaLeasesLost":           {{"> 0", ">= 0"}, {"> 0", "> 3"}, {"15m", "1h"}},
	"TccsagaCommitsUnanswered":    {{"> 0", ">= 0"}, {"> 0", "> 3"}, {"15m", "1h"}},
	"TccsagaOutboxLag":            {{"> 60", ">= 60"}, {"max", "sum"}, {"job, stream", "job"}},
	"TccsagaDeadLetters":          {{"> 0", ">= 0"}, {"> 0", "> 2"}},
	"TccsagaTargetDown":           {{"== 0", "== 1"}, {"and on (job, instance)", "and on ()"}, {"[1h]", "[1m]"}},
	"TccsagaAbsent":               {{"unless on (job)", "unless on ()"}, {"or absent(", "unless absent("}, {"unless on ()", "and on ()"}},
}

// The unit tests fail if an alert never fires, fires too early, or has a wrong expression.
func TestAlertsAreGuarded(t *testing.T) {
	t.Parallel()
	fail := func(name string, breakRule func(*rule) bool) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broken := readRules(t)
			var names []string
			for _, r := range broken.all() {
				if breakRule(r) {
					names = append(names, r.Alert)
				}
			}
			output, err := unitTests(t, broken)
			if err == nil {
				t.Fatal("the unit tests pass")
			}
			for _, alert := range names {
				if !strings.Contains(output, "alertname: "+alert+",") {
					t.Errorf("the unit tests of %s do not notice: %s", alert, output)
				}
			}
		})
	}
	fail("never", func(r *rule) bool { r.Expr = "vector(0) > 1"; return true })
	fail("at once", func(r *rule) bool {
		waits := r.For != ""
		r.For = ""
		return waits
	})
	most := 0
	for _, r := range readRules(t).all() {
		if len(breaks[r.Alert]) < 2 {
			t.Errorf("%s is not broken twice", r.Alert)
		}
		for _, replace := range breaks[r.Alert] {
			if !strings.Contains(r.Expr, replace[0]) {
				t.Errorf("%s: its expression has no %s", r.Alert, replace[0])
			}
		}
		most = max(most, len(breaks[r.Alert]))
	}
	for i, name := range slices.Repeat([]string{"break"}, most) {
		fail(name, func(r *rule) bool {
			if i >= len(breaks[r.Alert]) {
				return false
			}
			r.Expr = strings.Replace(r.Expr, breaks[r.Alert][i][0], breaks[r.Alert][i][1], 1)
			return true
		})
	}
}
