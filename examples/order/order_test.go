package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/tccsaga/tccsaga/saga/sagatest"
)

func init() { gin.SetMode(gin.ReleaseMode) }

// client calls a running service.
type client struct {
	t    *testing.T
	base string
}

// call sends a request and returns the status and the decoded body.
func (c client) call(method, path, body string) (int, map[string]any) {
	c.t.Helper()
	status, text := c.raw(method, path, body)
	var decoded map[string]any
	if err := json.Unmarshal(text, &decoded); err != nil {
		c.t.Fatalf("%s %s: %d %s", method, path, status, text)
	}
	return status, decoded
}

func (c client) raw(method, path, body string) (int, []byte) {
	c.t.Helper()
	request, err := http.NewRequestWithContext(c.t.Context(), method, c.base+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return response.StatusCode, text
}

// expect calls and compares the status, and the fields that want names.
func (c client) expect(method, path, body string, status int, want map[string]any) map[string]any {
	c.t.Helper()
	gotStatus, got := c.call(method, path, body)
	if gotStatus != status {
		c.t.Fatalf("%s %s %s: %d %v, want %d", method, path, body, gotStatus, got, status)
	}
	for field, value := range want {
		if fmt.Sprint(got[field]) != fmt.Sprint(value) {
			c.t.Errorf("%s %s %s: %s is %v, want %v", method, path, body, field, got[field], value)
		}
	}
	return got
}

func (c client) stock(available, locked, sold int) {
	c.t.Helper()
	c.expect("GET", "/stock/phone", "", 200, map[string]any{"available": available, "locked": locked, "sold": sold})
}

// notified waits until the consumer has handled exactly these orders.
func (c client) notified(orders ...string) {
	c.t.Helper()
	sagatest.Eventually(c.t, fmt.Sprintf("notifications of %v", orders), func() bool {
		got := c.notifications()
		if len(got) != len(orders) {
			return false
		}
		for i := range got {
			if got[i].OrderID != orders[i] {
				return false
			}
		}
		return true
	})
}

func (c client) notifications() []Notification {
	c.t.Helper()
	_, text := c.raw("GET", "/notifications", "")
	var got []Notification
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&got); err != nil {
		c.t.Fatalf("notifications: %s: %v", text, err)
	}
	return got
}

// serve starts the service in this process, on what it runs on by default.
func serve(t *testing.T, data string, public ...string) (client, *Service) {
	t.Helper()
	service, err := Start(t.Context(), Config{Data: data, Public: public})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(service.Handler())
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		server.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := service.Stop(ctx); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return client{t, server.URL}, service
}

func TestOrders(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, t.TempDir())
	c.expect("GET", "/stock/phone", "", 404, nil)
	c.expect("PUT", "/stock/phone", `{"available":10}`, 200, map[string]any{"sku": "phone", "available": 10})
	order := `{"order_id":"1001","sku":"phone","quantity":1}`
	for range 3 {
		c.expect("POST", "/orders", order, 201, map[string]any{"gid": "order-1001", "status": "confirmed"})
	}
	c.stock(9, 0, 1)
	short := `{"order_id":"1002","sku":"phone","quantity":10}`
	first := c.expect("POST", "/orders", short, 409, map[string]any{"gid": "order-1002", "status": "cancelled"})
	if reason := fmt.Sprint(first["reason"]); !strings.Contains(reason, "10 wanted, 9 available") {
		t.Errorf("reason %q", reason)
	}
	c.expect("PUT", "/stock/phone", `{"available":50}`, 200, nil)
	c.expect("POST", "/orders", short, 409, first) // the same answer, whatever the stock is by now
	c.stock(50, 0, 1)
	c.expect("POST", "/orders", `{"order_id":"1001","sku":"phone","quantity":2}`, 409, nil)
	c.expect("POST", "/orders", `{"order_id":"1003","sku":"nothing","quantity":2}`, 409, nil)
	c.notified("1001")
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, t.TempDir())
	c.expect("PUT", "/stock/phone", `{"available":10}`, 200, nil)
	bad := []string{
		``, `x`, `[]`, `{}`, `{"order_id":"1","sku":"phone"}`, `{"order_id":"","sku":"phone","quantity":1}`,
		`{"order_id":"a b","sku":"phone","quantity":1}`, `{"order_id":"1","sku":"","quantity":1}`,
		`{"order_id":"1","sku":"phone","quantity":0}`, `{"order_id":"1","sku":"phone","quantity":-1}`,
		`{"order_id":"1","sku":"phone","quantity":99999999999999999999}`, `{"order_id":"1","sku":"phone","quantity":1.5}`,
		`{"order_id":"1","sku":"phone","quantity":1} trailing`, `{"order_id":"1","sku":"phone","quantity":1,"price":2}`,
		`{"order_id":"` + strings.Repeat("1", 101) + `","sku":"phone","quantity":1}`,
		`{"order_id":"1","sku":"` + strings.Repeat("x", 65) + `","quantity":1}`,
		`{"order_id":"1","sku":"` + strings.Repeat("x", 1000) + `","quantity":1}`,
	}
	for _, body := range bad {
		for _, path := range []string{"/orders", "/reservations"} {
			c.expect("POST", path, body, 400, nil)
		}
	}
	for _, within := range []string{"soon", "-5m", "0s", "1000000h"} {
		c.expect("POST", "/reservations", `{"order_id":"1","sku":"phone","quantity":1,"pay_within":"`+within+`"}`, 400, nil)
	}
	for _, body := range []string{``, `{}`, `{"available":-1}`, `{"available":"many"}`, `{"available":9007199254740993}`} {
		c.expect("PUT", "/stock/phone", body, 400, nil)
	}
	c.expect("POST", "/faults", `{"fail_confirms":-1}`, 400, nil)
	c.expect("POST", "/reservations/nobody/pay", ``, 404, nil)
	c.expect("POST", "/reservations/nobody/cancel", ``, 404, nil)
	c.expect("GET", "/transactions/nobody", ``, 404, nil)
	c.expect("GET", "/nowhere", ``, 404, nil)
	c.stock(10, 0, 0)
}

func TestReservations(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, t.TempDir())
	c.expect("PUT", "/stock/phone", `{"available":10}`, 200, nil)

	paid := `{"order_id":"1","sku":"phone","quantity":2,"pay_within":"15m"}`
	for range 2 {
		c.expect("POST", "/reservations", paid, 201, map[string]any{"gid": "reservation-1", "status": "reserved"})
	}
	c.stock(8, 2, 0)
	for range 2 {
		c.expect("POST", "/reservations/1/pay", "", 200, map[string]any{"status": "confirmed"})
	}
	c.expect("POST", "/reservations/1/cancel", "", 409, map[string]any{"status": "confirmed"})
	c.expect("POST", "/reservations", paid, 201, map[string]any{"status": "confirmed"})
	c.stock(8, 0, 2)
	c.notified("1")

	c.expect("POST", "/reservations", `{"order_id":"2","sku":"phone","quantity":2}`, 201, nil)
	for range 2 {
		c.expect("POST", "/reservations/2/cancel", "", 200, map[string]any{"status": "cancelled"})
	}
	c.expect("POST", "/reservations/2/pay", "", 409, map[string]any{"status": "cancelled"})
	c.stock(8, 0, 2)

	c.expect("POST", "/reservations", `{"order_id":"3","sku":"phone","quantity":9}`, 409, map[string]any{"status": "cancelled"})
	c.stock(8, 0, 2)

	c.expect("POST", "/reservations", `{"order_id":"4","sku":"phone","quantity":3,"pay_within":"100ms"}`, 201, nil)
	sagatest.Eventually(c.t, "the stock comes back at the deadline", func() bool {
		_, found := c.call("GET", "/transactions/reservation-4", "")
		return found["state"] == "cancelled" && found["decided_by"] == "deadline"
	})
	c.stock(8, 0, 2)
	c.notified("1")
}

// The deadline passes while no process is there.
func TestDeadlineWhileDown(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	t.Run("before", func(t *testing.T) {
		c, _ := serve(t, data)
		c.expect("PUT", "/stock/phone", `{"available":10}`, 200, nil)
		c.expect("POST", "/reservations", `{"order_id":"1","sku":"phone","quantity":3,"pay_within":"1s"}`, 201, nil)
		c.stock(7, 3, 0)
	}) // and stops
	c, _ := serve(t, data)
	sagatest.Eventually(c.t, "the stock comes back", func() bool {
		_, found := c.call("GET", "/transactions/reservation-1", "")
		return found["state"] == "cancelled"
	})
	c.stock(10, 0, 0)
}

func TestFaults(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, t.TempDir())
	c.expect("PUT", "/stock/phone", `{"available":10}`, 200, nil)

	c.expect("POST", "/faults", `{"broker_unreachable":true}`, 200, nil)
	c.expect("POST", "/orders", `{"order_id":"1","sku":"phone","quantity":1}`, 202, map[string]any{"status": "confirming"})
	answer := c.expect("POST", "/orders", `{"order_id":"1","sku":"phone","quantity":1}`, 202, map[string]any{"look_at": "/transactions/order-1"})
	if !strings.Contains(fmt.Sprint(answer["explained"]), "decided to be confirmed") {
		t.Errorf("202 without a sentence: %v", answer)
	}
	c.stock(9, 0, 1)
	found := c.expect("GET", "/transactions/order-1", "", 200, map[string]any{"state": "confirming"})
	if text := fmt.Sprint(found["branches"]); !strings.Contains(text, "publishing on orders.placed") || !strings.Contains(text, "neither Confirm nor Cancel has run yet") {
		t.Errorf("the transaction does not explain itself: %s", text)
	}
	if got := c.notifications(); len(got) != 0 {
		t.Errorf("notified without a broker: %v", got)
	}
	c.expect("POST", "/faults", `{"broker_unreachable":false}`, 200, nil)
	c.notified("1")
	sagatest.Eventually(c.t, "it is confirmed", func() bool {
		status, _ := c.call("POST", "/orders", `{"order_id":"1","sku":"phone","quantity":1}`)
		return status == 201
	})

	c.expect("POST", "/faults", `{"fail_confirms":2}`, 200, nil)
	c.expect("POST", "/orders", `{"order_id":"2","sku":"phone","quantity":1}`, 202, map[string]any{"status": "confirming"})
	sagatest.Eventually(c.t, "the Confirm succeeds in the end", func() bool {
		_, found := c.call("GET", "/transactions/order-2", "")
		return found["state"] == "confirmed"
	})
	c.notified("1", "2")
	c.stock(8, 0, 2)
}

func TestOperators(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, t.TempDir())
	c.expect("PUT", "/stock/phone", `{"available":10}`, 200, nil)
	c.expect("POST", "/reservations", `{"order_id":"1","sku":"phone","quantity":1,"pay_within":"1h"}`, 201, nil)
	by := `{"who":"alice","why":"the customer called"}`
	c.expect("POST", "/transactions/reservation-1/retry", by, 409, nil) // there is nothing to retry
	c.expect("POST", "/transactions/reservation-1/pause", `{"who":"alice"}`, 400, nil)
	c.expect("POST", "/transactions/reservation-1/pause", by, 200, map[string]any{"state": "trying"})
	c.expect("POST", "/transactions/reservation-1/cancel", by, 200, map[string]any{"state": "cancelling", "decided_by": "operator"})
	c.expect("POST", "/transactions/reservation-1/confirm", by, 409, nil)
	c.stock(9, 1, 0) // it is paused
	found := c.expect("POST", "/transactions/reservation-1/resume", by, 200, nil)
	if acts := fmt.Sprint(found["operators"]); strings.Count(acts, "alice") != 3 || !strings.Contains(acts, "the customer called") {
		t.Errorf("acts: %s", acts)
	}
	sagatest.Eventually(c.t, "it is cancelled", func() bool {
		_, found := c.call("GET", "/transactions/reservation-1", "")
		return found["state"] == "cancelled"
	})
	c.stock(10, 0, 0)
	c.expect("POST", "/transactions/reservation-2/pause", by, 404, nil)
	c.expect("POST", "/transactions/reservation-1/delete", by, 404, nil)
}

func TestWrongFlagsSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		config Config
		says   string
	}{
		"scheme":      {Config{DB: "oracle://localhost/x"}, "use mysql:// or postgres://"},
		"no database": {Config{DB: "mysql://root:secret@127.0.0.1:3306"}, "names no host or no database"},
		"db down":     {Config{DB: "mysql://root:secret@127.0.0.1:1/x"}, "127.0.0.1:1"},
		"nats down":   {Config{NATS: "nats://127.0.0.1:1"}, "is it running?"},
	}
	for name, c := range cases {
		c.config.Data = t.TempDir()
		_, err := Start(t.Context(), c.config)
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want %q and no password", name, err, c.says)
		}
	}
}
