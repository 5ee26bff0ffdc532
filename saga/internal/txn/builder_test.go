package txn_test

import (
	"bytes"
	"context"
	"encoding/json"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// Checking, encoding and identifying a plan.
func BenchmarkPrepare(b *testing.B) {
	encode := func(input any) ([]byte, error) { return json.Marshal(input) }
	registry, err := txn.NewRegistry(sqltest.Open(b, "sqlite"))
	if err != nil {
		b.Fatal(err)
	}
	for _, kind := range []string{"stock.lock", "message.publish"} {
		work := func(context.Context, *gorm.DB, saga.Call) error { return nil }
		branch, err := txn.NewBranch(saga.NewLocal(kind, encode, saga.Local{Work: work}), nil)
		if err == nil {
			err = registry.Add(b.Context(), branch)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	builder := &txn.Builder{Registry: registry, Caller: "log", MaxPayload: 1 << 20, MaxBytes: 8 << 20}
	type lock struct {
		SKU      string
		Quantity int
	}
	type publish struct {
		Subject string
		Data    []byte
	}
	plan := saga.Plan{GID: "order-1001", Pattern: "tcc", Steps: []saga.Step{
		{Kind: "stock.lock", Input: lock{"phone", 1}}, {Kind: "message.publish", Input: publish{"orders.placed", bytes.Repeat([]byte("x"), 500)}}}}
	b.ReportAllocs()
	for b.Loop() {
		t, err := builder.Prepare(plan)
		if err != nil {
			b.Fatal(err)
		}
		if t.Digest(plan.Pattern) == "" {
			b.Fatal("no digest")
		}
	}
}
