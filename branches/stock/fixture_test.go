package stock_test

import (
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/tcc"
)

// shop is a stock and an engine that locks in it.
type shop struct {
	t     testing.TB
	db    *gorm.DB
	stock *stock.Stock
	orch  *embedded.Engine
}

// newShop puts the articles into the stock of db and runs an engine until
// the test ends.
func newShop(t testing.TB, db *gorm.DB, articles map[string]int64, options ...stock.Option) *shop {
	t.Helper()
	s := &shop{t: t, db: db, stock: stock.New(db, options...)}
	for sku, pieces := range articles {
		sagatest.Must(t, s.stock.Put(t.Context(), sku, pieces))
	}
	s.orch = sagatest.Open(t, db, embedded.Config{})
	sagatest.Must(t, tcc.Register(s.orch, s.stock))
	sagatest.Run(t, s.orch)
	return s
}

// begin locks in an open transaction.
func (s *shop) begin(lock stock.Lock) *tcc.Transaction {
	s.t.Helper()
	tx, err := tcc.Begin(s.t.Context(), s.orch, sagatest.GID())
	sagatest.Must(s.t, err)
	sagatest.Must(s.t, tx.Try(s.t.Context(), lock))
	return tx
}

// holds checks an article: available, locked, sold.
func (s *shop) holds(sku string, available, locked, sold int64) {
	s.t.Helper()
	level, err := s.stock.Get(s.t.Context(), sku)
	sagatest.Must(s.t, err)
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
