package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The trace of a request goes on in the calls of the branches and in the consumer of the
// message.
func TestTracesPropagate(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "spans.jsonl")
	service, c := startProcess(t, "-data", t.TempDir(), "-traces", file)
	c.expect("PUT", "/stock/phone", `{"available":10}`, 200, nil)
	const id, caller = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	traced := map[string]string{"Traceparent": "00-" + id + "-" + caller + "-01"}
	if status, _, text := c.as("POST", "/orders", `{"order_id":"1","sku":"phone","quantity":1}`, traced); status != 201 {
		t.Fatalf("%d %s", status, text)
	}
	c.notified("1")
	if trace := fmt.Sprint(c.expect("GET", "/transactions/order-1", "", 200, nil)["trace"]); !strings.HasPrefix(trace, "00-"+id+"-") {
		t.Errorf("the log keeps the trace %q", trace)
	}
	if err := service.Terminate(); err != nil {
		t.Fatal(err)
	}
	if err := service.Wait(); err != nil {
		t.Fatal(err)
	}
	type link struct {
		TraceID, SpanID string
	}
	names, parents := map[string]string{}, map[string]string{}
	spans, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer spans.Close()
	for decoder := json.NewDecoder(spans); ; {
		var span struct {
			Name                string
			SpanContext, Parent link
		}
		if err := decoder.Decode(&span); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if span.SpanContext.TraceID == id {
			names[span.SpanContext.SpanID], parents[span.Name] = span.Name, span.Parent.SpanID
		}
	}
	if parents["POST /orders"] != caller {
		t.Errorf("the request is a child of %q, want the caller's span", parents["POST /orders"])
	}
	for name, parent := range map[string]string{
		"tccsaga execute": "POST /orders", "stock.lock try": "tccsaga execute", "message.publish try": "tccsaga execute",
		"process ORDERS": "message.publish try",
	} {
		if got := names[parents[name]]; got != parent {
			t.Errorf("%q is a child of %q, want %q", name, got, parent)
		}
	}
	if t.Failed() {
		all := make([]string, 0, len(parents))
		for name, parent := range parents {
			all = append(all, name+" < "+names[parent])
		}
		slices.Sort(all)
		t.Log(strings.Join(all, "\n"))
	}
}

// Who is not the operator continues no trace: a public caller could join its requests to any.
func TestTracesOfThePublic(t *testing.T) {
	t.Parallel()
	c, service := serve(t, t.TempDir(), "shop.example")
	c.expect("PUT", "/stock/phone", `{"available":10}`, 200, nil)
	const id = "0af7651916cd43dd8448eb211c80319c"
	traced := map[string]string{"Traceparent": "00-" + id + "-b7ad6b7169203331-01"}
	if status, _, text := c.as("POST", "/orders", `{"order_id":"1","sku":"phone","quantity":1}`, traced); status != 201 {
		t.Fatalf("%d %s", status, text)
	}
	found, err := service.engine.Lookup(t.Context(), "order-1")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(found.Trace, id) || !strings.HasPrefix(found.Trace, "00-") {
		t.Errorf("the trace is %q", found.Trace)
	}
}

// The metrics are in the format of Prometheus, and no name of a transaction is in them.
func TestMetricsPage(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, t.TempDir())
	c.expect("PUT", "/stock/phone", `{"available":10}`, 200, nil)
	c.expect("POST", "/orders", `{"order_id":"secret-1","sku":"phone","quantity":1,"customer":"ann"}`, 201, nil)
	c.notified("secret-1")
	status, header, text := c.as("GET", "/metrics", "", nil)
	if status != 200 || !strings.HasPrefix(header.Get("Content-Type"), "text/plain") {
		t.Fatalf("%d %s", status, header)
	}
	for _, line := range []string{
		`tccsaga_transaction_duration_seconds_count{outcome="confirmed",pattern="tcc"} 1`, `tccsaga_transactions_active{state="trying"} 0`,
		`tccsaga_outbox_pending{stream="ORDERS"} 0`, `tccsaga_dead_letters{stream="ORDERS"} 0`, `tccsaga_instances{alive="true"} 1`,
		"\ntccsaga_takeovers_total 0\n", "\ntccsaga_leases_lost_total 0\n", "\ntccsaga_commits_unanswered_total 0\n", "\ngo_goroutines ",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("there is no %s", line)
		}
	}
	for _, hidden := range []string{"secret-1", "ann", "phone"} {
		if strings.Contains(text, hidden) {
			t.Errorf("the metrics show %s", hidden)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}
