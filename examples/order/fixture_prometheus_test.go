package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/tccsaga/tccsaga/saga/sagatest"
)

// monitoring has the rules and the dashboard.
const monitoring = "../../saga/otelsaga/monitoring/"

// rules is a file of alert rules.
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

// shippedRules returns the rules of the repository, after edit has changed each.
func shippedRules(t *testing.T, edit func(*rule)) rules {
	t.Helper()
	text, err := os.ReadFile(monitoring + "alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var r rules
	if err := yaml.UnmarshalWithOptions(text, &r, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	for _, group := range r.Groups {
		for _, one := range group.Rules {
			edit(one)
		}
	}
	return r
}

// scraper is a Prometheus of Debian that scrapes the service of a test.
type scraper struct {
	t    *testing.T
	base string // of its API
}

// startPrometheus starts one on a free port. It scrapes the addresses as instances of the job
// order twice a second, and evaluates the rules five times a second.
func startPrometheus(t *testing.T, r rules, addresses ...string) scraper {
	t.Helper()
	file, err := exec.LookPath("prometheus")
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		t.Fatal("there is no prometheus: .ci/servers installs it")
	default:
		t.Skip("there is no prometheus: install Debian's package prometheus, or run the test with .ci/servers")
	}
	dir := t.TempDir()
	config := map[string]any{
		"global":     map[string]any{"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "200ms"},
		"rule_files": []string{"alerts.yaml"},
		"scrape_configs": []any{map[string]any{
			"job_name": "order", "static_configs": []any{map[string]any{"targets": addresses}},
		}},
	}
	for name, content := range map[string]any{"prometheus.yaml": config, "alerts.yaml": r} {
		text, err := yaml.Marshal(content)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.Command(file, "--config.file="+filepath.Join(dir, "prometheus.yaml"), "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:0")
	output, err := command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { command.Process.Kill(); command.Wait() })
	return scraper{t, "http://" + listening(t, output) + "/api/v1/"}
}

var listeningOn = regexp.MustCompile(`msg="Listening on" address=(\S+)`)

// listening returns the address that Prometheus logs, when it is ready.
func listening(t *testing.T, output io.Reader) (address string) {
	t.Helper()
	var log strings.Builder
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		fmt.Fprintln(&log, lines.Text())
		if found := listeningOn.FindStringSubmatch(lines.Text()); found != nil {
			address = found[1]
		}
		if strings.Contains(lines.Text(), "ready to receive web requests") {
			go io.Copy(io.Discard, output)
			return address
		}
	}
	t.Fatalf("Prometheus did not start: %s", log.String())
	return ""
}

// get decodes what the API answers.
func (p scraper) get(path string, data any) {
	p.t.Helper()
	request, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, p.base+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || answer.Status != "success" {
		p.t.Fatalf("%s: %s, %v", path, answer.Error, err)
	}
}

// query returns the values of an expression now; NaN is none.
func (p scraper) query(expr string) (values []float64) {
	p.t.Helper()
	var found struct {
		Result []struct{ Value [2]any } // time and value
	}
	p.get("query?query="+url.QueryEscape(expr), &found)
	for _, sample := range found.Result {
		value, err := strconv.ParseFloat(fmt.Sprint(sample.Value[1]), 64)
		if err != nil {
			p.t.Fatalf("%s: %v", expr, err)
		}
		if !math.IsNaN(value) {
			values = append(values, value)
		}
	}
	return values
}

// alert is an alert that waits or fires.
type alert struct {
	State               string
	Labels, Annotations map[string]string
}

// firing returns the alerts that fire, by name.
func (p scraper) firing() map[string]alert {
	p.t.Helper()
	var all struct{ Alerts []alert }
	p.get("alerts", &all)
	firing := map[string]alert{}
	for _, one := range all.Alerts {
		if one.State == "firing" {
			firing[one.Labels["alertname"]] = one
		}
	}
	return firing
}

// fires waits until all these alerts fire, and returns those that do.
func (p scraper) fires(names ...string) (firing map[string]alert) {
	p.t.Helper()
	sagatest.Eventually(p.t, fmt.Sprintf("%q fire", names), func() bool {
		firing = p.firing()
		return !slices.ContainsFunc(names, func(name string) bool { _, does := firing[name]; return !does })
	})
	return firing
}

// quiet waits until none of these alerts fires.
func (p scraper) quiet(names ...string) {
	p.t.Helper()
	sagatest.Eventually(p.t, fmt.Sprintf("%q do not fire", names), func() bool {
		firing := p.firing()
		return !slices.ContainsFunc(names, func(name string) bool { _, does := firing[name]; return does })
	})
}
