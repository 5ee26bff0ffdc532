package main

import (
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"github.com/tccsaga/tccsaga/examples/internal/processtest"
)

// An order that is decided while a service cannot be reached is answered 202, and
// 201 when it is done.
func TestDecidedAndUnderWay(t *testing.T) {
	s := startTrio(t, databases(t, "sqlite")...)
	s.start()
	s.put("phone", 10)
	s.network.left.Store(2) // the two Trys
	s.network.ends.Store(true)
	order := Order{OrderID: "1", SKU: "phone", Quantity: 1, Email: "a@b"}
	var answer struct {
		State, Explained string
		LookAt           string `json:"look_at"`
	}
	if status := send(http.MethodPost, s.orderAt+"/orders", order, &answer); status != 202 || answer.State != "confirming" || !strings.Contains(answer.Explained, "send the same request again") {
		t.Fatalf("%d %+v", status, answer)
	}
	var found struct{ State string }
	if status := send(http.MethodGet, s.orderAt+answer.LookAt, nil, &found); status != 200 || found.State != "confirming" {
		t.Errorf("%s: %d %+v", answer.LookAt, status, found)
	}
	s.network.ends.Store(false)
	s.balanced(10, map[string]int{"1": 201})
	if status := send(http.MethodPost, s.orderAt+"/orders", order, &answer); status != 201 || answer.State != "confirmed" {
		t.Errorf("%d %+v", status, answer)
	}
}

// What can never be an order leaves no transaction behind; and no answer is
// anything but JSON, or says what only the log should.
func TestStrangeRequests(t *testing.T) {
	t.Parallel()
	s := startTrio(t, databases(t, "sqlite")...)
	s.start()
	s.put("phone", 10)
	const fine = `{"order_id":"1","sku":"phone","quantity":1,"email":"a@b"}`
	long := strings.Repeat("x", 255)
	for _, c := range []struct {
		method, url, body string
		header            [2]string
		status            int
		says              string
	}{
		{"POST", s.orderAt + "/orders", strings.Replace(fine, ":1,", ":-1,", 1), [2]string{}, 400, "quantity"},
		{"POST", s.orderAt + "/orders", strings.Replace(fine, ":1,", ":99999999999,", 1), [2]string{}, 400, "quantity"},
		{"POST", s.orderAt + "/orders", strings.Replace(fine, `"1"`, `"a/b"`, 1), [2]string{}, 400, "order_id"},
		{"POST", s.orderAt + "/orders", strings.Replace(fine, `"1"`, `"`+long+`"`, 1), [2]string{}, 400, "order_id"},
		{"POST", s.orderAt + "/orders", strings.Replace(fine, "phone", `\u0000`, 1), [2]string{}, 400, "sku"},
		{"POST", s.orderAt + "/orders", strings.Replace(fine, "a@b", `a@b\u0000`, 1), [2]string{}, 400, "email"},
		{"POST", s.orderAt + "/orders", strings.Replace(fine, "a@b", long, 1), [2]string{}, 400, "email"},
		{"POST", s.orderAt + "/orders", strings.Replace(fine, "{", `{"state":"placed",`, 1), [2]string{}, 400, "state"},
		{"POST", s.orderAt + "/orders", strings.Replace(fine, "{", `{"price":1,`, 1), [2]string{}, 400, "price"},
		{"POST", s.orderAt + "/orders", strings.Replace(fine, "{", `{"quantity":9,`, 1), [2]string{}, 400, "twice"},
		{"POST", s.orderAt + "/orders", strings.Replace(fine, "{", strings.Repeat(" ", 70000), 1), [2]string{}, 413, "bytes"},
		{"POST", s.orderAt + "/orders", "", [2]string{}, 400, "empty"},
		{"POST", s.orderAt + "/orders", fine, [2]string{"Content-Type", "text/plain"}, 415, "application/json"},
		{"POST", s.orderAt + "/orders", fine, [2]string{"Origin", "http://evil.example"}, 403, "origin"},
		{"POST", s.orderAt + "/orders", fine, [2]string{"Host", "evil.example"}, 421, "host"},
		{"PUT", s.stockAt + "/stock/phone", `{"available":1}`, [2]string{"Origin", "http://evil.example"}, 403, "origin"},
		{"PUT", s.stockAt + "/stock/phone", `{"available":-1}`, [2]string{}, 400, "allowed"},
		{"PUT", s.stockAt + "/stock/phone", `{}`, [2]string{}, 400, "available"},
		{"GET", s.stockAt + "/stock/none", "", [2]string{}, 404, "no such article"},
		{"GET", s.orderAt + "/transactions/order-1", "", [2]string{}, 404, "no such transaction"},
		{"GET", s.orderAt + "/transactions/a%20b", "", [2]string{}, 400, "printable"},
		{"GET", s.stockAt + "/barrier/a%2Fb", "", [2]string{}, 400, "slashes"},
		{"GET", s.mailAt + "/notifications", "", [2]string{"Host", "evil.example"}, 421, "host"},
		{"DELETE", s.orderAt + "/orders", "", [2]string{}, 405, "POST"},
		{"GET", s.mailAt + "/nowhere", "", [2]string{}, 404, "no such page"},
	} {
		r, err := http.NewRequestWithContext(t.Context(), c.method, c.url, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		if name := c.header[0]; name == "Host" {
			r.Host = c.header[1]
		} else if name != "" {
			r.Header.Set(name, c.header[1])
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode != c.status || !strings.HasPrefix(string(text), `{"error":`) || !strings.Contains(string(text), c.says) {
			t.Errorf("%s %s %.80s %v: %d %s, want %d with %q", c.method, c.url, c.body, c.header, response.StatusCode, text, c.status, c.says)
		}
	}
	s.balanced(10, nil)
}

// A password in the URL of the DTM server, or of a database, is not printed.
func TestPasswordsStayHidden(t *testing.T) {
	t.Parallel()
	text, err := banner(Config{Engine: "dtm", DTM: "http://root:s3cr3t@dtm:36789/api/dtmsvr?token=s3cr3t"})
	if err != nil || strings.Contains(text, "s3cr3t") || !strings.Contains(text, "dtm:36789") {
		t.Errorf("%s, %v", text, err)
	}
	if _, err := banner(Config{Engine: "dtm", DTM: "http://root:s3 cr3t@dtm"}); err == nil || strings.Contains(err.Error(), "cr3t") {
		t.Errorf("%v", err)
	}
	file := processtest.Binary(t)
	for _, arguments := range [][]string{
		{"-order-db", "mysql://root:s3cr3t@127.0.0.1:1/shop"}, {"-order-db", "root:s3cr3t@tcp(127.0.0.1:1)/shop"},
		{"-order-db=", "mysql://root:s3cr3t@127.0.0.1:1/shop"}, {"-engine", "dtm", "-dtm", "http://root:s3cr3t@127.0.0.1:1/api"},
		{"-order-addr", "0.0.0.0:0"},
	} {
		arguments = append([]string{"-data", t.TempDir(), "-order-addr", "127.0.0.1:0", "-service", "order"}, arguments...)
		out, err := exec.CommandContext(t.Context(), file, arguments...).CombinedOutput()
		if err == nil || len(out) == 0 || strings.Contains(string(out), "s3cr3t") {
			t.Errorf("%q: %v\n%s", arguments, err, out)
		}
	}
}
