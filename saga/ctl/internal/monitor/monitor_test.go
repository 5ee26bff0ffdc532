package monitor_test

import (
	"strings"
	"testing"

	"github.com/tccsaga/tccsaga/saga/ctl/internal/monitor"
)

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		check monitor.Check
		want  monitor.Level
	}{
		{monitor.Check{Value: 5}, monitor.OK}, // without thresholds
		{monitor.Check{Value: 4, Warning: 5, Critical: 9}, monitor.OK},
		{monitor.Check{Value: 5, Warning: 5, Critical: 9}, monitor.Warning},
		{monitor.Check{Value: 9, Warning: 5, Critical: 9}, monitor.Critical},
		{monitor.Check{Value: 9, Warning: 5}, monitor.Warning},
		{monitor.Check{Value: 1, Critical: 1, Least: true}, monitor.OK},
		{monitor.Check{Value: 0, Critical: 1, Least: true}, monitor.Critical},
	} {
		if got := c.check.Judge().Level; got != c.want {
			t.Errorf("%+v: got %s, want %s", c.check, got, c.want)
		}
	}
}

func TestForms(t *testing.T) {
	r := monitor.NewReport(
		monitor.Check{Name: "old", Value: 1.5, Unit: "s", Warning: 1, Critical: 60, Text: "one | two\nthree", Help: "Age."}.Judge(),
		monitor.Check{Name: "alive", Value: 2, Critical: 1, Least: true, Text: "2 run", Help: "Number."}.Judge(),
	)
	var nagios, prometheus strings.Builder
	r.Nagios(&nagios)
	if want := `TCCSAGA WARNING - one / two three | old=1.5s;1;60;0 alive=2;;1:;0
WARNING: one / two three
OK: 2 run
`; nagios.String() != want {
		t.Errorf("got\n%swant\n%s", nagios.String(), want)
	}
	r.Prometheus(&prometheus)
	if want := `# HELP tccsaga_check_up Whether the database answered.
# TYPE tccsaga_check_up gauge
tccsaga_check_up 1
# HELP tccsaga_check_alive Number.
# TYPE tccsaga_check_alive gauge
tccsaga_check_alive 2
# HELP tccsaga_check_old_seconds Age.
# TYPE tccsaga_check_old_seconds gauge
tccsaga_check_old_seconds 1.5
# HELP tccsaga_check_level Level of each check: 0 ok, 1 warning, 2 critical.
# TYPE tccsaga_check_level gauge
tccsaga_check_level{check="alive"} 0
tccsaga_check_level{check="old"} 1
`; prometheus.String() != want {
		t.Errorf("got\n%swant\n%s", prometheus.String(), want)
	}
}
