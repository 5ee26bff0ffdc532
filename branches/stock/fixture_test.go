package stock_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/tcc"
)

// shop is a stock and an orchestrator that locks in it.
type shop struct {
	t     testing.TB
	db    *gorm.DB
	stock *stock.Stock
	orch  *embedded.Engine
}

// newShop puts the articles into the stock of db and runs an orchestrator until
// the test ends.
func newShop(t testing.TB, db *gorm.DB, articles map[string]int64, options ...stock.Option) *shop {
	t.Helper()
	s := &shop{t: t, db: db, stock: stock.New(db, options...)}
	for sku, pieces := range articles {
		must(t, s.stock.Put(t.Context(), sku, pieces))
	}
	orch, err := embedded.Open(t.Context(), db, embedded.Config{Poll: 20 * time.Millisecond,
		MinBackoff: 5 * time.Millisecond, MaxBackoff: 50 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	must(t, tcc.Register(orch, s.stock))
	s.orch = orch
	ended := make(chan error, 1)
	running := context.WithoutCancel(t.Context())
	go func() { ended <- orch.Run(running) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := orch.Stop(ctx); err != nil {
			t.Error(err)
		}
		<-ended
	})
	return s
}

// begin locks in an open transaction.
func (s *shop) begin(lock stock.Lock) *tcc.Transaction {
	s.t.Helper()
	tx, err := tcc.Begin(s.t.Context(), s.orch, newGID())
	must(s.t, err)
	must(s.t, tx.Try(s.t.Context(), lock))
	return tx
}

// holds checks an article: available, locked, sold.
func (s *shop) holds(sku string, available, locked, sold int64) {
	s.t.Helper()
	level, err := s.stock.Get(s.t.Context(), sku)
	must(s.t, err)
	if want := (stock.Level{SKU: sku, Available: available, Locked: locked, Sold: sold}); level != want {
		s.t.Errorf("the stock is %+v, want %+v", level, want)
	}
}

// lock asks for a quantity of one article, then of the next.
func lock(items ...any) stock.Lock {
	var l stock.Lock
	for i := 0; i < len(items); i += 2 {
		l.Items = append(l.Items, stock.Item{SKU: items[i].(string), Quantity: int64(items[i+1].(int))})
	}
	return l
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually polls a condition: the end of something that other goroutines and
// the database do is not to be had otherwise from outside.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	until(t, what, 10*time.Millisecond, condition)
}

// until polls every so often.
func until(t testing.TB, what string, every time.Duration, condition func() bool) {
	t.Helper()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	limit := time.After(20 * time.Second)
	for !condition() {
		select {
		case <-ticker.C:
		case <-limit:
			t.Fatalf("never came: %s", what)
		}
	}
}

var gids atomic.Int64

func newGID() string { return fmt.Sprintf("t-%d", gids.Add(1)) }
