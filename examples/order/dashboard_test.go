package main

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tccsaga/tccsaga/examples/internal/database"
	"github.com/tccsaga/tccsaga/saga/sagatest"
)

// dashboard is the part of grafana.json that matters here.
type dashboard struct {
	Panels []struct {
		Title, Type, Description string
		Targets                  []struct{ Expr, LegendFormat string }
	}
	Templating struct {
		List []struct{ Name, Definition string }
	}
}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	text, err := os.ReadFile(monitoring + "grafana.json")
	if err == nil {
		err = json.Unmarshal(text, &d)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// queries returns the expressions of the panels by their title, as Grafana sends them.
func (d dashboard) queries(t *testing.T) map[string]string {
	t.Helper()
	queries := map[string]string{}
	for _, panel := range d.Panels {
		if panel.Type == "row" {
			continue
		}
		if panel.Description == "" || len(panel.Targets) == 0 {
			t.Errorf("the panel %s has no description or no query", panel.Title)
		}
		for i, target := range panel.Targets {
			expr := strings.NewReplacer("$__rate_interval", "1m", "$job", "order").Replace(target.Expr)
			if strings.Contains(expr, "$") {
				t.Errorf("the panel %s has an unknown variable: %s", panel.Title, expr)
			}
			queries[fmt.Sprintf("%s, query %d", panel.Title, i+1)] = expr
		}
	}
	return queries
}

var metricName = regexp.MustCompile(`\btccsaga_\w+`)

// Prometheus scrapes the service during a day with all kinds of events: each query of the
// dashboard has data, and each metric that the dashboard and the rules name exists.
func TestDashboard(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	_, c := startProcess(t, "-data", data)
	p := startPrometheus(t, shippedRules(t, func(*rule) {}), strings.TrimPrefix(c.base, "http://"))
	c.expect("PUT", "/stock/phone", `{"available":1000}`, 200, nil)
	conflict(t, c, data)
	d, day := readDashboard(t), 0
	missing := d.queries(t)
	if len(missing) < 20 {
		t.Fatalf("%d queries", len(missing))
	}
	t.Cleanup(func() {
		for panel, expr := range missing {
			t.Errorf("no data: %s: %s", panel, expr)
		}
	})
	sagatest.Eventually(t, "each query has data", func() bool {
		if day%5 == 0 { // some orders between two scrapes
			c.expect("POST", "/faults", `{"fail_confirms":1}`, 200, nil)
		}
		c.raw("POST", "/reservations", fmt.Sprintf(`{"order_id":"%d","sku":"phone","quantity":1,"pay_within":"1ms"}`, day))
		c.raw("POST", "/orders", fmt.Sprintf(`{"order_id":"%d","sku":"phone","quantity":1}`, day))
		c.expect("POST", "/orders", fmt.Sprintf(`{"order_id":"x%d","sku":"phone","quantity":9999}`, day), 409, nil)
		day++
		for panel, expr := range missing {
			if len(p.query(expr)) > 0 {
				delete(missing, panel)
			}
		}
		return len(missing) == 0
	})

	var names []string
	p.get("label/__name__/values", &names)
	named := map[string]bool{}
	for _, file := range []string{"grafana.json", "alerts.yaml"} {
		text, err := os.ReadFile(monitoring + file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range metricName.FindAllString(string(text), -1) {
			named[name] = true
			if !slices.Contains(names, name) {
				t.Errorf("%s names %s, which does not exist", file, name)
			}
		}
	}
	for _, name := range names {
		base := strings.NewReplacer("_bucket", "", "_sum", "", "_count", "").Replace(name)
		if strings.HasPrefix(base, "tccsaga_") && !named[base] && !named[base+"_bucket"] && !named[base+"_count"] {
			t.Errorf("neither the dashboard nor a rule uses %s", name)
		}
	}
	for _, variable := range d.Templating.List {
		if variable.Name == "job" && variable.Definition != "label_values(tccsaga_takeovers_total, job)" {
			t.Errorf("the variable job is %s", variable.Definition)
		}
	}
	var loaded struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError string }
		}
	}
	p.get("rules", &loaded)
	if len(loaded.Groups) != 1 || len(loaded.Groups[0].Rules) == 0 {
		t.Fatalf("Prometheus has the rules %+v", loaded)
	}
	for _, rule := range loaded.Groups[0].Rules {
		if rule.Health != "ok" {
			t.Errorf("%s is %s: %s", rule.Name, rule.Health, rule.LastError)
		}
	}
}

// conflict makes a transaction that needs attention: its barrier row is lost.
func conflict(t *testing.T, c client, data string) {
	t.Helper()
	c.expect("POST", "/reservations", `{"order_id":"lost","sku":"phone","quantity":1}`, 201, nil)
	db, _, err := database.Open(t.Context(), "", data+"/order.db")
	if err != nil {
		t.Fatal(err)
	}
	defer database.Close(db)
	if err := db.Exec("DELETE FROM saga_barrier WHERE gid = 'reservation-lost'").Error; err != nil {
		t.Fatal(err)
	}
	c.expect("POST", "/reservations/lost/pay", "", 202, nil)
}
