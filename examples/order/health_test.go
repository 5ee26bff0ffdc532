package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/tccsaga/tccsaga/saga/sagatest"
)

// ready asks whether the service is ready. It fails the test if the answer is not one.
func (c client) ready() (status int, now Readiness) {
	c.t.Helper()
	status, text := c.raw("GET", "/readyz", "")
	if err := json.Unmarshal(text, &now); err != nil {
		c.t.Fatalf("/readyz: %d %s", status, text)
	}
	if (status == http.StatusOK) != (now.Status == "ready") || status != http.StatusOK && status != http.StatusServiceUnavailable {
		c.t.Fatalf("/readyz: %d %s", status, text)
	}
	return status, now
}

// becomes waits until the service says that it is as wanted.
func (c client) becomes(want Readiness) {
	c.t.Helper()
	var now Readiness
	sagatest.Eventually(c.t, "/readyz says "+want.Status, func() bool {
		_, now = c.ready()
		return now == want
	})
}

var allWell = Readiness{Status: "ready", Lease: "ok", Database: "ok", Broker: "ok"}

// The service is ready if the lease is held, and the database and the broker answer. It is
// healthy in any case.
func TestReadiness(t *testing.T) {
	t.Parallel()
	c, service := serve(t, t.TempDir(), "shop.example") // the probes are there for the public, too
	c.becomes(allWell)

	service.faults.set(Faults{BrokerUnreachable: true})
	noBroker := allWell
	noBroker.Status, noBroker.Broker = "not ready", "the broker does not answer"
	c.becomes(noBroker)
	c.expect("GET", "/healthz", "", 200, map[string]any{"status": "ok"})
	service.faults.set(Faults{})
	c.becomes(allWell)

	// The lease ends, as it does after a long pause of the process. Then it is renewed.
	noLease := allWell
	noLease.Status, noLease.Lease = "not ready", "this instance holds no lease"
	sagatest.Eventually(t, "the lease is over", func() bool {
		err := service.backend.db.Exec("UPDATE saga_instances SET lease_until = '2000-01-01 00:00:00' WHERE instance = ?", service.engine.Instance()).Error
		if err != nil {
			t.Fatal(err)
		}
		_, now := c.ready()
		return now == noLease
	})
	c.becomes(allWell)

	pool, err := service.backend.db.DB()
	if err != nil {
		t.Fatal(err)
	}
	pool.Close()
	c.becomes(Readiness{Status: "not ready", Lease: "this instance holds no lease", Database: "the database does not answer", Broker: "ok"})
	c.expect("GET", "/healthz", "", 200, map[string]any{"status": "ok"})
	if _, text := c.raw("GET", "/readyz", ""); strings.Contains(string(text), "sql") {
		t.Errorf("the answer shows an error of the database: %s", text)
	}
}

// Many probes at once get the same answer.
func TestManyProbes(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, t.TempDir())
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			if _, now := c.ready(); now != allWell {
				t.Errorf("not ready: %+v", now)
			}
		})
	}
	all.Wait()
	for _, page := range []string{"/healthz", "/readyz"} {
		if status, _, text := c.as("HEAD", page, "", nil); status != 200 || text != "" {
			t.Errorf("HEAD %s: %d %q", page, status, text)
		}
		if status, _, _ := c.as("POST", page, "{}", nil); status != 405 {
			t.Errorf("POST %s: %d", page, status)
		}
	}
}

// At a signal, the service first says that it stops, and still takes orders: a load balancer
// needs time to notice. A second signal ends that.
func TestNotReadyBeforeTheStop(t *testing.T) {
	t.Parallel()
	service, c := startProcess(t, "-data", t.TempDir(), "-drain", "1h")
	c.becomes(allWell)
	if err := service.Terminate(); err != nil {
		t.Fatal(err)
	}
	stopping := allWell
	stopping.Status = "stopping"
	c.becomes(stopping)
	c.expect("GET", "/healthz", "", 200, map[string]any{"status": "ok"})
	c.expect("PUT", "/stock/phone", `{"available":10}`, 200, nil)
	c.expect("POST", "/orders", `{"order_id":"1","sku":"phone","quantity":1}`, 201, nil)
	if err := service.Terminate(); err != nil {
		t.Fatal(err)
	}
	if err := service.Wait(); err != nil {
		t.Errorf("the process ended with %v", err)
	}
}
