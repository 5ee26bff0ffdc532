package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Whatever is sent to any page: the service answers with success, or with an
// error that says what is wrong and leaves the stock as it was; it does not
// fail.
func FuzzRequests(f *testing.F) {
	service, err := Start(f.Context(), Config{Data: f.TempDir()})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { service.Stop(f.Context()) })
	routes := api{service}.routes()
	send := func(method, path, body string) *httptest.ResponseRecorder {
		request := httptest.NewRequest(method, "/", strings.NewReader(body))
		request.URL.Path = path
		request.Header.Set("Content-Type", "application/json")
		response := httptest.NewRecorder()
		routes.ServeHTTP(response, request)
		return response
	}
	send("PUT", "/stock/phone", `{"available":1000000}`)
	pages := []string{"POST /orders", "POST /reservations", "POST /reservations/x/pay", "POST /reservations/%s/cancel", "PUT /stock/%s",
		"GET /stock/%s", "GET /transactions/%s", "POST /transactions/%s", "GET /%s"}
	for i := range pages {
		for _, body := range []string{"", "{", "[]", "null", `"x"`, "{}{}", `{"order_id":"1","sku":"phone","quantity":1}`, `{"order_id":"` + strings.Repeat("x", 101) + `","sku":"phone","quantity":1}`,
			`{"order_id":"2","sku":"\u0000","quantity":1}`, `{"order_id":"3","sku":"phone","quantity":1e99}`, `{"order_id":"4","sku":"phone","quantity":-1}`,
			`{"order_id":"5","sku":"phone","quantity":1,"pay_within":"-1s"}`, `{"order_id":"6","sku":"phone","quantity":1,"pay_within":"1h"}`, `{"available":-1}`,
			`{"available":9223372036854775807}`, `{"order_id":"` + strings.Repeat("7", 70000) + `"}`, "\xff\x00"} {
			f.Add(i, "phone", body)
			f.Add(i, body, body)
		}
	}
	f.Fuzz(func(t *testing.T, page int, in, body string) {
		method, path, _ := strings.Cut(pages[(page%len(pages)+len(pages))%len(pages)], " ")
		if strings.Contains(path, "%s") {
			path = fmt.Sprintf(path, in)
		}
		before := send("GET", "/stock/phone", "").Body.String()
		got := send(method, path, body)
		switch {
		case got.Code >= 500:
			t.Errorf("%s %q %q: %d %s", method, path, body, got.Code, got.Body)
		case got.Code >= 400 && got.Code != http.StatusConflict:
			if after := send("GET", "/stock/phone", "").Body.String(); after != before {
				t.Errorf("%s %q %q: answered %d %s, and the stock has changed: %s, before: %s", method, path, body, got.Code, got.Body, after, before)
			}
			if got.Body.Len() == 0 {
				t.Errorf("%s %q %q: %d without a word", method, path, body, got.Code)
			}
		}
	})
}
