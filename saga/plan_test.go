package saga

import (
	"bytes"
	"encoding/json"
	"testing"
)

// Checking, encoding and identifying a plan.
func BenchmarkPrepare(b *testing.B) {
	config, err := Config{}.withDefaults()
	if err != nil {
		b.Fatal(err)
	}
	encode := func(input any) ([]byte, error) { return json.Marshal(input) }
	o := &Orchestrator{config: config, kinds: kinds{branches: map[string]*branch{
		"stock.lock": {Branch: Branch{Kind: "stock.lock", Encode: encode}}, "message.publish": {Branch: Branch{Kind: "message.publish", Encode: encode}}}}}
	type lock struct {
		SKU      string
		Quantity int
	}
	type publish struct {
		Subject string
		Data    []byte
	}
	plan := Plan{GID: "order-1001", Pattern: "tcc", Steps: []Step{
		{Kind: "stock.lock", Input: lock{"phone", 1}}, {Kind: "message.publish", Input: publish{"orders.placed", bytes.Repeat([]byte("x"), 500)}}}}
	b.ReportAllocs()
	for b.Loop() {
		t, err := o.prepare(plan)
		if err != nil {
			b.Fatal(err)
		}
		if t.digest(plan.Pattern) == "" {
			b.Fatal("no digest")
		}
	}
}
