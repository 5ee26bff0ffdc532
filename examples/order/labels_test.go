package main

import (
	"strings"
	"testing"

	"github.com/tccsaga/tccsaga/saga"
)

// An order is found by its number and by its customer.
func TestOrdersAreFoundByLabel(t *testing.T) {
	t.Parallel()
	c, service := serve(t, t.TempDir())
	c.expect("PUT", "/stock/phone", `{"available":10}`, 200, nil)
	c.expect("POST", "/orders", `{"order_id":"1001","sku":"phone","quantity":1,"customer":"ann"}`, 201, nil)
	c.expect("POST", "/reservations", `{"order_id":"2001","sku":"phone","quantity":1,"customer":"ann"}`, 201, nil)
	c.expect("POST", "/orders", `{"order_id":"1002","sku":"phone","quantity":1}`, 201, nil)
	for _, want := range []struct{ label, value, gids string }{
		{"order_id", "1001", "order-1001"},
		{"order_id", "2001", "reservation-2001"},
		{"order_id", "1002", "order-1002"},
		{"customer", "ann", "reservation-2001 order-1001"},
		{"customer", "bob", ""},
		{"", "ann", "reservation-2001 order-1001"},
	} {
		page, err := service.engine.Operations().Find(t.Context(), saga.Query{Label: want.label, Value: want.value})
		if err != nil {
			t.Fatal(err)
		}
		var gids []string
		for _, found := range page.Transactions {
			gids = append(gids, found.GID)
		}
		if got := strings.Join(gids, " "); got != want.gids {
			t.Errorf("%s=%s: %q, want %q", want.label, want.value, got, want.gids)
		}
	}
	for _, customer := range []string{strings.Repeat("x", 129), `a\u0000b`} {
		body := `{"order_id":"1003","sku":"phone","quantity":1,"customer":"` + customer + `"}`
		c.expect("POST", "/orders", body, 400, nil)
		c.expect("POST", "/reservations", body, 400, nil)
	}
}
