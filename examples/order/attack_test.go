package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/tccsaga/tccsaga/examples/internal/web"
	"github.com/tccsaga/tccsaga/saga/sagatest"
)

// as sends a request with a header of its own.
func (c client) as(method, path, body string, header map[string]string) (int, http.Header, string) {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.base+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for name, value := range header {
		if r.Header.Set(name, value); name == "Host" {
			r.Host = value
		}
	}
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(text)
}

// A page elsewhere makes the browser send requests: none changes anything, and
// none is read by way of a name that leads here.
func TestRequestsFromElsewhere(t *testing.T) {
	t.Parallel()
	c, service := serve(t, t.TempDir())
	c.expect("PUT", "/stock/phone", `{"available":10}`, 200, nil)
	c.expect("POST", "/reservations", `{"order_id":"1","sku":"phone","quantity":1}`, 201, nil)
	elsewhere := []map[string]string{
		{"Origin": "http://evil.example"},
		{"Origin": "http://evil.example", "Content-Type": "text/plain"},
		{"Origin": "null"},
		{"Sec-Fetch-Site": "cross-site"},
		{"Sec-Fetch-Site": "same-site"},
		{"Host": "evil.example"},
		{"Host": "evil.example", "Origin": "http://evil.example"},
		{"Content-Type": "text/plain"},
		{"Content-Type": "application/x-www-form-urlencoded"},
	}
	by := `{"who":"eve","why":"fun"}`
	for _, header := range elsewhere {
		for _, page := range [][2]string{
			{"/faults", `{"fail_confirms":9,"broker_unreachable":true}`}, {"/transactions/reservation-1/cancel", by},
			{"/transactions/reservation-1/pause", by}, {"/orders", `{"order_id":"2","sku":"phone","quantity":1}`},
		} {
			if status, _, text := c.as("POST", page[0], page[1], header); status != 403 && status != 421 && status != 415 || !strings.Contains(text, `"error"`) {
				t.Errorf("%v POST %s: %d %s", header, page[0], status, text)
			}
		}
	}
	for _, path := range []string{"/", "/faults", "/transactions/reservation-1", "/stock/phone", "/notifications", "/metrics", "/readyz"} {
		if status, _, text := c.as("GET", path, "", map[string]string{"Host": "evil.example"}); status != 421 {
			t.Errorf("GET %s: %d %s", path, status, text)
		}
	}
	if now := service.faults.get(); now != (Faults{}) {
		t.Errorf("the faults are %+v", now)
	}
	c.expect("GET", "/transactions/reservation-1", "", 200, map[string]any{"state": "trying", "operators": nil})
	c.stock(9, 1, 0)
}

// Where other machines reach the service, there are no pages of an operator.
func TestPublic(t *testing.T) {
	t.Parallel()
	c, service := serve(t, t.TempDir(), "shop.example")
	c.expect("PUT", "/stock/phone", `{"available":10}`, 200, nil)
	c.expect("POST", "/reservations", `{"order_id":"1","sku":"phone","quantity":1}`, 201, nil)
	for _, path := range []string{"/faults", "/transactions/reservation-1/cancel"} {
		c.expect("POST", path, `{"who":"eve","why":"fun"}`, 404, nil)
	}
	for _, path := range []string{"/", "/faults", "/transactions/reservation-1", "/metrics", "/console", "/console/"} {
		c.expect("GET", path, "", 404, nil)
	}
	if status, _, text := c.as("GET", "/stock/phone", "", map[string]string{"Host": "shop.example"}); status != 200 {
		t.Errorf("for the public host: %d %s", status, text)
	}
	service.faults.set(Faults{BrokerUnreachable: true})
	answer := c.expect("POST", "/orders", `{"order_id":"2","sku":"phone","quantity":1}`, 202, map[string]any{"status": "confirming"})
	if answer["look_at"] != nil || !strings.Contains(fmt.Sprint(answer["explained"]), "send the same request again") {
		t.Errorf("%v", answer)
	}
	text := banner(service, "0.0.0.0:8080")
	if strings.Contains(text, "/console\n") || !strings.Contains(text, "PUBLIC") || strings.Contains(text, "ADDR/faults") || strings.Contains(text, "--json '{\"die") {
		t.Errorf("the banner does not say so: %s", text)
	}
	if _, err := web.Listen("0.0.0.0:0", nil); err == nil {
		t.Error("it listens for other machines without being told to")
	}
}

// The same id with something else in it, whatever has become of it.
func TestRepeatedWithSomethingElse(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, t.TempDir())
	c.expect("PUT", "/stock/phone", `{"available":10}`, 200, nil)
	const first, second = `{"order_id":"1","sku":"phone","quantity":1}`, `{"order_id":"1","sku":"phone","quantity":2}`
	differs := func(path string) {
		t.Helper()
		got := c.expect("POST", path, second, 409, nil)
		if !strings.Contains(fmt.Sprint(got["error"]), "-1 was sent before with something else") {
			t.Errorf("%s: %v", path, got)
		}
	}
	c.expect("POST", "/orders", first, 201, nil)
	differs("/orders")
	c.expect("POST", "/reservations", first, 201, nil)
	differs("/reservations")
	c.expect("POST", "/reservations/1/pay", "", 200, nil)
	differs("/reservations")
	c.expect("POST", "/reservations", first, 201, map[string]any{"status": "confirmed"})
	c.stock(8, 0, 2)
}

// Strange ids and names are answered with what is wrong, in JSON, and no text of
// a database.
func TestStrangeNames(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, t.TempDir())
	for _, name := range []string{"a/b", "a b", "ü", "\x00", "../..", "'; DROP TABLE saga_stock; --", strings.Repeat("x", 5000), "%", "+", "\u202e", "."} {
		id := url.PathEscape(name)
		for _, page := range []struct{ method, path, body string }{
			{"GET", "/stock/" + id, ""}, {"PUT", "/stock/" + id, `{"available":-1}`}, {"GET", "/transactions/" + id, ""},
			{"POST", "/transactions/" + id + "/cancel", `{"who":"a","why":"b"}`}, {"POST", "/reservations/" + id + "/pay", ""},
			{"POST", "/reservations/" + id + "/cancel", ""}, {"POST", "/orders", fmt.Sprintf(`{"order_id":"o","sku":%q,"quantity":0}`, name)},
		} {
			status, _, text := c.as(page.method, page.path, page.body, nil)
			if status != 400 && status != 404 || !strings.HasPrefix(text, `{"error":`) || strings.Contains(text, "SELECT") || strings.Contains(text, "UPDATE") {
				t.Errorf("%s %.60q: %d %s", page.method, page.path, status, text)
			}
		}
	}
	c.expect("PUT", "/stock/a%2Fb+c", `{"available":3}`, 200, map[string]any{"sku": "a/b+c"})
	c.expect("POST", "/orders", `{"order_id":"1","sku":"a/b+c","quantity":2}`, 201, nil)
	c.expect("GET", "/stock/a%2Fb+c", "", 200, map[string]any{"sold": 2})
	for _, page := range []string{"GET /orders", "DELETE /stock/x", "PUT /faults", "PATCH /transactions/x"} {
		method, path, _ := strings.Cut(page, " ")
		status, header, text := c.as(method, path, "", nil)
		if status != 405 || header.Get("Allow") == "" || !strings.Contains(text, header.Get("Allow")) {
			t.Errorf("%s: %d, Allow %q, %s", page, status, header.Get("Allow"), text)
		}
	}
	for path, want := range map[string]int{"/": 200, "/faults": 200, "/metrics": 200, "/notifications": 200, "/stock/none": 404, "/transactions/none": 404} {
		if status, _, text := c.as("HEAD", path, "", nil); status != want || text != "" {
			t.Errorf("HEAD %s: %d %q, want %d", path, status, text, want)
		}
	}
}

// Many operators decide at once, for and against: one decision stands, and each is
// told what became of it.
func TestConcurrentActs(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, t.TempDir())
	c.expect("PUT", "/stock/phone", `{"available":10}`, 200, nil)
	c.expect("POST", "/reservations", `{"order_id":"1","sku":"phone","quantity":1}`, 201, nil)
	var mu sync.Mutex
	done := map[string]int{}
	var all sync.WaitGroup
	for i := range 24 {
		act := []string{"confirm", "cancel", "pay", "retry"}[i%4]
		all.Go(func() {
			path := "/transactions/reservation-1/" + act
			if act == "pay" {
				path = "/reservations/1/pay"
			}
			status, _, text := c.as("POST", path, `{"who":"a","why":"b"}`, nil)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case status == 200 || status == 202:
				done[act]++
			case status != 409:
				t.Errorf("%s: %d %s", act, status, text)
			}
		})
	}
	all.Wait()
	if (done["confirm"]+done["pay"] > 0) == (done["cancel"] > 0) {
		t.Errorf("done: %v", done)
	}
	sagatest.Eventually(c.t, "it is finished", func() bool {
		_, level := c.call("GET", "/stock/phone", "")
		return fmt.Sprint(level["locked"]) == "0"
	})
	if done["cancel"] > 0 {
		c.stock(10, 0, 0)
	} else {
		c.stock(9, 0, 1)
	}
}
