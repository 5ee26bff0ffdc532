package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/ctl"
	"github.com/tccsaga/tccsaga/saga/sagatest"
)

// Each threshold has its level, and the worst one is the exit code.
func TestCheck(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		has(t, w.fails(1, "check"), "TCCSAGA WARNING - 3 transactions need an operator | attention=3;1;10;0", "OK: open-1 is undecided for", "OK: 1 instance runs")
		quiet := []string{"check", "--attention-warning=0", "--attention-critical=0"}
		has(t, w.fails(0, quiet...), "TCCSAGA OK - ")
		for flag, says := range map[string]string{
			"--attention-critical=3":    "3 transactions need an operator",
			"--undecided-critical=1us":  "open-1 is undecided",
			"--unfinished-critical=1us": "is decided and not finished",
			"--instances-least=2":       "1 instance runs",
		} {
			has(t, w.fails(2, append(quiet, flag)...), "TCCSAGA CRITICAL - ", says)
		}
		w.ok("kind", "pause", "pay", "--why", "x", "--yes")
		has(t, w.fails(1, quiet...), "1 kind of branches is paused")
		has(t, w.fails(2, append(quiet, "--paused-kinds-critical=1")...), "CRITICAL: 1 kind of branches is paused")
		sagatest.Must(t, w.db.Exec("INSERT INTO saga_instances (instance, host, pid, started_at, lease_until) SELECT 'gone', host, 1, started_at, started_at FROM saga_instances").Error)
		has(t, w.fails(1, quiet...), "1 instance ended without a goodbye")

		var report struct {
			Level  string
			Checks []struct {
				Name, Level string
				Value       float64
			}
		}
		r := w.run("check", "-o", "json")
		if err := json.Unmarshal([]byte(r.out), &report); err != nil || r.code != 1 || report.Level != "warning" || report.Checks[0].Name != "attention" || report.Checks[0].Value != 3 {
			t.Errorf("%d %v %+v", r.code, err, report)
		}
		has(t, w.run("check", "-o", "prometheus").out, "tccsaga_check_up 1\n", "\ntccsaga_check_attention 3\n", `tccsaga_check_level{check="attention"} 1`,
			"# TYPE tccsaga_check_oldest_undecided_seconds gauge\n")
	})
}

// A mistake in the call is unknown, and a database without an answer or schema is critical.
func TestCheckWithoutAnAnswer(t *testing.T) {
	w := newWorld(t, "sqlite")
	for _, call := range []string{"check --frob", "check extra", "check -o xml", "check --profile=none", "check --attention-warning=many"} {
		w.fails(3, strings.Fields(call)...)
	}
	down := w.with("SAGACTL_DB=" + nobodyThere("postgres"))
	has(t, down.fails(2, "check"), "TCCSAGA CRITICAL - ", "cannot be reached")
	has(t, down.fails(2, "check", "-o", "prometheus"), "tccsaga_check_up 0\n")
	has(t, down.fails(2, "check", "-o", "json"), `"level": "critical"`)
	sagatest.Must(t, w.db.Exec("UPDATE saga_schema SET complete = 0").Error)
	has(t, w.fails(2, "check"), "TCCSAGA CRITICAL - ", "schema")
	w.fails(3, "check", "--db", "frob")
}

// nobodyThere is the address of a server that does not run.
func nobodyThere(dialect string) string {
	return fmt.Sprintf("%s://tcc:s3cret@127.0.0.1:1/shop", dialect)
}

// The overview counts, and names what is old.
func TestStats(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		has(t, w.ok("stats"), "need an operator   3", "trying             1", "confirming         3", "oldest undecided   open-1", "1 alive", "Finished")
		s := read[struct {
			Overview saga.Overview
			Activity []saga.Activity
		}](w.shell, "stats", "--lines", "3", "--step", "10s")
		if s.Overview.Attention.N != 3 || len(s.Activity) != 3 {
			t.Errorf("%+v", s)
		}
		has(t, w.fails(ctl.CodeUsage, "stats", "--step", "1ms"), "at least 1s")
		has(t, w.fails(ctl.CodeUsage, "stats", "--lines", "-1"), "between 0 and 100")
	})
}

// The instances are those that hold their lease, and those that are gone.
func TestInstances(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		has(t, w.ok("instance", "list"), "LEASE", "alive")
		if all := read[struct{ Instances []saga.Instance }](w.shell, "instance", "list").Instances; len(all) != 1 || !all[0].Alive {
			t.Errorf("%+v", all)
		}
	})
}
