package main

import (
	"strings"
	"testing"

	"github.com/tccsaga/tccsaga/saga/sagatest"
)

// quick returns the rules of the repository with thresholds that are reached in seconds.
func quick(t *testing.T) rules {
	t.Helper()
	lower := map[string][2]string{"TccsagaOutboxLag": {"> 60", "> 1"}, "TccsagaOldestUnfinished": {"> 900", "> 1"}}
	changed := 0
	r := shippedRules(t, func(one *rule) {
		if one.For != "" {
			one.For = "1s"
		}
		if threshold, lowered := lower[one.Alert]; lowered && strings.Contains(one.Expr, threshold[0]) {
			one.Expr = strings.Replace(one.Expr, threshold[0], threshold[1], 1)
			changed++
		}
	})
	if changed != len(lower) {
		t.Fatalf("%d thresholds are lowered, want %d", changed, len(lower))
	}
	return r
}

// While the broker is down, the service still takes orders, and the alerts say that messages
// wait. When it is back, they end.
func TestAlertsWhileTheBrokerIsDown(t *testing.T) {
	t.Parallel()
	_, c := startProcess(t, "-data", t.TempDir())
	p := startPrometheus(t, quick(t), strings.TrimPrefix(c.base, "http://"))
	c.expect("PUT", "/stock/phone", `{"available":10}`, 200, nil)
	c.expect("POST", "/orders", `{"order_id":"1","sku":"phone","quantity":1}`, 201, nil)
	lag := func() bool { return len(p.query(`tccsaga_outbox_lag_seconds{job="order",stream="ORDERS"} == 0`)) == 1 }
	sagatest.Eventually(t, "Prometheus has the metrics of the outbox", lag)
	sagatest.Eventually(t, "no alert fires", func() bool { return len(p.firing()) == 0 })

	c.expect("POST", "/faults", `{"broker_unreachable":true}`, 200, nil)
	c.expect("POST", "/orders", `{"order_id":"2","sku":"phone","quantity":1}`, 202, nil)
	firing := p.fires("TccsagaOutboxLag", "TccsagaOldestUnfinished")
	alert := firing["TccsagaOutboxLag"]
	if alert.Labels["severity"] != "critical" || alert.Labels["job"] != "order" || alert.Labels["stream"] != stream {
		t.Errorf("labels: %v", alert.Labels)
	}
	for name, part := range map[string]string{"summary": "Messages of order wait", "runbook": "sagactl outbox list"} {
		if text := alert.Annotations[name]; !strings.Contains(text, part) {
			t.Errorf("%s: %q", name, text)
		}
	}
	for name, alert := range firing {
		for key, text := range alert.Annotations {
			if strings.Contains(text, "error expanding") || strings.Contains(text, "no value") {
				t.Errorf("%s, %s: %s", name, key, text)
			}
		}
	}

	c.expect("POST", "/faults", `{"broker_unreachable":false}`, 200, nil)
	c.notified("1", "2")
	p.quiet("TccsagaOutboxLag", "TccsagaOldestUnfinished")
	sagatest.Eventually(t, "the outbox is empty", lag)
}

// A process that is killed is missed.
func TestAlertsWhenTheProcessIsGone(t *testing.T) {
	t.Parallel()
	service, c := startProcess(t, "-data", t.TempDir())
	p := startPrometheus(t, quick(t), strings.TrimPrefix(c.base, "http://"))
	sagatest.Eventually(t, "Prometheus has the metrics", func() bool { return len(p.query(`tccsaga_takeovers_total`)) == 1 })
	sagatest.Eventually(t, "no alert fires", func() bool { return len(p.firing()) == 0 })
	service.Kill()
	firing := p.fires("TccsagaTargetDown", "TccsagaAbsent")
	if got := firing["TccsagaAbsent"].Annotations["summary"]; got != "Prometheus has no metrics of the engines of order" {
		t.Errorf("summary %q", got)
	}
	service.Start()
	p.quiet("TccsagaTargetDown", "TccsagaAbsent")
}
