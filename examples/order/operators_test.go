package main

import (
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/sagatest"
)

// page gets a page of the console.
func (c client) page(path string) string {
	c.t.Helper()
	status, text := c.raw("GET", "/console"+path, "")
	if status != 200 {
		c.t.Fatalf("GET /console%s: %d %s", path, status, text)
	}
	return string(text)
}

// post sends a form of the console, as a browser does, and returns the answer after redirects.
func (c client) post(path string, form url.Values, header map[string]string) (int, string) {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.base+"/console/"+path, strings.NewReader(form.Encode()))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for name, value := range header {
		r.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// While a fault is on, the console says why an order is not finished, and an operator acts there.
func TestConsole(t *testing.T) {
	t.Parallel()
	c, service := serve(t, t.TempDir())
	c.expect("PUT", "/stock/phone", `{"available":10}`, 200, nil)
	if status, header, _ := c.as("GET", "/console", "", nil); status != 301 || header.Get("Location") != "/console/" {
		t.Errorf("GET /console: %d %s", status, header)
	}
	if text := c.page("/"); !strings.Contains(text, "Orders") {
		t.Errorf("the first page has no title: %s", text)
	}
	for _, link := range regexp.MustCompile(`(?:href|src)="(/console/assets/[^"]+)"`).FindAllStringSubmatch(c.page("/"), -1) {
		c.page(strings.TrimPrefix(link[1], "/console"))
	}
	if text := banner(service, "here"); !strings.Contains(text, "console   http://here/console\n") {
		t.Errorf("the banner does not name the console: %s", text)
	}
	c.expect("POST", "/faults", `{"fail_confirms":1000}`, 200, nil)
	c.expect("POST", "/orders", `{"order_id":"1","sku":"phone","quantity":1}`, 202, nil)
	if text := c.page("/transaction?gid=order-1"); !strings.Contains(text, "POST /faults makes this Confirm fail") {
		t.Errorf("the page does not say why: %s", text)
	}
	if text := c.page("/transactions"); !strings.Contains(text, "order-1") {
		t.Errorf("the list has no order: %s", text)
	}
	c.page("/letters?stream=" + stream)

	form := url.Values{"gid": {"order-1"}, "act": {"pause"}, "why": {"the stock is counted"}}
	if status, _ := c.post("transaction/act", form, map[string]string{"Origin": "http://evil.example"}); status != 403 {
		t.Errorf("a page of another origin acts: %d", status)
	}
	if status, text := c.post("transaction/act", form, nil); status != 200 {
		t.Fatalf("pause: %d %s", status, text)
	}
	acts, err := service.engine.Operations().Actions(t.Context(), saga.ActionQuery{GID: "order-1"})
	if err != nil || len(acts.Actions) != 1 {
		t.Fatalf("%+v, %v", acts, err)
	}
	who, err := operator(nil, "")
	if act := acts.Actions[0]; err != nil || act.Name != "pause" || act.Who != who || act.Why != "the stock is counted" {
		t.Errorf("the act is %+v by %q, %v", act, who, err)
	}
	c.expect("POST", "/faults", `{"fail_confirms":0}`, 200, nil)
	form.Set("act", "resume")
	if status, text := c.post("transaction/act", form, nil); status != 200 {
		t.Fatalf("resume: %d %s", status, text)
	}
	sagatest.Eventually(t, "it is confirmed", func() bool {
		found, err := service.engine.Lookup(t.Context(), "order-1")
		return err == nil && found.State == saga.Confirmed
	})
}
